"""One folder of broken and odd files among good ones, indexed by the real thing: nothing bad spoils anything good."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.hostile_folder import GOOD, Hostile, make
from support.media_maker import encoded, put, quarters

import mmsearch
from mmsearch import Failure, IndexReport, Library, Modality, Settings, Stage
from mmsearch.catalog import Catalog
from mmsearch.media import EXTENSIONS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names, pipes and sockets as POSIX systems have them")
SETTINGS = Settings(workers=2)


@dataclass(frozen=True, slots=True)
class Indexed:
    """A library that has seen the folder once."""

    hostile: Hostile
    library: Library
    report: IndexReport


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return make(tmp_path_factory.mktemp("hostile") / "folder")


@pytest.fixture(scope="module")
def indexed(hostile: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    with mmsearch.open(tmp_path_factory.mktemp("library") / "lib", model="hashing", settings=SETTINGS) as library:
        yield Indexed(hostile, library, library.index(hostile.folder))


def names(hostile: Hostile, failures: Sequence[Failure]) -> set[str]:
    return {os.path.relpath(failure.path, hostile.folder) for failure in failures}


def test_the_folder_holds_more_than_a_hundred_broken_files(hostile: Hostile) -> None:
    assert len(hostile.broken | hostile.captions) > 100


def test_exactly_the_broken_files_are_failures(indexed: Indexed) -> None:
    hostile, failures = indexed.hostile, indexed.library.failures()
    failed = names(hostile, failures)
    assert sorted(failed - hostile.broken - hostile.captions) == []
    assert sorted((hostile.broken | hostile.captions) - failed) == []
    assert len(failures) == len(failed)
    assert set(indexed.report.failures) == set(failures)
    assert indexed.report.failed == len(failures)


def test_every_reason_is_one_short_line_for_people(indexed: Indexed) -> None:
    for failure in indexed.library.failures():
        assert failure.reason.isprintable(), failure
        assert 5 < len(failure.reason) < 260, failure
        assert not re.search(r"Traceback|Error\b|0x[0-9a-f]{6}|crashed|^can't be decoded", failure.reason), failure


def test_the_reason_names_what_is_wrong(indexed: Indexed) -> None:
    reasons = {os.path.relpath(f.path, indexed.hostile.folder): f.reason for f in indexed.library.failures()}
    for name, words in {
        "bombs/header.png": "100000 x 100000 pixels",
        "bombs/header.gif": "65535 x 65535 pixels",
        "bombs/16000.png": "16000 x 16000 pixels",
        "empty/jpg.jpg": "empty",
        "blank/txt.txt": "no words",
        "zeros/txt.txt": "binary",
        "captions/invalid-json.json": "JSON",
        "liars/clip.png": "no sound or video",
        "liars/sound.jpg": "no sound or video",
        "truncated/png-40.png": "truncated",
        "odd/dangling.jpg": "leads nowhere",
    }.items():
        assert words in reasons[name], name


def test_exactly_what_can_be_read_is_in_the_library(indexed: Indexed) -> None:
    hostile = indexed.hostile
    with closing(Catalog(indexed.library.folder / "catalog.sqlite", create=False)) as catalog:
        rows = catalog.media_under(os.fsencode(hostile.folder))
        held = [os.path.relpath(os.fsdecode(row.path), hostile.folder) for row in rows]
    assert sorted(held) == sorted({*GOOD, *hostile.readable})
    assert indexed.report.added == len(held)
    assert not set(held) & hostile.ignored


@pytest.mark.parametrize("name", GOOD)
def test_everything_good_is_found_first(indexed: Indexed, name: str) -> None:
    path = indexed.hostile.path(name)
    hits = indexed.library.query(GOOD[name], k=3, modalities={EXTENSIONS[path.suffix[1:]]})
    assert hits[0].path == path


def test_a_picture_with_a_broken_caption_is_still_found(indexed: Indexed) -> None:
    path = indexed.hostile.path("captions/bomb-json.png")
    assert indexed.library.query(path, k=1)[0].path == path


def test_a_file_that_holds_another_kind_is_what_it_holds(indexed: Indexed) -> None:
    path = indexed.hostile.path("liars/picture.txt")
    hits = indexed.library.query(path, k=1)
    assert (hits[0].path, hits[0].modality) == (path, Modality.IMAGE)


def test_a_huge_line_is_found_by_its_words(indexed: Indexed) -> None:
    hits = indexed.library.query("many words many words", k=1, modalities={"text"})
    assert hits[0].path == indexed.hostile.path("texts/one-line.txt")


def test_a_second_run_finds_nothing_to_do_and_tries_nothing_again(indexed: Indexed) -> None:
    before = indexed.library.failures()
    report = indexed.library.index(indexed.hostile.folder)
    assert (report.added, report.updated, report.reused, report.removed) == (0, 0, 0, 0)
    # Only what can't even be looked at is noticed anew: that costs nothing.
    assert {failure.stage for failure in report.failures} == {Stage.SCAN}
    assert names(indexed.hostile, report.failures) == {"odd/dangling.jpg", "odd/self.jpg", "odd/long.png"}
    assert indexed.library.failures() == before


@pytest.fixture(scope="module")
def retried(indexed: Indexed) -> tuple[IndexReport, list[Failure]]:
    before = indexed.library.failures()
    return indexed.library.index(indexed.hostile.folder, retry=True), before


def test_retry_tries_every_broken_file_again(indexed: Indexed, retried: tuple[IndexReport, list[Failure]]) -> None:
    report, before = retried
    assert sorted(indexed.hostile.broken - names(indexed.hostile, report.failures)) == []
    assert (report.added, report.removed) == (0, 0)
    assert indexed.library.failures() == before


def test_retry_tries_broken_captions_again(indexed: Indexed, retried: tuple[IndexReport, list[Failure]]) -> None:
    report, _ = retried
    assert sorted(indexed.hostile.captions - names(indexed.hostile, report.failures)) == []


def mmsearch_cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmsearch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)


def test_the_command_line_exits_0_and_lists_every_failure(hostile: Hostile, tmp_path: Path) -> None:
    excluded = ("bombs", "truncated")  # the Python run has seen these
    done = mmsearch_cli(
        *("index", hostile.folder, "--library", tmp_path / "lib", "--model", "hashing", "--workers", "2", "--json"),
        *(part for name in excluded for part in ("--exclude", name)),
    )
    assert done.stderr == ""
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    listed = {os.path.relpath(failure["path"], hostile.folder) for failure in report["failures"]}
    expected = {name for name in hostile.broken | hostile.captions if not name.startswith(excluded)}
    assert sorted(listed) == sorted(expected)
    assert report["failed"] == len(report["failures"]) == len(expected)
    assert all(failure["stage"] in {*Stage} and "\n" not in failure["reason"] for failure in report["failures"])


def test_names_of_broken_files_can_not_steer_the_terminal(tmp_path: Path) -> None:
    for name in (b"\x1b[31mred.jpg", b"two\nlines.jpg", b"\xff.jpg", b"\xc2\x9b31m.jpg"):
        put(tmp_path / "folder", name, b"broken")
    done = mmsearch_cli("index", tmp_path / "folder", "--library", tmp_path / "lib", "--model", "hashing")
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert r"\x1b[31mred.jpg" in said
    assert re.search(r"two(\\n| )lines\.jpg", said)
    assert all(line.isprintable() for line in said.splitlines())


def test_a_broken_caption_stays_a_failure_when_its_picture_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    picture = put(folder, "a.png", encoded(quarters(), "PNG"))
    caption = put(folder, "a.json", "{broken")
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=SETTINGS) as library:
        library.index(folder)
        assert [failure.path for failure in library.failures()] == [caption]
        os.utime(picture)
        library.index(folder)
        assert [failure.path for failure in library.failures()] == [caption]
        caption.write_text('{"caption": "mended"}')
        assert library.index(folder).failed == 0
        assert library.failures() == []
        assert library.query("mended", k=1)[0].text == "mended"
