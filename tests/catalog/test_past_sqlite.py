"""Reading a catalog's bytes takes no lock of SQLite's away: what a process commits, every other one sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

import mmsearch
from mmsearch import Settings
from mmsearch.catalog.past_sqlite import blocks_of


def held_by(run: Run, library: Path) -> int:
    done = run("status", "--json", library=library)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["media"]["text"])


def test_what_a_long_lived_library_commits_is_seen_by_every_process(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(5):
        (notes / f"{number}.txt").write_text(f"note {number}")
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        library.index(notes)
        for left in (4, 3, 2):  # each of these reads all of the catalog, to seal it
            library.forget(notes / f"{left}.txt")
            assert held_by(run, library.folder) == left
    assert held_by(run, tmp_path / "library") == 2


@pytest.mark.parametrize("connected", [True, False])
def test_the_bytes_are_those_of_the_file(tmp_path: Path, connected: bool) -> None:
    library = mmsearch.open(tmp_path / "library", model="hashing")
    if not connected:
        library.close()
    file = tmp_path / "library" / "catalog.sqlite"
    assert b"".join(blocks_of(file)) == b"".join(blocks_of(file))
    library.close()
    assert b"".join(blocks_of(file)) == file.read_bytes()
