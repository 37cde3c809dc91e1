"""Libraries as somebody else may have made them: every file replaced, every column of the catalog twisted.

A maker changes a copy of a good library. `Twist.answers` says what a query may still answer: nothing may be made up,
and what the twist doesn't concern is found as before.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

CATALOG = "catalog.sqlite"
PLAIN, ADAPTED, NEW = "plain", "adapted", "new"
Make = Callable[[Path, Path], None]
"""What changes a library; the second folder is somebody's own, and must stay as it is."""


@dataclass(frozen=True, slots=True)
class Twist:
    """One hostile library or model folder: `base` is the good library that it was, or none yet."""

    name: str
    make: Make
    base: str = PLAIN
    answers: bool = True
    """Whether a query that succeeds must answer as the good library does; else a part of that will do."""
    empty: bool = False
    """Whether a query may find nothing until the next index run, for that is what every row of the catalog says."""


# Files replaced


def _replace(path: Path, put: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.aside"))
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path)


def _socket(path: Path) -> None:
    at = Path.cwd()
    os.chdir(path.parent)  # a socket's path may be but 107 bytes long
    try:
        with closing(socket.socket(socket.AF_UNIX)) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(at)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


SUBSTITUTES: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "a socket": _socket,
    "nothing in it": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(1).bytes(20_000)),
    "3 GB of zeros": _sparse,
}
FILES = (
    "catalog.sqlite",
    "catalog.sqlite-wal",
    "catalog.sqlite-shm",
    "write.lock",
    "indexes",
    "indexes/1",
    "indexes/1/*",
    "indexes/1/*/visual",
    "indexes/1/*/text/manifest.json",
    "indexes/1/*/text/base-*.faiss",
    "indexes/1/*/audio/manifest.json",
    "indexes/1/*/visual.bank.npz",
    "adapted",
)
ADAPTED_FILES = ("adapted/*", "adapted/*/spec.json", "adapted/*/heads.npz")


def _one(library: Path, pattern: str) -> Path:
    if "*" not in pattern:
        return library / pattern
    return min(found for found in library.glob(pattern) if not found.name.startswith("."))


def replaced() -> Iterator[Twist]:
    """Yield libraries in which something else is where a file or a folder should be."""
    for base, patterns in ((PLAIN, FILES), (ADAPTED, ADAPTED_FILES)):
        for pattern in patterns:
            for what, put in SUBSTITUTES.items():
                make = partial(_substituted, pattern, put)
                yield Twist(f"{pattern} is {what}", make, base, answers=pattern != CATALOG)
    for pattern in (*FILES, *ADAPTED_FILES):
        base = ADAPTED if pattern in ADAPTED_FILES else PLAIN
        yield Twist(f"{pattern} is a link to a user's folder", partial(_linked, pattern), base)


def _substituted(pattern: str, put: Callable[[Path], object], library: Path, _outside: Path) -> None:
    _replace(_one(library, pattern), put)


def _linked(pattern: str, library: Path, outside: Path) -> None:
    _replace(_one(library, pattern), lambda path: path.symlink_to(outside))


# The catalog


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


# Manifests, archives, heads

MANIFESTS: dict[str, Callable[[dict[str, object]], object]] = {
    "another dim": lambda fields: {**fields, "dim": 63},
    "an enormous dim": lambda fields: {**fields, "dim": 10**12},
    "a later format": lambda fields: {**fields, "format": 99},
    "a revision that is text": lambda fields: {**fields, "revision": "x"},
    "an enormous serial": lambda fields: {**fields, "serial": 10**30},
    "a serial below zero": lambda fields: {**fields, "serial": -7},
    "no generations": lambda fields: {**fields, "generations": []},
    "generations that are text": lambda fields: {**fields, "generations": "abc"},
    "a generation twice": lambda fields: {**fields, "generations": [*fields["generations"], *fields["generations"]]},  # type: ignore[misc]
    "a name that climbs": lambda fields: _named(fields, "../../../../../outside/canary"),
    "an absolute name": lambda fields: _named(fields, "/dev/zero"),
    "a name that is empty": lambda fields: _named(fields, ""),
    "a name that is long": lambda fields: _named(fields, "x" * 100_000),
    "a count below zero": lambda fields: _counted(fields, -1),
    "an enormous count": lambda fields: _counted(fields, 2**62),
    "a list": lambda fields: [fields],
    "null": lambda _fields: None,
    "a number": lambda _fields: 7,
    "more than is known": lambda fields: {**fields, "more": {"deep": [1] * 10}},
}


def _named(fields: dict[str, object], name: str) -> dict[str, object]:
    return {**fields, "generations": [{**file, "name": name} for file in fields["generations"]]}  # type: ignore[attr-defined]


def _counted(fields: dict[str, object], count: int) -> dict[str, object]:
    return {**fields, "generations": [{**file, "count": count} for file in fields["generations"]]}  # type: ignore[attr-defined]


def _manifest(change: Callable[[dict[str, object]], object], library: Path, _outside: Path) -> None:
    file = _one(library, "indexes/1/*/text/manifest.json")
    file.write_text(json.dumps(change(json.loads(file.read_text("utf-8")))), "utf-8")


