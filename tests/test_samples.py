"""The samples are found as a person would expect, in every direction, by the embedded space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mmsearch
from mmsearch import Library


@pytest.fixture(scope="module")
def library(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with mmsearch.open(tmp_path_factory.mktemp("samples") / "library", model="mini") as opened:
        report = opened.index(samples, exclude=["CREDITS.md"])
        assert (report.added, report.failed) == (50, 0)
        yield opened


def names(library: Library, query: str | Path, modality: str, k: int) -> list[str]:
    return [hit.path.name for hit in library.query(query, k=k, modalities={modality})]


@pytest.mark.parametrize(
    ("query", "wanted", "k"),
    [
        ("musicians playing", {"orchestra.jpg", "mariachi.jpg"}, 2),
        ("a bee on a flower", {"bee.jpg"}, 1),
        ("un tigre dans la neige", {"tiger.jpg"}, 1),
        ("Schloss", {"castle.jpg"}, 1),
        ("kočka", {"kitten.jpg", "cat.png"}, 3),
        ("bridge", {"bridge.jpg"}, 1),
        ("rocket launch", {"rocket.jpg"}, 1),
    ],
)
def test_text_finds_images(library: Library, query: str, wanted: set[str], k: int) -> None:
    assert wanted <= set(names(library, query, "image", k))


def test_an_image_finds_images_like_it_after_itself(library: Library, samples: Path) -> None:
    tiger = names(library, samples / "photos" / "tiger.jpg", "image", 3)
    assert tiger[0] == "tiger.jpg"
    assert set(tiger[1:]) == {"cat.png", "kitten.jpg"}


def test_an_image_finds_texts(library: Library, samples: Path) -> None:
    assert names(library, samples / "photos" / "rocket.jpg", "text", 1) == ["launch_diary.txt"]


def test_text_finds_texts_across_languages(library: Library) -> None:
    assert names(library, "hedgehog in the garden", "text", 1) == ["garten_im_mai.txt"]
    assert names(library, "how to make strong coffee", "text", 1) == ["moka_pot.md"]


def test_a_note_finds_images(library: Library, samples: Path) -> None:
    assert names(library, samples / "notes" / "moka_pot.md", "image", 1) == ["coffee.jpg"]
    assert names(library, samples / "notes" / "soiree_concert.txt", "image", 1) == ["orchestra.jpg"]


def test_captions_inside_and_beside_photos_are_found_as_text(library: Library) -> None:
    by_exif, by_json = (
        library.query(words, k=1)[0] for words in ("Wikipedia birthday in Guadalajara", "Arizona canyon")
    )
    assert (by_exif.path.name, by_exif.view) == ("mariachi.jpg", "text")
    assert (by_json.path.name, by_json.view) == ("canyon.jpg", "text")


def test_every_sample_stands_in_the_credits(samples: Path) -> None:
    credits = (samples / "CREDITS.md").read_text("utf-8")
    files = [file for file in samples.rglob("*") if file.is_file() and file.name != "CREDITS.md"]
    assert 30 <= len({file.with_suffix("") for file in files}) <= 60
    assert sum(file.stat().st_size for file in files) < 8 * 2**20
    assert [file.name for file in files if file.stem not in credits] == []
