"""Rot: the doctor finds every kind, an index run what changes an answer, and a repair ends as a clean library does."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import wave
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_maker import COLOURS, plain, put
from rot import ROT, Rot

import mmsearch
from indexer.plan import Task
from indexer.workers import FrontEnds, PreparedContent, PreparedSegment
from mmsearch import Library, Settings
from mmsearch.doctor import examine
from mmsearch.errors import LibraryError, MediaError
from mmsearch.media import DecodeOptions, decode
from mmsearch.spaces import decoding_needs
from mmsearch.types import Failure, Stage

QUERIES = ("red", "green", "note 17", "a low sound")


def make_media(folder: Path) -> None:
    for number, (name, colour) in enumerate(sorted(COLOURS.items()) * 5):
        picture = plain(colour)
        picture.putpixel((number, 0), (number, 1, 2))
        folder.joinpath(f"deep{number % 3}").mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"deep{number % 3}" / f"{name}{number}.png")
    put(folder, "deep0/yellow15.txt", "the yellow one")
    put(folder, "book.txt", "\n\n".join(f"Note {number} of the {number % 7} kinds of words." for number in range(330)))
    put(folder, "broken.png", b"\x89PNG\r\n\x1a\nno picture")
    for name, hz in (("low", 110), ("high", 3_000)):
        wave_of = np.sin(np.arange(25 * 16_000) * 2 * np.pi * hz / 16_000)
        with wave.open(str(folder / f"{name}.wav"), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes((wave_of * 20_000).astype("<i2").tobytes())


def decode_here(
    tasks: Iterable[Task], front_ends: FrontEnds, settings: Settings, _stopped: object
) -> Iterator[tuple[Task, PreparedContent | Failure]]:
    """Decode as the workers do, without the second that starting one takes."""
    options = DecodeOptions(settings.limits, *decoding_needs(front_ends.values()))
    for task in tasks:
        try:
            decoded = decode(task.entry.path, task.entry.sidecars, options, task.from_s)
        except MediaError as error:
            yield task, Failure(Path(os.fsdecode(task.entry.path)), Stage.DECODE, str(error))
            continue
        segments = tuple(
            PreparedSegment(
                segment.start_s,
                segment.end_s,
                segment.text,
                segment.silent,
                {
                    (space, view): tuple(end(payload) for payload in segment.views[view])
                    for (space, view), end in front_ends.items()
                    if view in segment.views
                },
            )
            for segment in decoded.segments
        )
        yield task, PreparedContent(decoded.modality, segments, decoded.failures, decoded.resume_s)


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["indexer.run"], "decode_all", decode_here)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    make_media(folder)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "library"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["indexer.run"], "decode_all", decode_here)
        with mmsearch.open(folder, model="hashing") as library:
            report = library.index(media)
            assert (report.added, report.failed) == (43, 1)
    return folder


@pytest.fixture(scope="module")
def expected(clean: Path) -> dict[str, Any]:
    return state_of(clean)


@pytest.fixture
def library(clean: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clean, tmp_path / "library")


def state_of(folder: Path) -> dict[str, Any]:
    """Return what a library holds and answers, without ids, times of runs and random numbers."""
    tables = {
        "media": "SELECT path, size_bytes, mtime_ns, sidecars, device, hash, c.modality FROM media JOIN content AS c "
        "ON c.id = content_id ORDER BY path",
        "embedded": "SELECT hash, e.profile_id, key, resume_s FROM embedded AS e "
        "JOIN content AS c ON c.id = content_id",
        "embedding": "SELECT c.hash, s.start_s, s.end_s, s.text, s.silent, p.name, p.fingerprint, m.view, m.modality, "
        "m.draw, m.vector FROM embedding AS m JOIN segment AS s ON s.id = segment_id "
        "JOIN space AS p ON p.id = space_id JOIN content AS c ON c.id = content_id",
        "segment": "SELECT c.hash, s.start_s, s.end_s, s.text FROM segment AS s JOIN content AS c ON c.id = content_id",
        "failure": "SELECT path, stage, reason, stamp, version FROM failure",
        "profile": "SELECT id, name, pins, precision FROM profile",
        "space": "SELECT name, fingerprint, dim, profile_id FROM space",
        "setting": "SELECT key, value FROM setting",
        "root": "SELECT path, exclude FROM root",
        "counts": "SELECT (SELECT count(*) FROM content), (SELECT count(*) FROM segment), "
        "(SELECT count(*) FROM embedding)",
    }
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as connection:
        state: dict[str, Any] = {
            name: sorted(connection.execute(query).fetchall(), key=repr) for name, query in tables.items()
        }
    with Library(folder, create=False) as opened:
        for query in QUERIES:
            answer = opened.query(query, k=8, rerank=False)
            state[query] = [(hit.path, round(hit.score, 3), round(hit.confidence or 0, 2), hit.text) for hit in answer]
    return state


def examined(folder: Path, *, repair: bool = False) -> list[mmsearch.Check]:
    return examine(folder, lambda: Library(folder, create=False), repair=repair)


def test_there_are_more_than_36_kinds_of_rot() -> None:
    names = [rot.name for rot in ROT]
    assert len(names) == len(set(names)) > 36


def test_a_clean_library_passes_every_check(library: Path) -> None:
    before = {file: file.read_bytes() for file in library.rglob("*") if file.is_file()}
    checks = examined(library)
    assert [check for check in checks if not check.ok or check.repaired] == []
    assert {file: file.read_bytes() for file in library.rglob("*") if file.is_file()} == before
    assert len({check.check for check in checks}) == len(checks) >= 16


@pytest.mark.parametrize("rot", ROT, ids=lambda rot: rot.name)
def test_the_doctor_finds_rot_and_a_repair_ends_as_a_clean_library(
    rot: Rot, library: Path, expected: dict[str, Any]
) -> None:
    rot.damage(library)
    found = {check.check for check in examined(library) if not check.ok}
    assert found, "the doctor sees nothing"
    repaired = examined(library, repair=True)
    assert [check for check in repaired if not check.ok] == []
    assert any(check.repaired for check in repaired)
    assert [check for check in examined(library) if not check.ok] == []
    assert state_of(library) == expected


@pytest.mark.parametrize("rot", [rot for rot in ROT if rot.answers], ids=lambda rot: rot.name)
def test_an_index_run_finds_what_changes_an_answer(
    rot: Rot, library: Path, media: Path, expected: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rot.damage(library)
    with caplog.at_level(logging.WARNING, "mmsearch"):
        try:
            with Library(library, create=False) as opened:
                opened.index(media)
        except LibraryError as error:
            assert "mmsearch doctor --repair" in str(error)
            return
    assert state_of(library) == expected
