"""The quick set of fault injection: a sample of what `make torture` runs, by a fixed rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import Server, run_all, servers
from fuzz import fuzz
from hostile import twists
from kills import cases, sample
from load import load
from mutants import FORMATS, mutants, seeds, with_ogg_checksums, with_png_checksums
from operations import OPERATIONS
from shim import missing

needs_shim = pytest.mark.skipif(bool(missing()), reason=missing() or "the shim can be built")
KILLS_EACH = 3
"""How many faults of each operation are tried."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with servers(tmp_path_factory.mktemp("faults") / "work", 1) as made:
        yield made


@needs_shim
@pytest.mark.parametrize("operation", [operation.name for operation in OPERATIONS])
def test_a_kill_or_an_error_at_an_io_call_loses_nothing_and_leaves_nothing(
    started: list[Server], operation: str
) -> None:
    trace = started[0].trace(operation)
    assert len(trace) > 20
    results = run_all(started, Server.run, sample(cases(operation, trace), KILLS_EACH), lambda _: None)
    assert any(result.fired for result in results)
    assert [f"{result.case}: {problem}" for result in results for problem in result.problems] == []


@needs_shim
@pytest.mark.parametrize("name", [twist.name for twist in twists()][::27])
def test_a_hostile_library_is_refused_in_one_line_or_answered_rightly(started: list[Server], name: str) -> None:
    assert started[0].fight(name)["problems"] == []


def test_mutants_of_every_format_are_taken_in_or_recorded(tmp_path: Path) -> None:
    fuzzed = fuzz(tmp_path, 3, model="hashing", workers=2, told=lambda _: None)
    assert fuzzed.problems == []
    assert len(fuzzed.mutants) == len(FORMATS) + 1
    assert 0 < fuzzed.kept.total() < fuzzed.mutants.total()


def test_there_are_mutants_of_at_least_22_formats_and_each_differs_from_its_seed() -> None:
    assert len(FORMATS) >= 22
    for kind in FORMATS:
        made = [mutant.content for mutant in mutants(kind, range(20))]
        assert sum(content not in seeds(kind) for content in made) >= 15


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_the_checksums_of_ogg_pages_are_those_that_its_muxer_writes(kind: str) -> None:
    (whole,) = seeds(kind)
    assert with_ogg_checksums(whole) == whole
    at = whole.index(b"OggS") + 22
    assert with_ogg_checksums(whole[:at] + b"\1\2\3\4" + whole[at + 4 :]) == whole


def test_the_checksums_of_png_chunks_are_those_that_pillow_writes() -> None:
    for whole in seeds("png"):
        assert with_png_checksums(whole) == whole


def test_threads_that_ask_while_another_process_writes_get_exact_answers(tmp_path: Path) -> None:
    loaded = load(tmp_path, 3.0, threads=4)
    assert loaded.problems == []
    assert loaded.compared > 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory and open files are read from /proc")
def test_a_library_that_is_asked_often_takes_no_more_memory_or_files(tmp_path: Path) -> None:
    life = Path(__file__).with_name("life.py")
    done = subprocess.run(
        [sys.executable, str(life), str(tmp_path), "100"], capture_output=True, text=True, check=True, env=os.environ
    )
    marks = json.loads(done.stdout)["marks"]
    assert max(used for _, used, _ in marks) - marks[0][1] < 8 * 2**20
    assert len({opened for _, _, opened in marks[1:]}) <= 2
