"""Takes a catalog back to an older schema, as an older version would have written it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

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
                found[name] = [sorted(column[1:] for column in columns), keys, "AUTOINCREMENT" in made]
            else:
                columns = connection.execute(f"PRAGMA index_info({name})").fetchall()
                unique = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
                found[name] = [[column[2] for column in columns], unique.startswith("CREATE UNIQUE")]
        return json.dumps(found, indent=1, default=str)
    finally:
        connection.close()
