"""Contract of executors: every one turns the same tasks into the same outcomes, and a run into the same catalog."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.clip_maker import wave
from support.media_maker import BLUE, GREEN, RED, encoded, plain, put

import mmsearch
from indexer.changes import look_at
from indexer.executors.base import EncodedContent, Executor, MakeExecutor, Model, Outcome
from indexer.executors.inline import InlineExecutor
from indexer.executors.local import LocalExecutor
from indexer.plan import Task
from mmsearch import IndexReport, Settings
from mmsearch.folder import CATALOG
from mmsearch.spaces import Prepared, Profile, Vectors, load_profile
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.types import Failure, Stage, View

EXECUTORS = pytest.mark.parametrize("make", [InlineExecutor, LocalExecutor])
SETTINGS = Settings(workers=1, batch=3)
STATE = (
    "SELECT path, size_bytes, mtime_ns, sidecars, device, hash, modality FROM media "
    "JOIN content ON content.id = content_id ORDER BY path",
    "SELECT hash, profile_id, key, resume_s FROM embedded JOIN content ON content.id = content_id ORDER BY hash",
    "SELECT hash, start_s, end_s, silent, view, draw, vector FROM segment "
    "JOIN embedding ON segment_id = segment.id JOIN content ON content.id = content_id ORDER BY hash, draw, view",
    "SELECT path, stage, reason, stamp, version FROM failure ORDER BY path",
)
"""What a catalog holds, without the ids, which depend on the order in which parts of several files come."""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, one with a caption, a copy, a sound of several parts, a note, and files that can't be decoded."""
    folder = tmp_path_factory.mktemp("media")
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        put(folder, f"{name}.png", encoded(plain(colour), "PNG"))
    put(folder, "red.txt", "the red one")
    put(folder, "sub/copy.png", (folder / "green.png").read_bytes())
    put(folder, "note.txt", "\n\n".join(f"Note {number} about a lighthouse." for number in range(30)))
    put(folder, "broken.png", b"\x89PNG\r\n\x1a\n no picture")
    put(folder, "sub/broken.png", b"\x89PNG\r\n\x1a\n no picture")
    soundfile.write(folder / "long.flac", wave([(120.0, 150.0), (1000.0, 150.0)], 8_000), 8_000)
    return folder


@contextmanager
def running(make: MakeExecutor, stopped: Callable[[], bool] = lambda: False) -> Iterator[Executor]:
    profile = load_profile("hashing")
    with closing(make(Model(profile, lambda: profile), SETTINGS, stopped)) as executor:
        yield executor


def task_of(file: Path) -> Task:
    entry = look_at(os.fsencode(file), ())
    assert entry is not None
    return Task(entry, os.fsencode(file.name), known_path=False)


def outcomes(executor: Executor, *files: Path) -> list[Outcome]:
    """Submit files as a run does and return what became of them, part by part."""
    found: list[Outcome] = []
    for file in files:
        executor.submit(task_of(file))
        found += [outcome for batch in executor.batches() for outcome in batch]
    return found + [outcome for batch in executor.drain() for outcome in batch]


