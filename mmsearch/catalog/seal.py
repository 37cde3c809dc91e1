"""The seal of a catalog: a checksum of the whole file after the last run.

Nothing writes to a catalog between two runs. So if the file still matches its seal, every row is unchanged; checking
this takes half a second per gigabyte. If the seal is broken or missing (after a kill, or a change by another program),
all rows are checked: see `checking.py`.

    LIBRARY/catalog.seal    JSON: size, CRC-32, and copies of rows that can't be made again from media files

The seal is a cache: without it, the next run checks every row.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from mmsearch.catalog.checksums import checked
from mmsearch.catalog.past_sqlite import blocks_of
from mmsearch.catalog.schema import profile, root, setting, space
from mmsearch.files import TEMPORARY, Layout, read_bounded, remove_own, write_whole

NAME = "catalog.seal"
COPIED = (setting, profile, space, root)
"""The tables that the seal has copies of: settings, models, spaces and roots."""
_FORMAT = 1
_MAX_BYTES = 2**24
_OWN = Layout(re.compile(rf"\.{re.escape(NAME)}\.\d+"))
_BYTES = "base64:"

Copies = dict[str, list[dict[str, Any]]]
"""Rows by table, each with all columns and a valid checksum."""


def is_sealed(file: Path) -> bool:
    """Return whether no byte of a catalog's file has changed since it was sealed."""
    fields = _read(file)
    try:
        log = file.with_name(f"{file.name}-wal")
        if log.exists() and log.stat().st_size:
            return False
        return bool(fields) and [fields["size"], fields["crc32"]] == list(_measure(file))
    except (OSError, KeyError):
        return False


def seal(file: Path) -> None:
    """Seal a catalog in its current state. The caller holds the library's lock.

    If a reader prevents a checkpoint, or the seal can't be written, the catalog stays unsealed, and the next run checks
    every row.
    """
    with suppress(OSError, sqlite3.Error):
        remove_own(file.parent, file.parent, _OWN, lambda name: TEMPORARY.fullmatch(name) is not None)
        with closing(sqlite3.connect(file, timeout=0.1)) as connection:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            copies = {table.name: _rows_of(connection, table.name) for table in COPIED}
        if busy:
            unseal(file)
            return
        size, check = _measure(file)
        content = {"format": _FORMAT, "size": size, "crc32": check, "copies": copies}
        write_whole(file.with_name(NAME), json.dumps(content).encode(), sync=False)


@contextmanager
def kept_seal(file: Path) -> Iterator[None]:
    """Seal a catalog again after the context has changed it, if it was sealed before; the change checks no rows."""
    sealed = is_sealed(file)
    yield
    if sealed:
        seal(file)


def unseal(file: Path) -> None:
    """Remove the seal of a catalog, so that the next run checks every row."""
    with suppress(OSError):
        file.with_name(NAME).unlink()


def copies_of(file: Path) -> Copies:
    """Return the valid copies of rows in a catalog's seal; empty without a seal.

    The seal may come from anyone. So rows with wrong columns, types or checksums are ignored.
    """
    copies: Copies = {}
    stored = _read(file).get("copies")
    by_table = stored if isinstance(stored, dict) else {}
    for table in COPIED:
        listed = by_table.get(table.name)
        for packed in listed if isinstance(listed, list) else ():
            row = {name: _unpacked(value) for name, value in packed.items()} if isinstance(packed, dict) else {}
            if _is_row(table, row) and row["checksum"] == checked(table, row)["checksum"]:
                copies.setdefault(table.name, []).append(row)
    return copies


def _is_row(table: Table, row: dict[str, Any]) -> bool:
    """Return whether a row has exactly the columns of its table, with values that SQLite can store in them."""
    return row.keys() == {column.name for column in table.columns} and all(
        column.nullable if row[column.name] is None else _fits(row[column.name], column.type.python_type)
        for column in table.columns
    )


def _fits(value: Any, kind: type) -> bool:  # noqa: ANN401  of JSON
    """Return whether SQLite can store a value in a column of this type: integers of 64 bits, valid UTF-8 texts."""
    if type(value) is not kind:
        return False
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _read(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(read_bounded(file.with_name(NAME), _MAX_BYTES, follow_links=False))
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) and fields.get("format") == _FORMAT else {}


def _measure(file: Path) -> tuple[int, int]:
    size, check = 0, 0
    for block in blocks_of(file):
        size += len(block)
        check = zlib.crc32(block, check)
    return size, check


def _rows_of(connection: sqlite3.Connection, name: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f'SELECT * FROM "{name}"')
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, map(_packed, row), strict=True)) for row in cursor]


def _packed(value: Any) -> Any:  # noqa: ANN401  a value of SQLite
    return _BYTES + base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _unpacked(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str) and value.startswith(_BYTES):
        with suppress(ValueError):
            return base64.b64decode(value.removeprefix(_BYTES), validate=True)
    return value
