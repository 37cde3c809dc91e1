"""Damaged, foreign and hostile catalogs each end in one line, and are left as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.damaged_libraries import base as base
from support.damaged_libraries import folder as folder
from support.damaged_libraries import index, query, refused, status
from support.damaged_libraries import no_hang as no_hang

import mmsearch
from mmsearch import LibraryError
from mmsearch.catalog import checking
from mmsearch.catalog.checking import find_faults
from mmsearch.folder import CATALOG


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_an_empty_catalog_is_no_library_and_is_left_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / CATALOG).write_bytes(b"")
    monkeypatch.setattr(mmsearch.model_views, "load_profile", None)  # no model is chosen
    refused(folder, "is empty; run 'mmsearch doctor --repair', restore a copy of it")
    assert (folder / CATALOG).read_bytes() == b""


def test_a_database_without_tables_is_no_library(folder: Path) -> None:
    (folder / CATALOG).unlink()
    change(folder, "PRAGMA journal_mode = WAL", "VACUUM")
    before = (folder / CATALOG).read_bytes()
    refused(folder, "holds no tables; run 'mmsearch doctor --repair', restore a copy")
    assert (folder / CATALOG).read_bytes() == before


LOOP = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS path FROM n)"
ODD_SCHEMAS = {
    "a view in place of a table": ["DROP TABLE run", f"CREATE VIEW run AS SELECT * FROM {LOOP}"],
    "a view that loops": ["DROP TABLE media", f"CREATE VIEW media AS SELECT * FROM {LOOP}"],
    "one more view": ["CREATE VIEW more AS SELECT * FROM media"],
    "a trigger": ["CREATE TRIGGER more AFTER DELETE ON media BEGIN DELETE FROM content; END"],
    "one more table": ["CREATE TABLE more (id INTEGER)"],
    "a virtual table": ["CREATE VIRTUAL TABLE more USING fts5(words)"],
    "a table less": ["DROP TABLE failure"],
    "a column more": ["ALTER TABLE media ADD COLUMN more TEXT"],
    "a column less": ["ALTER TABLE segment DROP COLUMN silent"],
    "a generated column": ["ALTER TABLE run DROP COLUMN report", "ALTER TABLE run ADD COLUMN report TEXT AS (started)"],
    "a column that may be null": ["DROP TABLE setting", "CREATE TABLE setting (key VARCHAR PRIMARY KEY, value TEXT)"],
    "an index less": ["DROP INDEX embedding_by_view"],
    "another index": ["DROP INDEX embedding_by_view", "CREATE INDEX embedding_by_view ON embedding (abs(draw))"],
    "a negative version": ["PRAGMA user_version = -5"],
    "version nought": ["PRAGMA user_version = 0"],
    "an older version than its tables": ["PRAGMA user_version = 1"],
    "another program's": [f"DROP TABLE {name}" for name in ("embedding", "segment", "media", "embedded", "content")],
}


@pytest.mark.parametrize("name", sorted(ODD_SCHEMAS))
def test_a_catalog_of_other_tables_is_one_line_and_is_left_as_it_is(folder: Path, name: str) -> None:
    change(folder, *ODD_SCHEMAS[name])
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        before = list(connection.iterdump())
    refused(folder, r"catalog\.sqlite")
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        assert list(connection.iterdump()) == before


def test_another_programs_database_is_left_as_it_is(folder: Path) -> None:
    (folder / CATALOG).unlink()
    change(folder, "CREATE TABLE media (name TEXT)", "INSERT INTO media VALUES ('mine')", "PRAGMA user_version = 2")
    before = (folder / CATALOG).read_bytes()
    refused(folder, "isn't a catalog of mmsearch")
    assert (folder / CATALOG).read_bytes() == before


def test_a_version_of_the_future_is_said(folder: Path) -> None:
    change(folder, f"PRAGMA user_version = {2**31 - 1}")
    refused(folder, "written by a newer mmsearch")


@pytest.mark.parametrize("content", [b"\x8f" * 40_000, b"SQLite format 3\0" + b"\x01" * 40_000, b"x"])
def test_a_garbled_or_encrypted_catalog_is_one_line(folder: Path, content: bytes) -> None:
    (folder / CATALOG).write_bytes(content)
    refused(folder, "restore a copy of it")


def test_a_log_of_another_catalog_is_not_read_into_a_new_one(folder: Path) -> None:
    (folder / CATALOG).rename(folder / f"{CATALOG}-wal")
    refused(folder, "belongs to a missing catalog", index)
    assert not (folder / CATALOG).exists()


ODD_ROWS = [
    "UPDATE setting SET value = 'text' WHERE key = 'profile'",
    "UPDATE setting SET value = 77 WHERE key = 'profile'",
    "UPDATE profile SET pins = 'no json'",
    "UPDATE profile SET pins = '{}'",
    "UPDATE profile SET pins = '[1, [2]]'",
    f"UPDATE profile SET pins = '{'[' * 100_000}'",
    "UPDATE profile SET name = x'ff'",
    "UPDATE media SET path = 'text' || id",
    "UPDATE media SET path = id",
    "UPDATE text SET words = x'ff'",
    "UPDATE segment SET start_s = 'now'",
    "UPDATE segment SET end_s = x'00'",
    f"UPDATE text SET words = CAST(zeroblob({65 * 2**20}) AS TEXT) WHERE id < 3",
]


@pytest.mark.parametrize("statement", ODD_ROWS, ids=lambda statement: statement[:50])
def test_rows_that_mmsearch_never_writes_are_one_line(folder: Path, statement: str) -> None:
    change(folder, statement)
    with pytest.raises((LibraryError, mmsearch.ModelError)) as caught:
        query(folder, 500)  # the words of every hit are read
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["content SET modality", "embedding SET view", "embedding SET vector"])
def test_rows_that_can_be_left_out_cost_no_answer_but_their_own(folder: Path, column: str) -> None:
    change(folder, f"UPDATE {column} = 'smell' WHERE id = 1")
    query(folder)


def test_failures_of_unknown_stages_are_one_line(folder: Path) -> None:
    change(folder, "INSERT INTO failure (path, stage, reason, stamp, version) VALUES (x'2f', 'smell', 'r', 's', 'v')")
    refused(folder, "a row that mmsearch didn't write", status)


@pytest.mark.parametrize("value", ["x", "", "99999999999999999999"])
def test_a_change_of_model_that_is_damaged_is_called_off_by_the_next_run(folder: Path, value: str) -> None:
    change(folder, f"INSERT INTO setting (key, value) VALUES ('change', '{value}')")
    index(folder)
    assert status(folder).changing_to is None
    assert query(folder)


def test_vectors_of_megabytes_are_not_read_to_be_found_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(folder, "UPDATE embedding SET vector = zeroblob(3000000) WHERE id <= 3")
    read: list[int] = []
    find = checking._sound

    def watch(rows: list[dict[str, Any]], dims: dict[int, int]) -> list[bool]:
        read.extend(len(row["vector"] or b"") for row in rows)
        return find(rows, dims)

    monkeypatch.setattr(checking, "_sound", watch)
    assert len(find_faults(folder / CATALOG).contents) >= 2
    assert max(read) < 1_000
