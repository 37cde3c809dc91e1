"""A library in an old model that changes to a new one: its media, its answers, and what is counted of both."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import soundfile
from PIL import Image, ImageDraw

import mmsearch
from indexer.executors.base import Outcome
from indexer.executors.encode import Decoded, encode
from mmsearch import IndexReport, Library, Progress, Settings, View
from mmsearch.folder import CATALOG
from mmsearch.spaces import Profile
from support.clip_maker import wave

COLOURS = ["red", "green", "blue", "yellow", "orange", "purple"]
ENCODE = "indexer.executors.local.encode"
OLD, NEW = "hashing", "mini"
BATCHES = Settings(workers=1, batch=4)
Answers = list[list[tuple[float, Path, View, float | None, float | None, str | None, str]]]


def paint(file: Path, colour: str, mark: int = 0) -> Path:
    picture = Image.new("RGB", (64, 48), colour)
    ImageDraw.Draw(picture).rectangle((mark, 0, mark + 4, 6), fill="white")
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    return file


def fill(folder: Path) -> Path:
    """Make photos, some with captions, notes that both models cut differently, and a sound in two windows."""
    for number, colour in enumerate(COLOURS):
        paint(folder / "photos" / f"{colour}.png", colour)
        (folder / "notes").mkdir(parents=True, exist_ok=True)
        sentences = [f"The {colour} balloon number {at} flies over mountain and river." for at in range(4 * number)]
        (folder / "notes" / f"{colour}.txt").write_text(f"A note about {colour}.\n\n{' '.join(sentences)}")
    (folder / "photos" / "blue.txt").write_text("a lighthouse by the sea")
    soundfile.write(folder / "tone.wav", wave([(120.0, 8.0), (3000.0, 8.0)], 8_000), 8_000)
    return folder


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("pattern") / "media")


@pytest.fixture
def media(pattern: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pattern, tmp_path / "media"))


@pytest.fixture
def library(tmp_path: Path, media: Path) -> Iterator[Library]:
    """Holds everything in the old model, in small batches."""
    with mmsearch.open(tmp_path / "library", model=OLD, settings=BATCHES) as made:
        made.index(media)
        yield made


def answers(library: Library) -> Answers:
    """Return everything that hits say, for questions that reach every file of the library."""
    found = []
    for question in ("red", "a balloon over the river", "lighthouse", "low", "note about purple"):
        hits = library.query(question, k=100)
        found.append([(round(h.score, 3), h.path, h.view, h.start_s, h.end_s, h.text, h.space) for h in hits])
    return found


def answered_by(library: Library) -> set[str]:
    return {hit[-1] for hits in answers(library) for hit in hits}


def fresh(folder: Path, model: str, *paths: Path) -> Answers:
    """Return what a library answers that was made with a model from the beginning."""
    with mmsearch.open(folder, model=model) as made:
        made.index(*paths)
        return answers(made)


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    return report.added, report.updated, report.reused, report.removed, report.failed


def counted(folder: Path, statement: str) -> int:
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        return int(connection.execute(statement).fetchone()[0])


def assert_nothing_stands_twice(folder: Path) -> None:
    """Every (profile, content, moment, text) has one segment, of a profile and a space that there are."""
    said = "(SELECT group_concat(words) FROM text WHERE segment_id = segment.id)"
    twice = f"profile_id || ' ' || content_id || ' ' || coalesce(start_s, '') || ' ' || coalesce({said}, '')"
    assert counted(folder, f"SELECT count(*) - count(DISTINCT {twice}) FROM segment") == 0
    mixed = "SELECT count(*) FROM embedding JOIN segment ON segment.id = segment_id JOIN space ON space.id = space_id "
    assert counted(folder, mixed + "WHERE segment.profile_id != space.profile_id") == 0
    lost = "SELECT count(*) FROM segment WHERE profile_id NOT IN (SELECT id FROM profile)"
    assert counted(folder, lost) == 0


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The model and the number of contents of every batch that is encoded."""
    seen: list[tuple[str, int]] = []

    def watch(profile: Profile, decoded: Sequence[Decoded]) -> list[Outcome]:
        if decoded:
            seen.append((profile.name, len(decoded)))
        return encode(profile, decoded)

    monkeypatch.setattr(ENCODE, watch)
    return seen


def stop_after(batches: int, stop: threading.Event) -> Callable[[Progress], None]:
    calls: list[int] = []

    def note(state: Progress) -> None:
        calls.append(1)
        if len(calls) > batches and state.done < state.total:  # the first call is before any batch
            stop.set()

    return note
