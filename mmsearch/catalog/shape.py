"""Compares the tables and indexes of a catalog with those of this version."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import create_engine

from mmsearch.catalog.checking import reading
from mmsearch.catalog.fulltext import make_again
from mmsearch.catalog.schema import FULL_TEXT, FULL_TEXT_COLUMNS, SCHEMA_VERSION, metadata
from mmsearch.errors import CatalogError

_FULL_TEXT = (FULL_TEXT, *FULL_TEXT_COLUMNS)
Shape = dict[tuple[str, str], object]
"""The objects of a database by kind (table, index, view, trigger) and name, in a comparable form."""


def shape_faults(connection: sqlite3.Connection) -> list[str]:
    """Return the differences between a catalog's schema and this version's, one line each."""
    found, wanted = shape_of(connection), _own_shape()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    lines = [f"{kind} {name} is missing" for kind, name in wanted.keys() - found.keys()]
    lines += [f"{kind} {name} doesn't belong to mmsearch" for kind, name in found.keys() - wanted.keys()]
    common = found.keys() & wanted.keys()
    lines += [f"{kind} {name} has another definition" for kind, name in common if _differs(kind, name, found)]
    if version != SCHEMA_VERSION:
        lines.append(f"its schema version is {version}")
    return sorted(lines)


def has_own_tables(file: Path) -> bool:
    """Return whether a catalog can be read and has every table of this version, with the right columns.

    The full-text index isn't checked, since it can be made again.
    """
    try:
        with reading(file) as connection:
            found, wanted = shape_of(connection), _own_shape()
    except CatalogError:
        return False
    tables = [(kind, name) for kind, name in wanted if kind == "table" and name not in _FULL_TEXT]
    return all(key in found and not _differs(*key, found) for key in tables)


def mend_shape(file: Path) -> None:
    """Replace missing or different indexes, drop views and triggers (mmsearch has none), and set the version.

    The tables must be those of this version: see `has_own_tables`.
    """
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        found, wanted = shape_of(connection), _own_shape()
        for kind, name in found:
            if kind in ("view", "trigger") or (kind == "index" and _differs(kind, name, found)):
                quoted = name.replace('"', '""')
                connection.execute(f'DROP {kind.upper()} "{quoted}"')
        if any(found.get(("table", name)) != wanted["table", name] for name in _FULL_TEXT):
            make_again(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()
        missing = {name for kind, name in wanted if kind == "index"} - {name for _, name in shape_of(connection)}
    engine = create_engine(f"sqlite:///{file}")
    try:
        for table in metadata.tables.values():
            for index in table.indexes:
                if index.name in missing:
                    index.create(engine)
    finally:
        engine.dispose()


def shape_of(connection: sqlite3.Connection) -> Shape:
    """Return the tables, indexes, views and triggers of a database."""
    found: Shape = {}
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    for kind, name, table, sql in connection.execute(query).fetchall():
        quoted = name.replace('"', '""')
        if kind == "table" and (sql or "").upper().startswith("CREATE VIRTUAL"):
            found[kind, name] = sql  # reading its columns would load its module
        elif kind == "table":
            # A migration appends columns at the end, so the order of columns doesn't matter.
            columns = sorted(row[1:4] + row[5:] for row in connection.execute(f'PRAGMA table_info("{quoted}")'))
            keys = sorted(row[2:7] for row in connection.execute(f'PRAGMA foreign_key_list("{quoted}")'))
            found[kind, name] = (columns, keys, "AUTOINCREMENT" in (sql or "").upper())
        elif kind == "index":
            columns = [row[2] for row in connection.execute(f'PRAGMA index_info("{quoted}")')]
            found[kind, name] = (table, columns, (sql or "").upper().startswith("CREATE UNIQUE"))
        else:
            found[kind, name] = sql
    return found


def _differs(kind: str, name: str, found: Shape) -> bool:
    wanted = _own_shape()
    return (kind, name) in wanted and repr(found[kind, name]) != repr(wanted[kind, name])


@cache
def _own_shape() -> Shape:
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            metadata.create_all(connection)
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            return shape_of(raw)
    finally:
        engine.dispose()
