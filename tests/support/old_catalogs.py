"""Takes a catalog back to an older schema, as an older version would have written it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

_TO_5 = """
ALTER TABLE segment DROP COLUMN page;
ALTER TABLE segment DROP COLUMN heading;
ALTER TABLE file_facts DROP COLUMN dated_by;
ALTER TABLE file_facts DROP COLUMN place;
ALTER TABLE file_facts DROP COLUMN lens;
ALTER TABLE file_facts DROP COLUMN rating;
ALTER TABLE file_facts DROP COLUMN keywords;
ALTER TABLE file_facts DROP COLUMN people;
UPDATE file_facts SET version = 1;
PRAGMA user_version = 5;
"""
_TO_4 = """
ALTER TABLE segment ADD COLUMN text TEXT;
UPDATE segment SET text = (SELECT words FROM text WHERE segment_id = segment.id ORDER BY id LIMIT 1);
DROP TABLE text_words;
DROP TABLE text;
DROP TABLE file_facts;
DELETE FROM tally WHERE name = 'file_facts';
PRAGMA user_version = 4;
"""
_TO_3 = """
DROP TABLE root;
DROP TABLE tally;
ALTER TABLE setting DROP COLUMN checksum;
ALTER TABLE profile DROP COLUMN checksum;
ALTER TABLE revision DROP COLUMN checksum;
ALTER TABLE space DROP COLUMN checksum;
ALTER TABLE embedded DROP COLUMN checksum;
ALTER TABLE media DROP COLUMN checksum;
ALTER TABLE failure DROP COLUMN checksum;
ALTER TABLE run DROP COLUMN checksum;
PRAGMA user_version = 3;
"""
_TO_2 = """
DROP INDEX revision_by_profile;
ALTER TABLE revision DROP COLUMN profile_id;
DROP INDEX segment_by_content;
CREATE INDEX ix_segment_content_id ON segment (content_id);
ALTER TABLE segment DROP COLUMN profile_id;
DROP INDEX space_by_profile;
ALTER TABLE space DROP COLUMN profile_id;
CREATE UNIQUE INDEX space_by_name ON space (name, fingerprint);
ALTER TABLE content ADD COLUMN embedded_by VARCHAR NOT NULL DEFAULT '';
ALTER TABLE content ADD COLUMN resume_s FLOAT;
UPDATE content SET (embedded_by, resume_s) = (SELECT "key", resume_s FROM embedded WHERE content_id = content.id);
CREATE INDEX ix_content_embedded_by ON content (embedded_by);
DROP TABLE embedded;
UPDATE setting SET value = (SELECT name FROM profile WHERE id = 1) WHERE "key" = 'profile';
DROP TABLE profile;
PRAGMA user_version = 2;
"""
_TO_1 = """
ALTER TABLE content DROP COLUMN resume_s;
ALTER TABLE segment DROP COLUMN silent;
PRAGMA user_version = 1;
"""


def downgrade(file: Path, version: int) -> None:
    """Rewrite a closed catalog; below version 3, one that only its first profile was ever used with."""
    connection = sqlite3.connect(file)
    try:
        connection.executescript(_TO_5)
        _write_checksums_of_5(connection)
        if version == 5:
            return
        connection.executescript(_TO_4)
        _write_checksums_of_4(connection)
        if version == 4:
            return
        connection.executescript(_TO_3)
        if version == 3:
            return
        others = connection.execute("SELECT count(*) FROM embedded WHERE profile_id != 1").fetchone()[0]
        assert others == 0
        connection.executescript(_TO_2)
        if version == 1:
            connection.executescript(_TO_1)
    finally:
        connection.close()


def _write_checksums_of_5(connection: sqlite3.Connection) -> None:
    """Write what schema 5 has as the checksum of facts."""
    columns = "id, content_id, version, taken_at, latitude, longitude, camera, width, height, duration_s"
    rows = connection.execute(f"SELECT {columns} FROM file_facts").fetchall()
    sums = [(_digest("file_facts", tuple(values)) % 2**63, number) for number, *values in rows]
    connection.executemany("UPDATE file_facts SET checksum = ? WHERE id = ?", sums)
    total = sum(value for value, _ in sums) % 2**63
    connection.execute("UPDATE tally SET total = ? WHERE name = 'file_facts'", (total,))
    connection.commit()


def _write_checksums_of_4(connection: sqlite3.Connection) -> None:
    """Write what schema 4 has as the checksum of a content: the sum of its own, its segments' and its embeddings'."""
    columns = "e.id, content_id, hash, modality, profile_id, key, resume_s"
    heads = f"SELECT {columns} FROM embedded AS e JOIN content AS c ON c.id = content_id"
    for number, content_id, *rest in connection.execute(heads).fetchall():
        mine = "WHERE content_id = ? AND profile_id = ?"
        owner = (content_id, rest[2])
        total = _digest("embedded", (content_id, *rest))
        columns = "id, content_id, profile_id, start_s, end_s, text, silent"
        for row in connection.execute(f"SELECT {columns} FROM segment {mine}", owner):
            total += _digest("segment", row)
        columns = "m.id, segment_id, space_id, view, modality, draw, vector"
        joined = "embedding AS m JOIN segment AS s ON s.id = segment_id"
        for *row, vector in connection.execute(f"SELECT {columns} FROM {joined} {mine}", owner):
            total += _digest("embedding", tuple(row), vector)
        connection.execute("UPDATE embedded SET checksum = ? WHERE id = ?", (total % 2**63, number))
    connection.commit()


def _digest(kind: str, values: tuple[object, ...], packed: bytes = b"") -> int:
    digest = hashlib.blake2b(packed, digest_size=8)
    digest.update(f"{kind}{values!r}".encode())
    return int.from_bytes(digest.digest(), "little") % 2**63


def shape(file: Path) -> str:
    """Return the tables and indexes of a catalog with their columns, in a form that two of them can be compared by."""
    connection = sqlite3.connect(file)
    try:
        names = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
        found = {}
        for kind, name in names.fetchall():
            if kind == "table":
                # A column that was added later stands at the end.
                columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
                keys = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
                made = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
                found[name] = [sorted(str(column[1:]) for column in columns), keys, "AUTOINCREMENT" in made]
            else:
                columns = connection.execute(f"PRAGMA index_info({name})").fetchall()
                unique = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
                found[name] = [[column[2] for column in columns], unique.startswith("CREATE UNIQUE")]
        return json.dumps(found, indent=1, default=str)
    finally:
        connection.close()
