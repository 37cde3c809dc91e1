"""The catalog's file in SQLite: how it is set up, brought up to date from older versions, and refused when damaged."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from support.catalogs import DIM, named, photo, vector
from support.old_catalogs import downgrade, shape

from mmsearch.catalog import Catalog, NewContent, ProfileRow, schema
from mmsearch.errors import CatalogError
from mmsearch.records import Segment
from mmsearch.types import Modality, View


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.sqlite"
    held = Catalog(file, create=True)
    held.add_space("mini", "f1", DIM)
    for at in range(20):
        photo(held, f"/{at}.jpg", at)
    held.close()
    return file


def asked(file: Path, *statements: str) -> list[object]:
    connection = sqlite3.connect(file)
    try:
        with connection:
            return [connection.execute(statement).fetchone() for statement in statements]
    finally:
        connection.close()


def test_the_file_is_set_up_for_vectors_and_for_readers_beside_a_writer(file: Path) -> None:
    assert asked(file, "PRAGMA page_size", "PRAGMA journal_mode", "PRAGMA user_version") == [
        (16384,),
        ("wal",),
        (schema.SCHEMA_VERSION,),
    ]
    for table in ("space", "content", "media", "segment", "embedding", "failure", "run"):
        (row,) = asked(file, f"SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'")
        assert isinstance(row, tuple)
        assert "AUTOINCREMENT" in row[0]


def test_a_newer_schema_is_refused_in_one_sentence(file: Path) -> None:
    newer = schema.SCHEMA_VERSION + 1
    asked(file, f"PRAGMA user_version = {newer}")
    with pytest.raises(CatalogError, match=rf"newer mmsearch \(schema {newer}\); upgrade mmsearch") as caught:
        Catalog(file)
    assert "\n" not in str(caught.value)
    asked(file, f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
    again = Catalog(file)
    assert len(list(again.media_under(b"/"))) == 20
    again.close()


def test_a_catalog_of_version_1_is_brought_up_to_date_and_keeps_what_it_holds(file: Path) -> None:
    downgrade(file, 1)
    again = Catalog(file)
    rows = list(again.media_under(b"/"))
    assert len(rows) == 20
    assert {row.resume_s for row in rows} == {None}
    found = again.segment_rows(s for row in rows for s in again.segment_ids(row.content_id))
    assert {row.silent for row in found.values()} == {False}
    again.close()
    assert asked(file, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_older_catalog_gets_the_shape_of_a_new_one(file: Path, tmp_path: Path, version: int) -> None:
    Catalog(tmp_path / "new.sqlite", create=True).close()
    downgrade(file, version)
    assert asked(file, "PRAGMA user_version") == [(version,)]
    assert shape(file) != shape(tmp_path / "new.sqlite")
    Catalog(file).close()
    assert shape(file) == shape(tmp_path / "new.sqlite")
    assert asked(file, "PRAGMA integrity_check", "PRAGMA foreign_key_check") == [("ok",), None]


def test_a_catalog_of_version_2_keeps_its_profile_and_its_revision(file: Path) -> None:
    with closing(Catalog(file)) as held:
        held.set_profile("mini", ["mini"])
        part = Segment({(1, View.AUDIO): vector(1)}, 0, 5)
        held.commit([NewContent(b"h", Modality.AUDIO, [part], [named("/a.wav")], 0, 5.0)], "key")
        before = held.revision, list(held.media_under(b"/")), held.embedding_ids(1, View.VISUAL).tolist()
    downgrade(file, 2)
    assert asked(file, "SELECT value FROM setting WHERE key = 'profile'") == [("mini",)]
    with closing(Catalog(file)) as held:
        assert (held.current, held.profile, held.change) == (1, ProfileRow(1, "mini", ("mini",), ""), None)
        assert (held.revision, list(held.media_under(b"/")), held.embedding_ids(1, View.VISUAL).tolist()) == before
        assert held.space_id("mini", "f1", DIM) == 1
        assert (held.count_unfinished(), held.count_outdated("key"), held.count_segments()) == (1, 0, 21)


def test_a_catalog_of_version_2_that_was_never_used_gets_a_profile_later(tmp_path: Path) -> None:
    Catalog(tmp_path / "x.sqlite", create=True).close()
    downgrade(tmp_path / "x.sqlite", 2)
    with closing(Catalog(tmp_path / "x.sqlite")) as held:
        assert held.current is None
        assert held.set_profile("mini", ["mini"]) == 1


def test_a_missing_file_is_an_error_unless_it_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.sqlite is missing"):
        Catalog(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"this is no database" * 2000, b"SQLite format 3\0" + b"\xff" * 50_000])
def test_a_file_that_is_no_database_is_an_error_of_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(content)
    with pytest.raises(CatalogError, match=r"catalog\.sqlite: ") as caught:
        Catalog(tmp_path / "catalog.sqlite", create=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "catalog.sqlite").read_bytes() == content


def test_a_database_damaged_in_its_middle_is_an_error_that_names_it(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[16384:] = os.urandom(len(content) - 16384)  # all but the page with the tables' names
    file.write_bytes(content)
    with pytest.raises(CatalogError, match=r"catalog\.sqlite: .*; ") as caught:
        list(Catalog(file).media_under(b"/"))
    assert "\n" not in str(caught.value)


def test_a_foreign_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    asked(tmp_path / "x.sqlite", "CREATE TABLE media (name TEXT)", "PRAGMA user_version = 1")
    with pytest.raises(CatalogError, match=r"x\.sqlite isn.t a catalog of mmsearch"):
        list(Catalog(tmp_path / "x.sqlite").media_under(b"/"))


def test_a_new_catalog_may_be_opened_by_several_at_once(tmp_path: Path) -> None:
    errors: list[Exception] = []
    start = threading.Barrier(8)

    def open_it() -> None:
        start.wait()
        try:
            Catalog(tmp_path / "catalog.sqlite", create=True).close()
        except CatalogError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