def rows(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    return report.added, report.updated, report.reused, report.removed, report.failed


def test_a_run_with_any_executor_gives_the_same_catalog(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for make in (InlineExecutor, LocalExecutor):
        monkeypatch.setattr("indexer.executors.make_executor", make)
        with mmsearch.open(tmp_path / make.__name__, model="hashing", settings=SETTINGS) as library:
            assert counts(library.index(media)) == (5, 0, 1, 0, 2)
            assert counts(library.index(media)) == (0, 0, 0, 0, 0)
        states.append([rows(tmp_path / make.__name__ / CATALOG, statement) for statement in STATE])
    assert states[0] == states[1]
    assert all(states[0])


@EXECUTORS
def test_a_content_comes_with_one_unit_vector_for_each_view_of_each_segment(media: Path, make: MakeExecutor) -> None:
    with running(make) as executor:
        ((task, result),) = outcomes(executor, media / "red.png")
    assert task.hash == b"red.png"
    assert isinstance(result, EncodedContent)
    (segment,) = result.segments
    assert set(segment.views) == {("hashing", View.VISUAL)}
    assert np.linalg.norm(segment.views["hashing", View.VISUAL]) == pytest.approx(1.0, abs=1e-5)
    assert result.facts is not None


@EXECUTORS
def test_a_long_content_comes_in_parts_that_follow_each_other(media: Path, make: MakeExecutor) -> None:
    with running(make) as executor:
        parts = [
            (task.from_s, result)
            for task, result in outcomes(executor, media / "long.flac", media / "red.png")
            if task.hash == b"long.flac"
        ]
    assert len(parts) > 2
    assert all(isinstance(result, EncodedContent) for _, result in parts)
    ends = [result.resume_s for _, result in parts if isinstance(result, EncodedContent)]
    assert [from_s for from_s, _ in parts] == [0.0, *ends[:-1]]
    assert ends[-1] is None


@EXECUTORS
def test_a_file_that_cannot_be_decoded_is_a_failure_and_costs_no_other(media: Path, make: MakeExecutor) -> None:
    with running(make) as executor:
        found = dict(outcomes(executor, media / "red.png", media / "broken.png", media / "blue.png"))
    by_name = {task.hash: result for task, result in found.items()}
    failure = by_name[b"broken.png"]
    assert isinstance(failure, Failure)
    assert (failure.path, failure.stage) == (media / "broken.png", Stage.DECODE)
    assert isinstance(by_name[b"red.png"], EncodedContent)
    assert isinstance(by_name[b"blue.png"], EncodedContent)


@EXECUTORS
def test_a_file_that_has_vanished_is_a_failure_to_read(tmp_path: Path, make: MakeExecutor) -> None:
    task = task_of(put(tmp_path, "note.txt", "a note"))
    (tmp_path / "note.txt").unlink()
    with running(make) as executor:
        executor.submit(task)
        ((_, failure),) = [*executor.batches(), *executor.drain()][0]
    assert isinstance(failure, Failure)
    assert failure.stage is Stage.READ


@EXECUTORS
def test_after_a_stop_no_further_part_begins(media: Path, make: MakeExecutor) -> None:
    with running(make, stopped=lambda: True) as executor:
        ((_, result),) = outcomes(executor, media / "long.flac")
    assert isinstance(result, EncodedContent)
    assert result.resume_s is not None


@EXECUTORS
def test_an_executor_without_a_task_readies_nothing(make: MakeExecutor) -> None:
    def never() -> Profile:
        raise AssertionError("the towers were readied")

    with closing(make(Model(load_profile("hashing"), never), SETTINGS, lambda: False)) as executor:
        assert [*executor.batches(), *executor.drain()] == []


@EXECUTORS
def test_a_content_that_no_tower_encodes_is_a_failure_of_encoding(
    media: Path, make: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_profile("hashing").spaces[0]
    monkeypatch.setattr(type(space), "encode", lambda _self, _view, inputs: np.zeros((len(inputs), space.dim), "f4"))
    with running(make) as executor:
        ((_, failure),) = outcomes(executor, media / "red.png")
    assert isinstance(failure, Failure)
    assert failure.stage is Stage.ENCODE


@EXECUTORS
def test_a_later_part_that_no_tower_encodes_leaves_a_gap_and_a_failure(
    media: Path, make: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = HashingSpace.encode, [0]

    def once(self: HashingSpace, view: View, inputs: Sequence[Prepared]) -> Vectors:
        calls[0] += 1
        if calls[0] == 2:
            raise ValueError("out of shape")
        return encode(self, view, inputs)

    monkeypatch.setattr(HashingSpace, "encode", once)
    with running(make) as executor:
        parts = [result for _, result in outcomes(executor, media / "long.flac")]
    first, second = parts[:2]
    assert isinstance(first, EncodedContent)
    assert isinstance(second, EncodedContent)
    assert (bool(first.segments), second.segments) == (True, ())
    assert [failure.stage for failure in second.failures] == [Stage.ENCODE]
    assert second.resume_s is not None


def test_the_local_executor_decodes_in_other_processes(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsearch.sandbox.work.Work.prepare", lambda *_: 1 / 0)
    with running(LocalExecutor) as executor:
        ((_, result),) = outcomes(executor, media / "red.png")
    assert isinstance(result, EncodedContent)
