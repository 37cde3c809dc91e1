"""What a library holds and which files it consists of, read without mmsearch, so that two libraries can be compared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

CATALOG = "catalog.sqlite"
Entry = tuple[object, ...]
_CONTENT = """
SELECT profile.name, media.path, hex(content.hash), content.modality, media.size_bytes, media.mtime_ns, media.sidecars,
       embedded."key", embedded.resume_s, content.id, profile.id
FROM media JOIN content ON content.id = media.content_id
     LEFT JOIN embedded ON embedded.content_id = content.id LEFT JOIN profile ON profile.id = embedded.profile_id
"""
_VECTORS = """
SELECT segment.content_id, segment.profile_id, segment.id, start_s, end_s, silent, space.name, space.fingerprint,
       (SELECT group_concat(origin || language || ' ' || words, char(0)) FROM text WHERE segment_id = segment.id),
       view, embedding.modality, hex(vector)
FROM segment LEFT JOIN embedding ON embedding.segment_id = segment.id LEFT JOIN space ON space.id = space_id
"""


@dataclass(frozen=True, slots=True)
class State:
    """What a catalog holds: media with all segments and vectors of each model, failures, and the models.

    `loose` counts rows that belong to nothing.
    """

    media: frozenset[Entry]
    failures: frozenset[Entry]
    models: tuple[Entry, ...]
    loose: int

    def differences(self, other: State) -> list[str]:
        """Return what another state lacks, or has more than this one."""
        found = []
        for name in ("media", "failures"):
            mine, others = getattr(self, name), getattr(other, name)
            found += [f"{name} lost: {_shown(entry)}" for entry in sorted(mine - others, key=repr)[:2]]
            found += [f"{name} more: {_shown(entry)}" for entry in sorted(others - mine, key=repr)[:2]]
        if self.models != other.models:
            found.append(f"models: {self.models} became {other.models}")
        if self.loose != other.loose:
            found.append(f"{other.loose} rows belong to nothing, and {self.loose} before")
        return found


EMPTY = State(frozenset(), frozenset(), (), 0)


def read_state(library: Path) -> State:
    """Return what a library holds; the one that no run has touched where there is no catalog yet.

    It is read from a copy: to open a catalog after a crash already changes it. Raises `sqlite3.Error`.
    """
    if not (library / CATALOG).is_file():
        return EMPTY
    with tempfile.TemporaryDirectory() as folder:
        for file in library.glob(f"{CATALOG}*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder, CATALOG))) as connection:
            return _read(connection)


def _read(connection: sqlite3.Connection) -> State:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "media" not in tables or "embedded" not in tables:  # the transaction that makes the tables wasn't committed
        return EMPTY
    (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
    if sound != "ok":
        raise sqlite3.DatabaseError(f"integrity_check: {sound}")
    if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
        raise sqlite3.DatabaseError(f"foreign_key_check: {broken[:3]}")
    segments: dict[tuple[int, int], dict[int, list[object]]] = {}
    for content, profile, segment, *rest in connection.execute(_VECTORS):
        segments.setdefault((content, profile), {}).setdefault(segment, []).append(tuple(rest))
    media = set()
    for *entry, content, profile in connection.execute(_CONTENT):
        own = segments.get((content, profile), {}).values()
        held = sorted(repr(sorted(rows, key=repr)) for rows in own)
        media.add((*entry, hashlib.sha256("\n".join(held).encode()).hexdigest()[:16], len(held)))
    failures = connection.execute("SELECT path, stage, reason, stamp FROM failure").fetchall()
    settings = dict(connection.execute("SELECT key, value FROM setting"))
    known = connection.execute("SELECT id, name, pins FROM profile ORDER BY name").fetchall()
    uses = {settings.get(key): key for key in ("profile", "change")}
    models = tuple((name, pins, uses.get(str(number), "kept")) for number, name, pins in known)
    (loose,) = connection.execute(
        "SELECT (SELECT count(*) FROM content WHERE id NOT IN (SELECT content_id FROM media))"
        " + (SELECT count(*) FROM segment WHERE profile_id NOT IN (SELECT id FROM profile))"
    ).fetchone()
    return State(frozenset(media), frozenset(failures), models, loose)


def _shown(entry: Entry) -> str:
    return " ".join(os.fsdecode(part) if isinstance(part, bytes) else str(part) for part in entry)[:200]


# Files

_NUMBERS = re.compile(r"[0-9a-f]{12,}|\d+")


def shapes(folder: Path) -> Counter[str]:
    """Return every file and folder below a folder, their numbers and digests left out, and how often each occurs."""
    found: Counter[str] = Counter()
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            kind = "@" if path.is_symlink() else "/" if path.is_dir() else ""
            found[_NUMBERS.sub("N", str(path.relative_to(folder))) + kind] += 1
    return found


def unnamed(library: Path) -> list[str]:
    """Return the files of indexes that no manifest names, and folders of indexes that the catalog doesn't know."""
    stray = []
    for manifest in library.glob("indexes/*/*/*/manifest.json"):
        fields = json.loads(manifest.read_text("utf-8"))
        named = {file["name"] for file in (*fields["generations"], fields["deleted"]) if file} | {manifest.name}
        stray += [str(file.relative_to(library)) for file in manifest.parent.iterdir() if file.name not in named]
    with closing(sqlite3.connect(library / CATALOG)) as connection:
        profiles = connection.execute("SELECT id, name FROM profile").fetchall()
    numbers, adapted = {str(number) for number, _ in profiles}, {name.partition(":")[2] for _, name in profiles}
    for folder, known in (("indexes", numbers), ("adapted", adapted)):
        made = [file for file in library.glob(f"{folder}/*") if file.is_dir()]
        stray += [f"{folder}/{file.name}" for file in made if file.name not in known]
    return sorted(stray)


def digest_of(folder: Path) -> str:
    """Return a digest of every file below a folder: name, content, size and time."""
    known = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        known.update(f"{file.relative_to(folder)} {file.stat().st_mtime_ns}\n".encode() + file.read_bytes())
    return known.hexdigest()
