"""The tables of `catalog.sqlite`. How an older file is brought to them is in `migrations.py`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy import text as sql_text

SCHEMA_VERSION = 6

LATER = {"later": True}
"""Marks a column that was added to a table with checksums: where it is null, a row's checksum is that of before."""

metadata = MetaData()


def _table(name: str, *columns: Column[Any] | Index) -> Table:
    # AUTOINCREMENT: without it SQLite hands a deleted id out again, and an index would answer with another's vector.
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns, sqlite_autoincrement=True)


def _checksum() -> Column[Any]:
    """Return the column for a row's checksum: see `checksums.py`. Null in an older catalog until it is recorded."""
    return Column("checksum", Integer)


setting = Table(
    "setting",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    _checksum(),
)
"""What belongs to the library as a whole.

`profile` is the id of the profile that answers, `change` that of the next one, `library` the library's random id.
"""

profile = _table(
    "profile",
    Column("name", String, nullable=False),
    Column("pins", Text, nullable=False),  # Profile.pins, a JSON list
    Column("precision", String, nullable=False, server_default=sql_text("''")),  # what was chosen for its towers
    _checksum(),
)

revision = _table(
    "revision",
    Column("token", Integer, nullable=False, unique=True),
    Column("profile_id", Integer, nullable=False, server_default=sql_text("1")),
    _checksum(),
    Index("revision_by_profile", "profile_id"),
)
"""Every state that a profile's embeddings were in: by its random token an index knows which one it holds."""

space = _table(
    "space",
    Column("name", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("profile_id", Integer, nullable=False, server_default=sql_text("1")),
    _checksum(),
    Index("space_by_profile", "profile_id", "name", "fingerprint", unique=True),
)

content = _table(
    "content",
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("modality", String, nullable=False),
)

embedded = _table(
    "embedded",
    Column("content_id", ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("profile_id", Integer, nullable=False),
    Column("key", String, nullable=False),  # Profile.key
    Column("resume_s", Float),  # where decoding goes on, null where it reached the end
    _checksum(),  # of the content, and of all that the profile has made of it
    Index("embedded_by_content", "content_id", "profile_id", unique=True),
    Index("embedded_by_key", "profile_id", "key"),
)
"""Which contents a profile has embedded. Its segments are its own: passages are cut by its text tower."""

media = _table(
    "media",
    Column("path", LargeBinary, nullable=False, unique=True),  # os.fsencode: names need not be UTF-8
    Column("content_id", ForeignKey("content.id"), nullable=False, index=True),
    Column("size_bytes", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("sidecars", String, nullable=False),  # size and mtime of each caption file beside it
    Column("device", String, nullable=False),  # st_dev of its folder, as text: it may use 64 bits unsigned
    _checksum(),
)

segment = _table(
    "segment",
    Column("content_id", ForeignKey("content.id", ondelete="CASCADE"), nullable=False),
    Column("start_s", Float),
    Column("end_s", Float),
    Column("silent", Boolean, nullable=False, server_default=sql_text("0")),  # there is sound, and nobody hears it
    Column("profile_id", Integer, nullable=False, server_default=sql_text("1")),
    Column("page", Integer),  # of a document, from 1
    Column("heading", Text),  # above a passage of a document
    Index("segment_by_content", "content_id", "profile_id"),
)
"""Segments. But for its ids, each column is a field of `records.Segment`.

A column that is added later may be null: then the checksums of older rows hold without it (see `checksums.py`).
"""

text = _table(
    "text",
    Column("segment_id", ForeignKey("segment.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("origin", String, nullable=False),  # records.Origin
    Column("language", String, nullable=False),
    Column("words", Text, nullable=False),
    Column("start_s", Float),  # when they are said, null where they belong to the whole segment
    Column("end_s", Float),
)
"""The texts of segments, in their order. The full-text index `text_words` is over their words."""

FULL_TEXT = "text_words"
FULL_TEXT_SQL = (
    f"CREATE VIRTUAL TABLE {FULL_TEXT} USING fts5(words, content='text', content_rowid='id', "
    "tokenize='unicode61 remove_diacritics 2')"
)
FULL_TEXT_COLUMNS = {
    f"{FULL_TEXT}_data": {"id", "block"},
    f"{FULL_TEXT}_idx": {"segid", "term", "pgno"},
    f"{FULL_TEXT}_docsize": {"id", "sz"},
    f"{FULL_TEXT}_config": {"k", "v"},
}
"""The tables in which SQLite keeps the full-text index, with their columns."""
event.listen(text, "after_create", DDL(FULL_TEXT_SQL))  # type: ignore[no-untyped-call]

embedding = _table(
    "embedding",
    Column("segment_id", ForeignKey("segment.id", ondelete="CASCADE"), nullable=False),
    Column("space_id", ForeignKey("space.id"), nullable=False),
    Column("view", String, nullable=False),
    Column("modality", String, nullable=False),  # the content's, so that a filter reads one index and no rows
    Column("draw", Integer, nullable=False),  # a hash of content and segment: the order in which a sample takes them
    Column("vector", LargeBinary, nullable=False),  # (dim,) float16, little-endian
    Index("embedding_by_segment", "segment_id", "space_id"),
    Index("embedding_by_view", "space_id", "view", "draw", "modality"),
)

file_facts = _table(
    "file_facts",
    Column("content_id", ForeignKey("content.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("version", Integer, nullable=False),  # of what read them: see `records.FACTS_VERSION`
    Column("taken_at", String),  # local time in ISO 8601, with its offset from UTC where that is known
    Column("latitude", Float),
    Column("longitude", Float),
    Column("camera", String),
    Column("width", Integer),
    Column("height", Integer),
    Column("duration_s", Float),
    Column("dated_by", String, info=LATER),  # records.DatedBy
    Column("place", String, info=LATER),
    Column("lens", String, info=LATER),
    Column("rating", Integer, info=LATER),
    Column("keywords", Text, info=LATER),  # a JSON list, null where it is empty
    Column("people", Text, info=LATER),  # the same
    _checksum(),
)
"""What files say of themselves. But for the first two, each column is a field of `records.FileFacts`."""

failure = _table(
    "failure",
    Column("path", LargeBinary, nullable=False, unique=True),
    Column("stage", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("stamp", String, nullable=False),  # size and mtime of the file that failed
    Column("version", String, nullable=False),  # of the program and the decoder that failed on it
    _checksum(),
)

run = _table(
    "run",
    Column("started", String, nullable=False),
    Column("ended", String),
    Column("report", Text),
    _checksum(),
)

root = _table(
    "root",
    Column("path", LargeBinary, nullable=False, unique=True),
    Column("exclude", Text, nullable=False),  # the globs of the last run there, a JSON list; null: see below
    _checksum(),
)
"""The files and folders that runs began at; with the JSON null instead of globs, a path that was forgotten."""

tally = Table(
    "tally",
    metadata,
    Column("name", String, primary_key=True),  # of a table
    Column("rows", Integer, nullable=False),
    Column("total", Integer, nullable=False),  # of the rows' checksums, modulo 2^63
)
"""How many rows a table has: without, nobody would miss one. Empty until the checksums are recorded."""

TALLIED = ("media", "failure", "root", "file_facts")
"""The tables whose rows nothing else in the catalog refers to."""


def version_of(connection: Connection) -> int:
    """Return the schema version that a catalog says it is of; 0 in a database that mmsearch didn't make."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def create(connection: Connection) -> None:
    """Make the tables of the current version in an empty database."""
    metadata.create_all(connection)
    connection.execute(tally.insert(), [{"name": name, "rows": 0, "total": 0} for name in TALLIED])
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
