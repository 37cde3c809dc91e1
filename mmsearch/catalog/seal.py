"""The seal of a catalog: what its file looked like when the last run had finished, byte by byte.

Between two runs nothing writes to a catalog. So if the file is still what the seal says, no row of it has to be read to
know that every one is as it was written: that takes half a second a gigabyte. Where the seal is broken or missing
(after a kill, after another program), all rows are checked: see `checking.py`.

    LIBRARY/catalog.seal    JSON: size, CRC-32, and copies of the rows that nothing else could tell again

It is a cache: without, the next run checks every row.
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
"""The tables of which the seal keeps a copy: a model and its spaces, and where runs began."""
_FORMAT = 1
_MOST_BYTES = 2**24
_OWN = Layout(re.compile(rf"\.{re.escape(NAME)}\.\d+"))
_BYTES = "base64:"

Copies = dict[str, list[dict[str, Any]]]
"""Rows by table, each with all of its columns; every one carries the checksum that it should."""


def is_sealed(file: Path) -> bool:
    """Return whether a catalog's file is, byte by byte, what it was when it was sealed."""
    fields = _read(file)
    try:
        log = file.with_name(f"{file.name}-wal")
        if log.exists() and log.stat().st_size:
            return False
        return bool(fields) and [fields["size"], fields["crc32"]] == list(_measure(file))
    except (OSError, KeyError):
        return False


def seal(file: Path) -> None:
    """Seal a catalog as it stands; the caller holds the library's lock.

    Where a reader is in the way, it stays unsealed, as it does where the seal can't be written: the next run checks
    every row instead.
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
    """Seal a catalog again after it was changed, if it was sealed before: changing it has checked nothing."""
    sealed = is_sealed(file)
    yield
    if sealed:
        seal(file)


def unseal(file: Path) -> None:
    """Have the next run check every row of a catalog."""
    with suppress(OSError):
        file.with_name(NAME).unlink()


def copies_of(file: Path) -> Copies:
    """Return the rows that a catalog's seal keeps, but for those that aren't what was written. Empty without a seal.

    The seal may come from anyone: what isn't a row of its table, with values of its columns' types, counts as no copy.
    """
    found: Copies = {}
    stored = _read(file).get("copies")
    by_table = stored if isinstance(stored, dict) else {}
    for table in COPIED:
        listed = by_table.get(table.name)
        for packed in listed if isinstance(listed, list) else ():
            row = {name: _unpacked(value) for name, value in packed.items()} if isinstance(packed, dict) else {}
            if _is_row(table, row) and row["checksum"] == checked(table, row)["checksum"]:
                found.setdefault(table.name, []).append(row)
    return found


def _is_row(table: Table, row: dict[str, Any]) -> bool:
    """Return whether a row has all columns of its table, and values that SQLite can hold in them."""
    return row.keys() == {column.name for column in table.columns} and all(
        column.nullable if row[column.name] is None else _fits(row[column.name], column.type.python_type)
        for column in table.columns
    )


def _fits(value: Any, kind: type) -> bool:  # noqa: ANN401  of JSON
    """Return whether SQLite can hold a value in a column of this type: integers of 64 bits, texts that are UTF-8."""
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
        fields = json.loads(read_bounded(file.with_name(NAME), _MOST_BYTES, follow_links=False))
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
