"""Libraries of painted colours and short notes in the space `hashing`, which knows words and colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import mmsearch
from mmsearch import Answer, Hit, Library, Settings
from mmsearch.search.query import make_query

ONE_WORKER = Settings(workers=1)
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (20, 40, 220), "yellow": (240, 230, 40)}
COLOURS |= {"orange": (250, 140, 20), "purple": (130, 30, 140), "brown": (110, 70, 30), "grey": (128, 128, 128)}


def draw(file: Path, colour: str, second: str | None = None, share: float = 0.5) -> Path:
    """A picture of one colour, or with the lower `share` of it in a second one."""
    image = Image.new("RGB", (64, 64), COLOURS[colour])
    if second is not None:
        ImageDraw.Draw(image).rectangle((0, round(64 * (1 - share)), 63, 63), fill=COLOURS[second])
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return file


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def make_media(folder: Path) -> Path:
    for colour in ("red", "green", "blue", "yellow"):
        draw(folder / "photos" / f"{colour}.png", colour)
    draw(folder / "photos" / "flag.png", "red", "blue")
    draw(folder / "photos" / "fruit.png", "orange", "yellow", 0.25)
    draw(folder / "photos" / "lake.png", "grey", "blue", 0.25)
    write(folder / "photos" / "lake.txt", "a quiet lake at dawn")
    draw(folder / "photos" / "wall.png", "brown", "grey", 0.375)
    write(folder / "photos" / "wall.txt", "an old brown wall")
    write(folder / "notes" / "shopping.md", "milk bread butter and two lemons")
    write(folder / "notes" / "meeting.txt", "the meeting about money is on friday")
    write(
        folder / "notes" / "diary.md",
        "We walked along the river until noon.\n\nIn the evening a violin played beside the harbour.\n\n"
        + "\n\n".join(f"On day {day} nothing of note happened in house {day}." for day in range(20)),
    )
    write(folder / "notes" / "both.md", "Red red red red.\n\nBlue blue blue blue.")
    write(folder / "notes" / "mixed.md", "red blue")
    return folder


MEDIA = 13


@contextmanager
def library_of(folder: Path, *media: Path) -> Iterator[Library]:
    with mmsearch.open(folder, model="hashing", settings=ONE_WORKER) as library:
        if media:
            report = library.index(*media)
            assert report.failed == 0
        yield library


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[Library]:
    with library_of(tmp_path_factory.mktemp("library"), media) as library:
        yield library


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """More contents than are re-ranked: captioned photos whose captions suit them or don't, and notes."""
    folder = tmp_path_factory.mktemp("crowd")
    names = list(COLOURS)
    for at in range(64):
        colour, second = names[at % 8], names[at // 8]
        draw(folder / f"{at:03d}.png", colour, second, 0.25)
        if at % 3:
            write(folder / f"{at:03d}.txt", f"{colour if at % 3 == 1 else names[(at + 5) % 8]} thing number {at}")
    for at in range(64, 130):
        write(folder / f"{at:03d}.md", f"{names[at % 8]} note {at} {names[at * 3 % 8]}")
    with library_of(tmp_path_factory.mktemp("crowd library"), folder) as library:
        yield library


def found(hits: Sequence[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


def assert_in_order(hits: Sequence[Hit]) -> None:
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    scores = [hit.score for hit in hits]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)


def cut(library: Library, item: str, k: int = 10, modalities: Sequence[str] = ()) -> Answer:
    return library.answer(make_query(item, k, modalities, cut=True))
