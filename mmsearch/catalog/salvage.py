"""Makes a catalog again from those rows of a damaged file that can still be read."""

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
"""Where the catalog is copied to before a repair changes it; of several repairs, the last one's."""
_SPARE_BYTES = 2**26
_FAR = 2**32
"""How far behind an unreadable row the next readable one is looked for."""


def keep_copy(file: Path) -> Path:
    """Copy a catalog as it is, before it is changed; return the copy. Raises `CatalogError` where there is no room."""
    copy = file.with_name(BEFORE_REPAIR)
    log = file.with_name(f"{file.name}-wal")
    try:
        size = sum(one.stat().st_size for one in (file, log) if one.exists())
        if shutil.disk_usage(file.parent).free < size + _SPARE_BYTES:
            raise CatalogError(
                f"{file.parent} has no room for a copy of the catalog; free {(size + _SPARE_BYTES) / 1e6:,.0f} MB, "
                "then run this again"
            )
        for one, name in ((file, copy), (log, copy.with_name(f"{copy.name}-wal"))):
            temporary = name.with_name(f".{name.name}.{os.getpid()}")
            name.unlink(missing_ok=True)
            if one.exists() and one.stat().st_size:
                with open_new(temporary) as opened:
                    for block in blocks_of(one):
                        opened.write(block)
                temporary.replace(name)
    except OSError as error:
        raise CatalogError(f"{copy} can't be written ({error.strerror or error}); nothing was changed") from error
    return copy


def salvage(file: Path) -> int:
    """Replace a damaged catalog by one of its readable rows and of the seal's copies; return how many rows were read.

    The caller holds the library's lock and has nothing open, and indexes the roots again: what can't be read is lost.
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
                held = set(connection.execute(table.select().with_only_columns(key)).scalars())
                if rows := [row for row in copies.get(table.name, []) if row[key.name] not in held]:
                    connection.execute(table.insert().prefix_with("OR IGNORE"), rows)
            count_tallies(connection)
    finally:
        catalog.close()
    with closing(sqlite3.connect(temporary)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):  # they belong to the old file, and would be taken for the new one's
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
                held = {row[1] for row in source.execute(f'PRAGMA table_info("{table.name}")')}
                names = [name for name in names if name in held]
                columns = ", ".join(f'"{name}"' for name in names)
                statement = f'INSERT OR IGNORE INTO "{table.name}" ({columns}) VALUES ({", ".join("?" * len(names))})'
                for _, *row in _readable(source, table.name, columns):
                    with suppress(sqlite3.Error, UnicodeEncodeError):  # a row that can't be one of ours
                        read += target.execute(statement, row).rowcount
            target.commit()
    return read


def _copy_old_texts(damaged: Path, new: Path) -> int | None:
    """Copy the texts of a catalog up to schema 4, where they stand in the table of segments.

    Returns how many there are; None where the catalog isn't so old.
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
    """Yield the row id and the columns of those rows of a table that can be read, by their ids.

    What lies on a damaged page is passed over.
    """
    query = f'SELECT rowid, {columns} FROM "{table}" WHERE rowid > ? ORDER BY rowid'
    last: int = -(2**62)
    step = 0
    while step < _FAR:
        try:
            for key, *row in connection.execute(query, (last + step,)):
                last, step = key, 0
                yield (key, *row)
        except sqlite3.DatabaseError:
            last = max(last, 0)
            step = max(1, 2 * step)
        else:
            return
