"""Checksums of the catalog's rows, which detect changes that mmsearch didn't make.

A disk, a cable or another program may change a byte of a row. SQLite doesn't notice if the page remains valid. So every
row has a checksum (`checksum`), and three sums cover more:

- `embedded.checksum` covers everything that a model has made of a content: the content's hash, the `embedded` row, and
  each segment, text and embedding. It is a sum modulo 2^63, so that the next part of a long file can be added without
  reading the others.
- `tally` has the number of rows of a table and the sum of their checksums, which reveals lost rows.
- The seal (see `seal.py`) covers the bytes of the whole file between two runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Connection, Float, Table, delete, select, update

from mmsearch.catalog.schema import TALLIED, segment, tally, text

MODULUS = 2**63
"""Checksums are integers in [0, 2^63), the positive integers of SQLite."""
_NOT_COVERED = ("id", "checksum")


def checksum(kind: str, values: Iterable[object], packed: bytes = b"") -> int:
    """Return the checksum of a row of this kind with these values, which are bytes, str, int, float or None."""
    digest = hashlib.blake2b(packed, digest_size=8)
    digest.update(f"{kind}{tuple(values)!r}".encode("utf-8", "backslashreplace"))
    return int.from_bytes(digest.digest(), "little") % MODULUS


def covered(table: Table) -> list[str]:
    """Return the names of the columns that a row's checksum covers, in order."""
    return [column.name for column in table.columns if column.name not in _NOT_COVERED]


def row_checksum(table: Table, values: Iterable[object]) -> int:
    """Return the checksum of a row of a table, by the values of the columns that it covers."""
    held: list[object] = []
    for name, value in zip(covered(table), values, strict=True):
        if "later" not in table.c[name].info:
            held.append(value)
        elif value is not None:
            held.append((name, value))
    return checksum(table.name, held)


def checked(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its checksum. It must have every covered column, with the value that SQLite will return."""
    values = (row[name] for name in covered(table))
    plain = (str(value) if isinstance(value, str) else value for value in values)  # enums are stored as their values
    return {**row, "checksum": row_checksum(table, plain)}


# Embedded contents


def embedded_checksum(
    content_id: int, digest: bytes, modality: str, profile_id: int, key: str, resume_s: float | None
) -> int:
    """Return the share of an `embedded` row and its content in the row's checksum."""
    return checksum("embedded", (content_id, digest, modality, profile_id, key, real(resume_s)))


def segment_checksum(row: Mapping[str, Any]) -> int:
    """Return the share of a segment, whose values are given by column name."""
    return checksum("segment", _present(_SEGMENT, row))


def text_checksum(row: Mapping[str, Any]) -> int:
    """Return the share of a text, whose values are given by column name."""
    return checksum("text", _present(_TEXT, row))


def embedding_checksum(row: Mapping[str, Any]) -> int:
    """Return the share of an embedding, whose values are given by column name."""
    values = (row["id"], row["segment_id"], row["space_id"], row["view"], row["modality"], row["draw"])
    return checksum("embedding", values, row["vector"])


def real(seconds: float | None) -> float | None:
    """Return seconds as SQLite returns them: 5 becomes 5.0, and -0.0 becomes 0.0."""
    return seconds + 0.0 if isinstance(seconds, int | float) else seconds


def _columns(table: Table) -> list[tuple[str, bool, bool]]:
    """Return the columns of a table sorted by name: the name, whether it holds floats, whether it holds booleans."""
    return [(c.name, isinstance(c.type, Float), isinstance(c.type, Boolean)) for c in sorted(table.c, key=_by_name)]


def _by_name(column: Any) -> str:  # noqa: ANN401  a column of any type
    return str(column.name)


_SEGMENT, _TEXT = _columns(segment), _columns(text)


def _present(columns: Iterable[tuple[str, bool, bool]], row: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return the names and values of a row's columns without those that are null or false.

    So a new column doesn't change the checksums of older rows, in which it is null or false.
    """
    present: list[tuple[str, object]] = []
    for name, is_float, is_bool in columns:
        value = row[name]
        value = real(value) if is_float else int(value) if is_bool else value
        if value is not None and not (is_bool and value == 0):
            present.append((name, value))
    return present


# Tallies


def count_in(connection: Connection, table: Table, gone: Sequence[int | None], new: Iterable[int] = ()) -> None:
    """Update a table's tally by the checksums of deleted or replaced rows (`gone`) and of `new` ones.

    A catalog whose checksums aren't recorded yet has no tallies, and gets none here.
    """
    if table.name not in TALLIED:
        return
    added = list(new)
    if not gone and not added:
        return
    of_table = tally.c.name == table.name
    known = connection.execute(select(tally.c.rows, tally.c.total).where(of_table)).first()
    if known is None:
        return
    total = (known.total + sum(added) - sum(value or 0 for value in gone)) % MODULUS
    values = {"rows": known.rows + len(added) - len(gone), "total": total}
    connection.execute(update(tally).where(of_table).values(**values))


def delete_rows(connection: Connection, table: Table, *where: Any) -> int:  # noqa: ANN401  an SQL condition has no common type
    """Delete rows of a table with a tally; return their number."""
    gone = connection.execute(delete(table).where(*where).returning(table.c.checksum)).scalars().all()
    count_in(connection, table, gone)
    return len(gone)
