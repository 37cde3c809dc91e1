"""The full-text index over the words of the table `text`: SQLite's FTS5, kept in step in the same transaction.

It holds no words of its own, so a text has to be taken out of it as it was put in, before its row is deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection, Select, column, literal, select, table

from mmsearch.catalog.schema import FULL_TEXT, FULL_TEXT_COLUMNS, FULL_TEXT_SQL, text

_INDEX = table(FULL_TEXT, column(FULL_TEXT), column("rowid"), column("words"))
_REBUILD = f"INSERT INTO {FULL_TEXT} ({FULL_TEXT}) VALUES ('rebuild')"
_TERMS = (
    "SELECT term, count(*), sum(doc % 65521), sum(offset % 65521 * (doc % 251 + 1)) FROM temp.indexed "
    "GROUP BY term ORDER BY term"
)
"""What tells two indexes apart without one row for each word of each text."""


def put_in(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows of the table `text`."""
    values = [(row["id"], row["words"]) for row in rows]
    connection.exec_driver_sql(f"INSERT INTO {FULL_TEXT} (rowid, words) VALUES (?, ?)", values)


def take_out(connection: Connection, segment_ids: Select[int]) -> None:
    """Take out the texts of segments, whose rows are still there."""
    held = select(literal("delete"), text.c.id, text.c.words).where(text.c.segment_id.in_(segment_ids))
    connection.execute(_INDEX.insert().from_select(list(_INDEX.columns), held))


def raw_of(connection: Connection) -> sqlite3.Connection:
    """Return SQLite's own connection, for what is done in the same transaction."""
    raw: Any = connection.connection.driver_connection
    return raw  # type: ignore[no-any-return]


def rebuild(connection: sqlite3.Connection) -> None:
    """Make the index's content again from the texts."""
    connection.execute(_REBUILD)


def make_again(connection: sqlite3.Connection) -> None:
    """Make the index again, whatever is left of it: SQLite can't drop one of which a table is missing."""
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_master WHERE name = ?", (FULL_TEXT,))
    connection.execute("PRAGMA writable_schema = RESET")
    for name in FULL_TEXT_COLUMNS:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(FULL_TEXT_SQL)
    connection.execute(_REBUILD)


def is_in_step(connection: sqlite3.Connection) -> bool:
    """Return whether the index is that of the words which the table holds; nothing is changed."""
    sizes = f"SELECT id, sz FROM {FULL_TEXT}_docsize ORDER BY id"
    try:
        connection.execute(f"CREATE VIRTUAL TABLE temp.indexed USING fts5vocab('main', '{FULL_TEXT}', 'instance')")
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.execute(FULL_TEXT_SQL.replace("content='text', content_rowid='id'", "content=''"))
            words = connection.execute("SELECT id, CAST(words AS BLOB) FROM text")  # which may not be UTF-8 any more
            fresh.executemany(f"INSERT INTO {FULL_TEXT} (rowid, words) VALUES (?, ?)", words)
            fresh.execute(f"CREATE VIRTUAL TABLE temp.indexed USING fts5vocab('main', '{FULL_TEXT}', 'instance')")
            return all(
                stored == wanted
                for query in (_TERMS, sizes)
                for stored, wanted in zip_longest(connection.execute(query), fresh.execute(query))
            )
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.execute("DROP TABLE IF EXISTS temp.indexed")
