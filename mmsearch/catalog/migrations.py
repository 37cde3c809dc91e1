"""How a catalog of an older version is brought to the tables of this one: nothing is decoded or embedded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from mmsearch.catalog.checksums import MODULUS, checksum, real, segment_checksum, text_checksum
from mmsearch.catalog.fulltext import raw_of, rebuild
from mmsearch.catalog.schema import SCHEMA_VERSION, file_facts, metadata, root, tally, text, version_of
from mmsearch.catalog.writing import PART


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


ORIGIN_OF = """
CASE WHEN modality = 'text' THEN 'passage'
     WHEN modality IN ('audio', 'video') AND EXISTS
          (SELECT 1 FROM embedding AS m WHERE m.segment_id = s.id AND m.view <> 'text') THEN 'subtitle'
     ELSE 'caption' END
"""
"""SQL for the origin of a text of schema 4, of the segment `s` and its content: what is written about a whole clip
stands in a segment without a picture and a sound, what is said in a moment in that moment's."""


def _add_texts(connection: Connection) -> None:
    """Version 5: texts with an origin and a full-text index, and the facts of files, which the next index run reads."""
    metadata.create_all(connection, [text, file_facts])
    connection.exec_driver_sql(
        "INSERT INTO text (segment_id, origin, language, words) "
        f"SELECT s.id, {ORIGIN_OF}, '', s.text FROM segment AS s LEFT JOIN content AS c ON c.id = s.content_id "
        "WHERE s.text IS NOT NULL ORDER BY s.id"
    )
    connection.exec_driver_sql("ALTER TABLE segment DROP COLUMN text")
    rebuild(raw_of(connection))
    convert_checksums(connection)
    connection.exec_driver_sql(
        "INSERT INTO tally (name, rows, total) SELECT 'file_facts', 0, 0 WHERE EXISTS (SELECT 1 FROM tally)"
    )


def _add_more_facts(connection: Connection) -> None:
    """Version 6: more facts of files, which the next index run reads, and pages and headings of documents.

    The new columns are null in every row, and so change no checksum.
    """
    connection.exec_driver_sql("ALTER TABLE segment ADD COLUMN page INTEGER")
    connection.exec_driver_sql("ALTER TABLE segment ADD COLUMN heading TEXT")
    held = {row[1] for row in connection.exec_driver_sql("PRAGMA table_info(file_facts)")}
    for column in file_facts.columns:
        if column.name not in held:  # a catalog of before version 5 gets the whole table
            kind = column.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE file_facts ADD COLUMN {column.name} {kind}")


def convert_checksums(connection: Connection) -> None:
    """Bring the checksums of contents from schema 4, where a segment's covered its text, to this version's.

    Each changes by the difference of its segments' shares, so that a row that was damaged before is still found.
    """
    raw = raw_of(connection)
    raw.text_factory = lambda value: value.decode("utf-8", "surrogateescape")  # one that isn't UTF-8 is damaged
    try:
        query = (
            "SELECT s.id, s.content_id, s.profile_id, s.start_s, s.end_s, s.silent, "
            "t.id, t.origin, t.language, t.words FROM segment AS s LEFT JOIN text AS t ON t.segment_id = s.id"
        )
        changes: dict[tuple[Any, Any], int] = {}
        for number, content_id, profile_id, start_s, end_s, silent, *written in raw.execute(query):
            row = {"id": number, "content_id": content_id, "profile_id": profile_id}
            row |= {"page": None, "heading": None, "start_s": start_s, "end_s": end_s, "silent": silent}
            owner = (content_id, profile_id)
            changes[owner] = (changes.get(owner, 0) + _change(row, written)) % MODULUS
        query = "SELECT id, content_id, profile_id, checksum FROM embedded WHERE typeof(checksum) = 'integer'"
        values = [
            ((stored + changes.get((content_id, profile_id), 0)) % MODULUS, number)
            for number, content_id, profile_id, stored in raw.execute(query)
        ]
    finally:
        raw.text_factory = str
    for start in range(0, len(values), PART):
        raw.executemany("UPDATE embedded SET checksum = ? WHERE id = ?", values[start : start + PART])


def _change(row: dict[str, Any], written: list[Any]) -> int:
    """Return by how much the share of a segment and its text is more than that of the segment of schema 4."""
    number, origin, language, words = written
    try:
        span = (real(row["start_s"]), real(row["end_s"]))
        before = (row["id"], row["content_id"], row["profile_id"], *span, words, int(row["silent"]))
        share = segment_checksum(row) - checksum("segment", before)
    except (TypeError, ValueError):  # a damaged row had no share, and has none
        share = 0
    if number is not None:
        share += text_checksum(
            {
                "id": number,
                "segment_id": row["id"],
                "origin": origin,
                "language": language,
                "words": words,
                "start_s": None,
                "end_s": None,
            }
        )
    return share


_MIGRATIONS: dict[int, Callable[[Connection], None]] = {
    1: _add_parts,
    2: _add_profiles,
    3: _add_checksums,
    4: _add_texts,
    5: _add_more_facts,
}
"""From each older schema version, the function that takes a catalog to the next one."""


def bring_up(connection: Connection) -> None:
    """Migrate the tables in the caller's transaction; several processes may try, and one of them does."""
    for step in range(version_of(connection), SCHEMA_VERSION):
        _MIGRATIONS[step](connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
