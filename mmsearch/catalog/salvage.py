"""Builds a new catalog from the readable rows of a damaged file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.checking import open_as_it_is
from mmsearch.catalog.database import Part
from mmsearch.catalog.fulltext import raw_of, rebuild
from mmsearch.catalog.mending import count_tallies
from mmsearch.catalog.migrations import ORIGIN_OF, convert_checksums
from mmsearch.catalog.past_sqlite import blocks_of
from mmsearch.catalog.schema import metadata
from mmsearch.catalog.seal import COPIED, copies_of
from mmsearch.errors import CatalogError
from mmsearch.files import open_new, sync_folder

BEFORE_REPAIR = "catalog.sqlite.before-repair"
"""Name of the copy that is made before a repair; the next repair replaces it."""
_SPARE_BYTES = 2**26
_MAX_STEP = 2**32
"""Maximum distance of row ids, after an unreadable row, in which the next readable one is searched."""


def keep_copy(file: Path) -> Path:
    """Copy a catalog before it is changed; return the copy. Raises `CatalogError` if the disk has no room for it."""
    copy = file.with_name(BEFORE_REPAIR)
    log = file.with_name(f"{file.name}-wal")
    try:
        size = sum(source.stat().st_size for source in (file, log) if source.exists())
        if shutil.disk_usage(file.parent).free < size + _SPARE_BYTES:
            raise CatalogError(
                f"{file.parent} has no room for a copy of the catalog; free {(size + _SPARE_BYTES) / 1e6:,.0f} MB, "
                "then run this again"
            )
        for source, target in ((file, copy), (log, copy.with_name(f"{copy.name}-wal"))):
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            target.unlink(missing_ok=True)
            if source.exists() and source.stat().st_size:
                with open_new(temporary) as opened:
                    for block in blocks_of(source):
                        opened.write(block)
                temporary.replace(target)
    except OSError as error:
        raise CatalogError(f"{copy} can't be written ({error.strerror or error}); nothing was changed") from error
    return copy


def salvage(file: Path) -> int:
    """Replace a damaged catalog by one with its readable rows and the seal's copies; return the number of rows read.

    The caller holds the library's lock, has no connection open, and must index the roots again to recover the rest.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    catalog = Catalog(temporary, create=True)
    try:
        part = Part(catalog._database, 1)
        read = _copy_rows(file, temporary)
        old_texts = _copy_old_texts(file, temporary)
        with part._write(at_once=True) as connection:
            rebuild(raw_of(connection))
            if old_texts is not None:
                convert_checksums(connection)
            copies = copies_of(file)
            for table in COPIED:
                key = next(iter(table.primary_key.columns))
                existing = set(connection.execute(table.select().with_only_columns(key)).scalars())
                if rows := [row for row in copies.get(table.name, []) if row[key.name] not in existing]:
                    connection.execute(table.insert().prefix_with("OR IGNORE"), rows)
            count_tallies(connection)
    finally:
        catalog.close()
    with closing(sqlite3.connect(temporary)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):  # they belong to the old file; SQLite would apply them to the new one
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}{suffix}").unlink(missing_ok=True)
    temporary.replace(file)
    sync_folder(file.parent)
    return read + (old_texts or 0)


def _copy_rows(damaged: Path, new: Path) -> int:
    read = 0
    try:
        source = open_as_it_is(damaged)
    except sqlite3.Error:
        return 0
    with closing(source), closing(sqlite3.connect(new)) as target:
        for table in metadata.sorted_tables:
            if table.name == "tally":
                continue
            names = [column.name for column in table.columns]
            with suppress(sqlite3.Error):
                existing = {row[1] for row in source.execute(f'PRAGMA table_info("{table.name}")')}
                names = [name for name in names if name in existing]
                columns = ", ".join(f'"{name}"' for name in names)
                statement = f'INSERT OR IGNORE INTO "{table.name}" ({columns}) VALUES ({", ".join("?" * len(names))})'
                for _, *row in _readable(source, table.name, columns):
                    with suppress(sqlite3.Error, UnicodeEncodeError):  # the row violates the schema
                        read += target.execute(statement, row).rowcount
            target.commit()
    return read


def _copy_old_texts(damaged: Path, new: Path) -> int | None:
    """Copy the texts of a catalog up to schema 4, which has them in the table of segments.

    Returns their number, None if the catalog is of a newer schema.
    """
    statement = (
        f"INSERT INTO text (segment_id, origin, language, words) SELECT s.id, {ORIGIN_OF}, '', ? "
        "FROM segment AS s LEFT JOIN content AS c ON c.id = s.content_id WHERE s.id = ?"
    )
    read = 0
    with suppress(sqlite3.Error), closing(open_as_it_is(damaged)) as source, closing(sqlite3.connect(new)) as target:
        if "text" not in {row[1] for row in source.execute("PRAGMA table_info(segment)")}:
            return None
        for number, words in _readable(source, "segment", "text"):
            if words is not None:
                with suppress(sqlite3.Error, UnicodeEncodeError):
                    read += target.execute(statement, (words, number)).rowcount
        target.commit()
        return read
    return None


def _readable(connection: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield the id and the columns of the readable rows of a table, by id. Rows on damaged pages are skipped."""
    query = f'SELECT rowid, {columns} FROM "{table}" WHERE rowid > ? ORDER BY rowid'
    last: int = -(2**62)
    step = 0
    while step < _MAX_STEP:
        try:
            for key, *row in connection.execute(query, (last + step,)):
                last, step = key, 0
                yield (key, *row)
        except sqlite3.DatabaseError:
            last = max(last, 0)
            step = max(1, 2 * step)
        else:
            return
