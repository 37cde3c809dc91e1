"""The tables of `catalog.sqlite`, and how an older file is brought up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
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
    text,
)

SCHEMA_VERSION = 4

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
    Column("precision", String, nullable=False, server_default=text("''")),  # what was chosen for its towers
    _checksum(),
)

revision = _table(
    "revision",
    Column("token", Integer, nullable=False, unique=True),
    Column("profile_id", Integer, nullable=False, server_default=text("1")),
    _checksum(),
    Index("revision_by_profile", "profile_id"),
)
"""Every state that a profile's embeddings were in: by its random token an index knows which one it holds."""

space = _table(
    "space",
    Column("name", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("profile_id", Integer, nullable=False, server_default=text("1")),
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
    Column("text", Text),
    Column("silent", Boolean, nullable=False, server_default=text("0")),  # there is sound, and nobody hears it
    Column("profile_id", Integer, nullable=False, server_default=text("1")),
    Index("segment_by_content", "content_id", "profile_id"),
)

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

TALLIED = ("media", "failure", "root")
"""The tables whose rows nothing else in the catalog refers to."""


def _add_parts(connection: Connection) -> None:
    """Version 2: sounds and videos, which are committed in parts."""
    connection.exec_driver_sql("ALTER TABLE content ADD COLUMN resume_s FLOAT")
    connection.exec_driver_sql("ALTER TABLE segment ADD COLUMN silent BOOLEAN DEFAULT 0 NOT NULL")


def _add_profiles(connection: Connection) -> None:
    """Version 3: several profiles side by side. What there is belongs to the first."""
    known = connection.exec_driver_sql("SELECT value FROM setting WHERE key = 'profile'").scalar()
    for statement in (
        "CREATE TABLE profile (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name VARCHAR NOT NULL, "
        "pins TEXT NOT NULL, precision VARCHAR DEFAULT '' NOT NULL)",
        "CREATE TABLE embedded (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, content_id INTEGER NOT NULL, "
        'profile_id INTEGER NOT NULL, "key" VARCHAR NOT NULL, resume_s FLOAT, '
        "FOREIGN KEY(content_id) REFERENCES content (id) ON DELETE CASCADE)",
        'INSERT INTO embedded (content_id, profile_id, "key", resume_s) '
        "SELECT id, 1, embedded_by, resume_s FROM content",
        "CREATE UNIQUE INDEX embedded_by_content ON embedded (content_id, profile_id)",
        'CREATE INDEX embedded_by_key ON embedded (profile_id, "key")',
        "DROP INDEX ix_content_embedded_by",
        "ALTER TABLE content DROP COLUMN embedded_by",
        "ALTER TABLE content DROP COLUMN resume_s",
        "ALTER TABLE space ADD COLUMN profile_id INTEGER DEFAULT 1 NOT NULL",
        "DROP INDEX space_by_name",
        "CREATE UNIQUE INDEX space_by_profile ON space (profile_id, name, fingerprint)",
        "ALTER TABLE segment ADD COLUMN profile_id INTEGER DEFAULT 1 NOT NULL",
        "DROP INDEX ix_segment_content_id",
        "CREATE INDEX segment_by_content ON segment (content_id, profile_id)",
        "ALTER TABLE revision ADD COLUMN profile_id INTEGER DEFAULT 1 NOT NULL",
        "CREATE INDEX revision_by_profile ON revision (profile_id)",
    ):
        connection.exec_driver_sql(statement)
    if known is not None:  # without, the library was made and never used
        row = (known, json.dumps([known]))  # what a space was called by then is what it is pinned by
        connection.exec_driver_sql("INSERT INTO profile (id, name, pins) VALUES (1, ?, ?)", row)
        connection.exec_driver_sql("UPDATE setting SET value = '1' WHERE key = 'profile'")


def _add_checksums(connection: Connection) -> None:
    """Version 4: checksums. The next index run records them, for no query has the time to read every vector."""
    for name in ("setting", "profile", "revision", "space", "embedded", "media", "failure", "run"):
        connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN checksum INTEGER")
    metadata.create_all(connection, [root, tally])


def _start_tallies(connection: Connection) -> None:
    connection.execute(tally.insert(), [{"name": name, "rows": 0, "total": 0} for name in TALLIED])


_MIGRATIONS: dict[int, Callable[[Connection], None]] = {1: _add_parts, 2: _add_profiles, 3: _add_checksums}
"""From each older schema version, the function that takes a catalog to the next one."""


def version_of(connection: Connection) -> int:
    """Return the schema version that a catalog says it is of; 0 in a database that mmsearch didn't make."""
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def create(connection: Connection) -> None:
    """Make the tables of the current version in an empty database."""
    metadata.create_all(connection)
    _start_tallies(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def bring_up(connection: Connection) -> None:
    """Migrate the tables in the caller's transaction; several processes may try, and one of them does."""
    for step in range(version_of(connection), SCHEMA_VERSION):
        _MIGRATIONS[step](connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
