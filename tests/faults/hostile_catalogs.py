"""Catalogs as somebody else may have made them: other schemas and settings, every column and every vector twisted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from twist import CATALOG, PLAIN, Twist


def _sql(statements: str, *, library: Path) -> None:
    with closing(sqlite3.connect(library / CATALOG)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA writable_schema = ON")
        connection.executescript(statements)
        connection.commit()


def _run_sql(statements: str, library: Path, _outside: Path) -> None:
    _sql(statements, library=library)


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
SCHEMAS = {
    "of a later version": "PRAGMA user_version = 99",
    "of a version below zero": "PRAGMA user_version = -3",
    "of version 1, but isn't": "PRAGMA user_version = 1",
    "another program's": "DROP TABLE embedding; DROP TABLE segment; CREATE TABLE cookies (id INTEGER, value TEXT)",
    "without media": "DROP TABLE media",
    "without settings": "DROP TABLE setting",
    "without revisions": "DROP TABLE revision",
    "without a column": "ALTER TABLE text DROP COLUMN language",
    "media is a view": "ALTER TABLE media RENAME TO hidden; CREATE VIEW media AS SELECT * FROM hidden",
    "media is an endless view": "ALTER TABLE media RENAME TO hidden; CREATE VIEW media AS "
    f"{_ENDLESS} i AS id, 'x' AS path, i AS content_id, 1 AS size_bytes, 1 AS mtime_ns, '' AS sidecars, '1' AS device"
    " FROM n",
    "embedding is an endless view": "ALTER TABLE embedding RENAME TO hidden; CREATE VIEW embedding AS "
    f"{_ENDLESS} i AS id, 1 AS segment_id, 1 AS space_id, 'visual' AS view, 'image' AS modality, 1 AS draw,"
    " zeroblob(128) AS vector FROM n",
    "setting is an endless view": "ALTER TABLE setting RENAME TO hidden; CREATE VIEW setting AS "
    f"{_ENDLESS} 'profile' AS key, '1' AS value FROM n",
    "a trigger that deletes": "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM media; DELETE FROM content; END",
    "a trigger that refuses": "CREATE TRIGGER t BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'no'); END",
    "a trigger without an end": "CREATE TRIGGER t AFTER INSERT ON run BEGIN INSERT INTO run (started) "
    f"{_ENDLESS} i FROM n; END",
    "a table that nobody knows": "CREATE TABLE odd (id INTEGER); INSERT INTO odd VALUES (1)",
    "a broken schema": "UPDATE sqlite_master SET sql = 'CREATE TABLE media (' WHERE name = 'media'",
    "a root page that isn't there": "UPDATE sqlite_master SET rootpage = 999999 WHERE name = 'embedding'",
    "two tables in one place": "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = "
    "'media') WHERE name = 'content'",
}
_HUGE = "printf('%.*c', 30000000, 'x')"
SETTINGS = {
    "profile is no number": "UPDATE setting SET value = 'x' WHERE key = 'profile'",
    "profile isn't there": "UPDATE setting SET value = '77' WHERE key = 'profile'",
    "profile is below zero": "UPDATE setting SET value = '-1' WHERE key = 'profile'",
    "profile is too large": "UPDATE setting SET value = '99999999999999999999999' WHERE key = 'profile'",
    "profile is bytes": "UPDATE setting SET value = x'ff00' WHERE key = 'profile'",
    "no profile": "DELETE FROM profile",
    "change is no number": "INSERT INTO setting (key, value) VALUES ('change', 'x')",
    "change isn't there": "INSERT INTO setting (key, value) VALUES ('change', '55')",
    "a name from a hub": "UPDATE profile SET name = 'hf-hub:anybody/anything', pins = '[\"hf-hub:anybody/anything\"]'",
    "a pin from a hub": "UPDATE profile SET pins = '[\"hf-hub:anybody/anything#0123456789abcdef\"]'",
    "a published pin": "UPDATE profile SET pins = '[\"ViT-B-32/openai\"]'",
    "a pin that is a folder": "UPDATE profile SET pins = '[\"local-dir:/\"]'",
    "a pin that is a device": "UPDATE profile SET pins = '[\"ViT-B-32:/dev/zero\"]'",
    "an adapted pin that climbs": "UPDATE profile SET pins = '[\"adapted:../../..\"]'",
    "an adapted pin that isn't there": "UPDATE profile SET pins = '[\"adapted:0123456789abcdef\"]'",
    "an unknown pin": "UPDATE profile SET pins = '[\"no such model\"]'",
    "pins that aren't JSON": "UPDATE profile SET pins = '{'",
    "pins that are an object": "UPDATE profile SET pins = '{\"a\": 1}'",
    "pins that are numbers": "UPDATE profile SET pins = '[1, 2]'",
    "pins that are null": "UPDATE profile SET pins = 'null'",
    "no pins": "UPDATE profile SET pins = '[]'",
    "deep pins": "UPDATE profile SET pins = printf('%.*c', 200000, '[')",
    "many pins": f"UPDATE profile SET pins = '[' || replace({_HUGE}, 'x', '\"mini\",') || '\"mini\"]'",
    "a long name": f"UPDATE profile SET name = {_HUGE}",
    "a name that steers": "UPDATE profile SET name = char(27) || '[31mred' || char(10) || 'x', pins = '[\"x\"]'",
    "pins that are bytes": "UPDATE profile SET pins = x'fffe'",
}
COLUMNS = {
    "space.dim": ("0", "-1", "1000000000", "'x'", "63", "9223372036854775807"),
    "space.fingerprint": ("'other'", "x'ff'", _HUGE),
    "content.modality": ("'nonsense'", "x'ff'", "''"),
    "content.hash": ("randomblob(3)", "'text' || id"),
    "media.path": (
        "'relative' || id",
        "id",
        "'/a' || char(10) || id",
        "x'2f00' || id",
        "'/' || id || printf('%.*c', 99999, 'p')",
    ),
    "media.size_bytes": ("'x'", "-1", "9e99"),
    "media.device": ("x'ff'",),
    "media.content_id": ("777777", "'x'"),
    "segment.start_s": ("'x'", "9e999", "-5.0", "x'ff'"),
    "segment.end_s": ("'x'", "-9e999"),
    "text.words": ("x'ff00'", "7", "printf('%.*c', 200000, 'x')", "char(27) || '[2J'"),
    "segment.silent": ("7", "'x'"),
    "segment.content_id": ("777777",),
    "embedding.view": ("'nonsense'", "x'ff'"),
    "embedding.modality": ("'nonsense'",),
    "embedding.draw": ("'x'", "0"),
    "embedding.segment_id": ("777777",),
    "embedding.space_id": ("777777",),
    "embedding.vector": (
        "x''",
        "x'00'",
        "zeroblob(128)",
        "randomblob(128)",
        "zeroblob(20000000)",
        "'text'",
        "CAST(replace(hex(zeroblob(64)), '00', 'zz') AS BLOB)",
    ),
    "embedded.key": ("'other'", "x'ff'"),
    "embedded.resume_s": ("'x'", "5.0", "-1", "9e999"),
    "revision.token": ("'x'", "-1", "9223372036854775807"),
    "failure.stage": ("'nonsense'", "x'ff'"),
    "failure.reason": ("x'ff'", "char(27) || '[31m' || char(10)", _HUGE),
    "failure.path": ("x'2f' || id", "id"),
}


def catalogs() -> Iterator[Twist]:
    """Yield libraries with another schema, other settings, and values that no run of ours writes."""
    for what, statements in SCHEMAS.items():
        yield Twist(f"the catalog is {what}", partial(_run_sql, statements), PLAIN, answers=False, empty=True)
    for what, statements in SETTINGS.items():
        yield Twist(f"settings: {what}", partial(_run_sql, statements), answers=False)
    for column, values in COLUMNS.items():
        table, _, name = column.partition(".")
        for value in values:
            for rows, where in (("all", ""), ("one", f" WHERE id = (SELECT max(id) FROM {table})")):
                update = f"UPDATE OR IGNORE {table} SET {name} = {value}{where}"
                empty = rows == "all" or table == "space"  # which has one row
                yield Twist(f"{column} is {value[:30]} in {rows}", partial(_run_sql, update), PLAIN, False, empty)
    for moved_to in ("-5", "0", "4611686018427387904", "9223372036854775807"):
        moved = f"UPDATE OR IGNORE embedding SET id = {moved_to} WHERE id = (SELECT max(id) FROM embedding)"
        yield Twist(f"embedding.id is {moved_to} in one", partial(_run_sql, moved), answers=False)
    for what, number in {"not a number": np.nan, "infinite": np.inf, "enormous": 60_000, "tiny": 6e-8}.items():
        for rows in ("all", "one"):
            spoil = partial(_vectors, number, rows)
            yield Twist(f"a vector is {what} in {rows}", spoil, PLAIN, False, empty=rows == "all")
    yield Twist("the catalog is cut in half", _halved, answers=False)
    yield Twist("the catalog is spoiled in its middle", _spoiled, answers=False)


def _vectors(value: float, rows: str, library: Path, _outside: Path) -> None:
    where = "" if rows == "all" else " WHERE id = (SELECT max(id) FROM embedding)"
    blob = np.full(64, value, "<f2").tobytes()
    with closing(sqlite3.connect(library / CATALOG)) as connection:
        connection.execute(f"UPDATE embedding SET vector = ?{where}", (blob,))
        connection.commit()


def _halved(library: Path, _outside: Path) -> None:
    content = (library / CATALOG).read_bytes()
    (library / CATALOG).write_bytes(content[: len(content) // 2])


def _spoiled(library: Path, _outside: Path) -> None:
    content = bytearray((library / CATALOG).read_bytes())
    for at in range(len(content) // 3, len(content), 997):
        content[at] ^= 0x55
    (library / CATALOG).write_bytes(bytes(content))
