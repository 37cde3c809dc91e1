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
        assert (report.added, report.failed) == (66, 0)
        yield opened


def names(library: Library, query: str | Path, modality: str, k: int) -> list[str]:
    return [hit.path.name for hit in library.query(query, k=k, modalities={modality})]


@pytest.mark.parametrize(
    ("query", "wanted", "k"),
    [
        ("musicians at a concert", {"orchestra.jpg", "mariachi.jpg"}, 2),
        ("a bee on a flower", {"bee.jpg"}, 1),
        ("un tigre dans la neige", {"tiger.jpg"}, 1),
        ("Schloss", {"castle.jpg"}, 1),
        ("Katze", {"kitten.jpg", "cat.png"}, 3),
        ("most přes řeku", {"bridge.jpg"}, 1),
        ("bridge", {"bridge.jpg"}, 1),
        ("rocket launch", {"rocket.jpg"}, 1),
    ],
)
def test_text_finds_images(library: Library, query: str, wanted: set[str], k: int) -> None:
    assert wanted <= set(names(library, query, "image", k))


def test_an_image_finds_images_like_it_after_itself(library: Library, samples: Path) -> None:
    assert names(library, samples / "photos" / "tiger.jpg", "image", 2) == ["tiger.jpg", "cat.png"]
    sheep = names(library, samples / "photos" / "sheep.jpg", "image", 4)
    assert sheep[0] == "sheep.jpg"
    assert set(sheep[1:]) == {"cow.jpg", "horses.jpg", "moose.jpg"}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("rain", "rain.ogg"),
        ("Sirene", "siren.mp3"),
        ("clock ticking", "clock.flac"),
        ("engine idling", "engine.m4a"),
        ("people talking", "babble.opus"),
        ("a dog barking", "dog.ogg"),
    ],
)
def test_text_finds_sounds(library: Library, query: str, wanted: str) -> None:
    assert names(library, query, "audio", 1) == [wanted]


@pytest.mark.parametrize(
    ("query", "wanted", "moment"),
    [
        ("a rooster", "animals.mp4", (5.0, 9.2)),  # heard
        ("a beach", "holiday.mp4", (5.0, 11.4)),  # seen
        ("an ambulance on its way across the river", "city.mkv", (5.0, 10.4)),  # written in a track of the file
        ("blue planet", "launch.mp4", (10.0, 14.0)),  # written beside it
        (Path("sounds/siren.mp3"), "city.mkv", (5.0, 10.4)),
        (Path("sounds/waves.ogg"), "holiday.mp4", (5.0, 11.4)),
        (Path("photos/tiger.jpg"), "animals.mp4", (0.0, 5.0)),
        (Path("photos/rocket.jpg"), "launch.mp4", (0.0, 5.0)),
    ],
)
def test_words_sounds_and_pictures_find_the_moment_of_a_video(
    library: Library, samples: Path, query: str | Path, wanted: str, moment: tuple[float, float]
) -> None:
    (hit,) = library.query(query if isinstance(query, str) else samples / query, k=1, modalities={"video"})
    assert hit.path.name == wanted
    assert (hit.start_s, hit.end_s) == pytest.approx(moment, abs=0.5)


@pytest.mark.parametrize(
    ("clip", "wanted"),
    [("concert.webm", {"mariachi.jpg", "orchestra.jpg"}), ("animals.mp4", {"sheep.jpg", "hens.jpg", "tiger.jpg"})],
)
def test_a_video_finds_images_of_what_it_shows(library: Library, samples: Path, clip: str, wanted: set[str]) -> None:
    assert set(names(library, samples / "clips" / clip, "image", len(wanted))) == wanted


def test_a_video_finds_sounds_by_what_is_heard_in_it(library: Library, samples: Path) -> None:
    assert "music.m4a" in names(library, samples / "clips" / "concert.webm", "audio", 2)


def test_a_silent_scene_is_not_found_by_a_sound(library: Library) -> None:
    moments = [(hit.path.name, hit.view, hit.start_s) for hit in library.query("dog barking", modalities={"video"})]
    assert ("launch.mp4", "audio", 10.0) not in moments


def test_an_image_finds_texts(library: Library, samples: Path) -> None:
    assert names(library, samples / "photos" / "rocket.jpg", "text", 1) == ["launch_diary.txt"]


def test_text_finds_texts_across_languages(library: Library) -> None:
    assert names(library, "hedgehog in the garden", "text", 1) == ["garten_im_mai.txt"]
    assert names(library, "how to make strong coffee", "text", 1) == ["moka_pot.md"]


def test_a_note_finds_images(library: Library, samples: Path) -> None:
    assert names(library, samples / "notes" / "moka_pot.md", "image", 1) == ["coffee.jpg"]
    assert names(library, samples / "notes" / "launch_diary.txt", "image", 1) == ["rocket.jpg"]


def test_captions_inside_and_beside_photos_are_found_as_text(library: Library) -> None:
    by_exif, by_json = (
        library.query(words, k=1)[0] for words in ("Wikipedia birthday in Guadalajara", "Arizona canyon")
    )
    assert (by_exif.path.name, by_exif.view) == ("mariachi.jpg", "text")
    assert (by_json.path.name, by_json.view) == ("canyon.jpg", "text")


def test_every_sample_stands_in_the_credits(samples: Path) -> None:
    credits = (samples / "CREDITS.md").read_text("utf-8")
    files = [file for file in samples.rglob("*") if file.is_file() and file.name != "CREDITS.md"]
    assert 30 <= len({file.with_suffix("") for file in files}) <= 80
    assert sum(file.stat().st_size for file in files) < 8 * 2**20
    assert [file.name for file in files if file.stem not in credits] == []
