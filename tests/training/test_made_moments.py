"""Moments that are made of photos and sounds of one thing, and of nothing that is held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.training_media import media as media

from mmsearch.errors import UsageError
from mmsearch.training.recipe import Source
from mmsearch.training.sources import called, read_sources
from mmsearch.training.store import prepare
from mmsearch.types import Modality

MOMENTS = Source("moments", name="made", limit=7, things={"car": ("red cars", "tones"), "water": ("lakes", "tones")})


def test_moments_are_made_of_photos_and_sounds_of_one_thing(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples = read_sources([MOMENTS, Source("folders", media)], held=0)
    made = [row for row in examples.rows if row.made_of]
    parts = [[examples.rows[part].path.parent.name for part in row.made_of] for row in made]  # type: ignore
    assert parts == [["red_cars", "tones"], ["lakes", "tones"]] * 3 + [["red_cars", "tones"]]
    assert {examples.tags[row.tag] for row in made} == {"tones"}, "a sound keeps its name"
    assert len({row.made_of for row in made}) > 2, "not the same photo each time"
    again = read_sources([MOMENTS, Source("folders", media)], held=0)
    assert again.rows == examples.rows
    (media / "lakes" / "lakes0.png").write_bytes(b"no picture")
    store = prepare(examples, 16)
    assert "lakes0.png is left out" in caplog.text
    whole = [row for row in made if "lakes0.png" not in {examples.rows[part].path.name for part in row.made_of}]  # type: ignore
    units = [unit for unit in store.units if examples.rows[unit.example].made_of]
    assert [examples.rows[unit.example] for unit in units] == whole
    for unit, row in zip(units, whole, strict=True):
        (shown,), photo = unit.pictures, examples.rows[row.made_of[0]].path.name  # type: ignore
        assert (store.pixels[shown][..., 0].mean() > 100) == photo.startswith("red")
        assert store.wave(unit.sound).any()
    assert store.views.tolist() == [8] * 5, "they are looked at as their own source says"


def test_moments_are_made_of_nothing_that_is_held_out(tmp_path: Path) -> None:
    for folder, suffix in (("cats", "png"), ("mewing", "wav")):
        (tmp_path / folder).mkdir()
        for n in range(20):
            (tmp_path / folder / f"{n}.{suffix}").touch()
    source = Source("moments", limit=100, things={"cat": ("cats", "mewing")})
    examples = read_sources([Source("folders", tmp_path), source], held=3)
    made = [row for row in examples.rows if row.made_of]
    assert len(made) == 100
    assert not any(examples.rows[part].held for row in made for part in row.made_of or ())


def test_what_captions_name_twice_is_shown(media: Path) -> None:
    captions = {
        "lakes0.png": ["Dogs, by a lake", "two dogs bark", "3"],
        "lakes1.png": ["a dog", "4", "a hot-dog stand and a dog's bowl"],
        "lakes2.png": ["a dog", "a dogged man in a doghouse", "ein Hund", "A dog!"],
        "../red_cars/red_cars0.png": ["a dog in a car"],
    }
    lines = [json.dumps({"image": name, "captions": said}) for name, said in captions.items()]
    (media / "lakes" / "captions.jsonl").write_text("\n".join(lines), "utf-8")
    sources = [Source("captions", media / "lakes" / "captions.jsonl"), Source("folders", media, views=1)]
    examples = read_sources(sources, held=0)
    found = called(examples, Modality.IMAGE, ["dog", "Lakes", "tones", "1990"], held=False)
    names = {word: [examples.rows[row].path.name for row in rows] for word, rows in found.items()}  # type: ignore
    assert names["dog"] == ["red_cars0.png", "lakes0.png", "lakes1.png"], "twice the same is once; of one caption, one"
    assert names["Lakes"] == ["lakes0.png", "lakes1.png", "lakes2.png"], "those of the folder"
    assert not names["tones"], "it holds sounds"
    assert not names["1990"]
    assert not any(called(examples, Modality.IMAGE, ["dog"], held=True).values())


def test_a_sound_that_captions_alone_name_is_called_as_the_thing(media: Path) -> None:
    line = json.dumps({"file": "a.wav", "captions": ["a whistle"]})
    (media / "tones" / "captions.jsonl").write_text(line, "utf-8")
    moments = Source("moments", limit=3, things={"kettle": ("whistle", "lakes")})
    sources = [Source("captions", media / "tones" / "captions.jsonl"), Source("folders", media), moments]
    examples = read_sources(sources, held=0)
    assert [examples.tags[row.tag] for row in examples.rows if row.made_of] == ["kettle"] * 3


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("red cars", "whistles"), "'car': no folder to train on is called 'whistles', nor do 2 captions"),
        (("red cars",), "the thing 'car' has no photos, or no sounds"),
        (("tones",), "the thing 'car' has no photos, or no sounds"),
    ],
)
def test_moments_of_nothing_are_an_error(media: Path, folders: tuple[str, ...], said: str) -> None:
    source = Source("moments", limit=3, things={"car": folders})
    with pytest.raises(UsageError, match=said):
        read_sources([Source("folders", media), source], held=0)