def _deep(library: Path, _outside: Path) -> None:
    _one(library, "indexes/1/*/text/manifest.json").write_bytes(b'{"a":' * 200_000)


@cache
def npz_bomb(size_bytes: int) -> bytes:
    """Return an archive of zeros that unpacks to so many bytes."""
    file = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (size_bytes // 4,)})
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w1.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(size_bytes // 2**20):
            member.write(bytes(2**20))
    return file.getvalue()


def _pickled(value: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, w1=np.asarray([value], dtype=object), format=np.asarray(3))
    return file.getvalue()


def _saved(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


class _Lure:
    """Would make a folder if anybody unpickled it."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("unpickled",)


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a bomb": lambda: npz_bomb(3 * 2**30),
    "pickled": lambda: _pickled(_Lure()),
    "empty arrays": lambda: _saved(
        vectors=np.zeros((0, 0)), stds=np.zeros(0), numbers=np.zeros(0), format=np.asarray(3)
    ),
    "texts": lambda: _saved(
        vectors=np.asarray(["x"] * 5), stds=np.asarray("y"), numbers=np.asarray("z"), format=np.asarray(3)
    ),
    "not numbers": lambda: _saved(
        marks=np.asarray([1]),
        numbers=np.full(5, np.nan),
        stds=np.full(512, np.nan),
        format=np.asarray(3),
        vectors=np.full((512, 64), np.nan, np.float16),
    ),
    "other shapes": lambda: _saved(
        marks=np.asarray([1]),
        numbers=np.ones(50),
        stds=np.ones((3, 3)),
        vectors=np.ones((7, 7, 7), np.float16),
        format=np.asarray(3),
    ),
    "half an archive": lambda: _saved(vectors=np.ones(9000))[:5000],
}
SPECS: dict[str, Callable[[dict[str, object]], object]] = {
    "towers from a hub": lambda spec: {**spec, "towers": dict.fromkeys(("text", "visual", "audio"), "hf-hub:any/body")},
    "towers that are folders": lambda spec: {
        **spec,
        "towers": dict.fromkeys(("text", "visual", "audio"), "local-dir:/"),
    },
    "towers of itself": lambda spec: {
        **spec,
        "towers": dict.fromkeys(("text", "visual", "audio"), f"adapted:{spec.get('fingerprint', '')}"),
    },
    "no towers": lambda spec: {**spec, "towers": {}},
    "towers that are a list": lambda spec: {**spec, "towers": ["mini"]},
    "an unknown view": lambda spec: {**spec, "towers": {"smell": "hashing"}},
    "another dim": lambda spec: {**spec, "dim": 63},
    "an enormous dim": lambda spec: {**spec, "dim": 10**9},
    "a dim that is text": lambda spec: {**spec, "dim": "x"},
    "another digest": lambda spec: {
        name: "0" * 32 if name in ("heads", "digest", "fingerprint") else value for name, value in spec.items()
    },
    "a list": lambda spec: [spec],
    "null": lambda _spec: None,
    "nothing": lambda _spec: {},
}


def archives() -> Iterator[Twist]:
    """Yield libraries whose manifests, archives of arrays and adapted spaces are crafted."""
    for what, change in MANIFESTS.items():
        # A manifest that leaves out whole files is sound by itself; only `doctor` compares it with the catalog.
        yield Twist(f"a manifest with {what}", partial(_manifest, change), answers=what != "no generations")
    yield Twist("a manifest that is deep", _deep)
    for what, make in ARCHIVES.items():
        yield Twist(f"visual.bank.npz holds {what}", partial(_written, "indexes/1/*/visual.bank.npz", make))
        yield Twist(f"text.bank.npz holds {what}", partial(_written, "indexes/1/*/text.bank.npz", make))
        yield Twist(f"heads.npz holds {what}", partial(_written, "adapted/*/heads.npz", make), ADAPTED)
    for what, change in SPECS.items():
        yield Twist(f"an adapted space with {what}", partial(_spec, change), ADAPTED)


def _written(pattern: str, make: Callable[[], bytes], library: Path, _outside: Path) -> None:
    folder, _, name = pattern.rpartition("/")
    (_one(library, folder) / name).write_bytes(make())


def _spec(change: Callable[[dict[str, object]], object], library: Path, _outside: Path) -> None:
    file = _one(library, "adapted/*/spec.json")
    file.write_text(json.dumps(change(json.loads(file.read_text("utf-8")))), "utf-8")


# Model folders


def models() -> Iterator[Twist]:
    """Yield hostile model folders, each beside a library that isn't there yet."""
    if find_spec("hostile_models") is None:
        return
    for name, make in import_module("hostile_models").hostile_models():
        yield Twist(f"model: {name}", partial(_model, make), NEW)


def _model(make: Callable[[Path], object], library: Path, _outside: Path) -> None:
    folder = library.parent / "model"
    folder.mkdir()
    make(folder)


def twists() -> list[Twist]:
    """Return every hostile library and model folder."""
    return [*replaced(), *catalogs(), *archives(), *models()]
