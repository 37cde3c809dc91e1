"""The tables of `catalog.sqlite`, how a connection is set up, and how an older file is brought up to date."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from mmsearch.errors import CatalogError, one_line

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
"""What belongs to the library as a whole: `profile`, the id of the one that answers, and `change`, of the next one."""

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
    Column("exclude", Text, nullable=False),  # the globs of the last run there, a JSON list
    _checksum(),
)
"""The files and folders that runs began at."""

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


def connect(file: Path, *, create: bool) -> Engine:
    """Open a catalog, making or migrating its tables. Raises `CatalogError`."""
    if not create and not file.is_file():
        raise CatalogError(f"{file} is missing; run 'mmsearch index' to make it anew")
    was_used = not create or file.with_name("catalog.seal").exists()
    if was_used and file.exists() and not file.stat().st_size:  # SQLite would take it for a new one
        raise CatalogError(f"{file} is empty; run 'mmsearch doctor --repair'")
    if not create and _is_read_only(file):
        # SQLite couldn't make its shared memory there; but then nothing changes there either.
        name = f"file:{quote(os.fsencode(file.absolute()))}"
        engine = create_engine(URL.create("sqlite", database=name, query={"immutable": "1", "uri": "true"}))
    else:
        engine = create_engine(URL.create("sqlite", database=str(file)), connect_args={"timeout": 30})
        event.listen(engine, "connect", _set_up)
    with mapped_errors(file), engine.connect() as connection:
        version = _version(connection)
        if version > SCHEMA_VERSION:
            raise CatalogError(f"{file} was written by a newer mmsearch (schema {version}); upgrade mmsearch to use it")
        if version < SCHEMA_VERSION and engine.url.query.get("immutable"):
            raise CatalogError(f"{file} is of an older mmsearch and can't be brought up to date where it lies; copy it")
        if version < SCHEMA_VERSION:
            _bring_up(connection)
    return engine


def _is_read_only(file: Path) -> bool:
    """Return whether a catalog lies on a medium that nobody can write, and was closed properly before it came there."""
    log = file.with_name(f"{file.name}-wal")
    if not hasattr(os, "statvfs") or (log.exists() and log.stat().st_size):
        return False
    return bool(os.statvfs(file).f_flag & os.ST_RDONLY)


def _version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _bring_up(connection: Connection) -> None:
    """Make or migrate the tables in one transaction; several processes may try, and one of them does."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver by itself begins none for DDL
    version = _version(connection)
    if version == 0:
        metadata.create_all(connection)
        _start_tallies(connection)
    for step in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
        _MIGRATIONS[step](connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.commit()


def _set_up(connection: Any, _record: object) -> None:  # noqa: ANN401  a DBAPI connection has no common type
    cursor = connection.cursor()
    for pragma in (
        "page_size = 16384",  # a page then holds about thirty vectors; only a new file heeds it
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "cache_size = -32768",  # KiB
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def mapped_errors(file: Path) -> Iterator[None]:
    """Turn SQLAlchemy's errors into one-line `CatalogError`s that name the file and the remedy."""
    try:
        yield
    except DatabaseError as error:
        reason = " ".join(str(error.orig).split())
        remedy = {
            "database or disk is full": "free some space and run the same command again; what was committed is kept",
            "disk I/O error": "check the disk and its free space, then run the same command again",
            "file is not a database": "run 'mmsearch doctor --repair'",
            "database disk image is malformed": "run 'mmsearch doctor --repair'",
            "attempt to write a readonly database": "make the library's folder writable",
            "unable to open database file": "check that the library's folder exists and may be read and written",
        }.get(reason, "check the disk, then run the same command again")
        if reason.startswith("Could not decode to UTF-8"):
            reason, remedy = "a text in it is damaged", "run 'mmsearch index' to mend it"
        raise CatalogError(f"{file}: {reason}; {remedy}") from error
    except SQLAlchemyError as error:
        raise CatalogError(f"{file}: {one_line(error, 200)}") from error
