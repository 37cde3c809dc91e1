"""Finds rows of a catalog that have changed since they were written, and references to missing rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from sqlalchemy import Table

from mmsearch.catalog.checksums import (
    MODULUS,
    covered,
    embedded_checksum,
    embedding_checksum,
    row_checksum,
    segment_checksum,
    text_checksum,
)
from mmsearch.catalog.embeddings import has_unit_norm
from mmsearch.catalog.fulltext import is_in_step
from mmsearch.catalog.opening import LONGEST_VALUE, real_file
from mmsearch.catalog.schema import TALLIED, failure, file_facts, media, profile, revision, root, run, setting, space
from mmsearch.errors import CatalogError
from mmsearch.types import Modality, View

SINGLE = (setting, profile, space, root, media, file_facts, failure, revision, run)
"""The tables with a checksum in each row, in the order of their repair."""
_PAGE = 64
"""Number of contents that are checked together; a film has a thousand segments."""
_MAX_VECTOR_BYTES = 2**17
"""A longer vector belongs to no space and isn't read: a hostile catalog may hold gigabytes there."""
_MAX_COMPLAINTS = 20
"""Number of problems that SQLite's integrity check reports."""
_VIEWS = frozenset(view.value for view in View)
_MODALITIES = frozenset(modality.value for modality in Modality)

_DANGLING = {
    "media": "SELECT id FROM media WHERE content_id NOT IN (SELECT id FROM content)",
    "file_facts": "SELECT id FROM file_facts WHERE content_id NOT IN (SELECT id FROM content)",
    "embedded": "SELECT id FROM embedded WHERE content_id NOT IN (SELECT id FROM content) "
    "OR profile_id NOT IN (SELECT id FROM profile)",
    "segment": "SELECT id FROM segment AS s WHERE NOT EXISTS "
    "(SELECT 1 FROM embedded AS e WHERE e.content_id = s.content_id AND e.profile_id = s.profile_id)",
    "text": "SELECT id FROM text WHERE segment_id NOT IN (SELECT id FROM segment)",
    "embedding": "SELECT id FROM embedding WHERE segment_id NOT IN (SELECT id FROM segment) "
    "OR space_id NOT IN (SELECT id FROM space)",
}
"""Queries for the rows of each table that refer to a missing row."""
_SEGMENTS = "SELECT s.* FROM segment AS s"
_TEXTS = "SELECT t.*, s.content_id, s.profile_id FROM segment AS s JOIN text AS t ON t.segment_id = s.id"
_UNNAMED = "SELECT id FROM content WHERE id NOT IN (SELECT content_id FROM media)"
_UNMADE = "SELECT id FROM content WHERE id NOT IN (SELECT content_id FROM embedded)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking one content of one model; `computed` is the checksum of its current rows."""

    embedded_id: int
    content_id: int
    profile_id: int
    stored: int | None
    computed: int
    bad_vectors: int

    @property
    def sound(self) -> bool:
        """Whether the content is unchanged since it was written, and its vectors have norm 1."""
        return self.stored == self.computed and not self.bad_vectors


@dataclass(slots=True)
class Faults:
    """The faults of a catalog; all fields are empty if there are none."""

    file: list[str] = field(default_factory=list)
    """Damage of the file's structure, as reported by SQLite; if there is any, nothing else is checked."""
    unrecorded: bool = False
    """Whether an older version wrote the catalog, so that its checksums aren't recorded yet."""
    rows: dict[str, list[Any]] = field(default_factory=dict)
    """The keys of changed rows, by table."""
    tallies: dict[str, int] = field(default_factory=dict)
    """Tables with a wrong tally, and the number of lost rows; negative if there are too many rows."""
    contents: set[tuple[int, int]] = field(default_factory=set)
    """(content id, profile id) of embedded contents that have changed since they were written."""
    bad_vectors: int = 0
    """Number of vectors that aren't finite, don't have norm 1, or have a wrong length or view."""
    dangling: dict[str, list[int]] = field(default_factory=dict)
    """The ids of rows that refer to a missing row, by table."""
    full_text: bool = False
    """Whether the full-text index differs from the texts."""
    unnamed: list[int] = field(default_factory=list)
    """Contents without a path: the next run drops them."""
    unmade: list[int] = field(default_factory=list)
    """Contents that no model has embedded."""
    no_profile: bool = False
    """Whether the library has no current model."""

    def __bool__(self) -> bool:
        """Return whether there is any fault; `unrecorded` alone is none."""
        wrong = (self.file, self.rows, self.tallies, self.contents, self.dangling, self.unnamed, self.unmade)
        return any(map(bool, wrong)) or self.no_profile or self.full_text


def find_faults(file: Path) -> Faults:
    """Check a whole catalog: its structure, every row and every reference. Raises `CatalogError`.

    This takes about 30 s for a million pictures.
    """
    faults = Faults()
    with reading(file) as connection:
        faults.file = file_faults(connection)
        if faults.file:
            return faults
        faults.unrecorded = is_unrecorded(connection)
        for table in SINGLE if not faults.unrecorded else ():
            if keys := [key for key, stored, computed in row_checksums(connection, table) if stored != computed]:
                faults.rows[table.name] = keys
        for verdict in verdicts(connection):
            if verdict.bad_vectors or not (verdict.sound or faults.unrecorded):
                faults.contents.add((verdict.content_id, verdict.profile_id))
                faults.bad_vectors += verdict.bad_vectors
        if not faults.unrecorded:
            faults.tallies = _wrong_tallies(connection)
        for name, query in _DANGLING.items():
            if ids := _ids(connection, query):
                faults.dangling[name] = ids
        faults.unnamed, faults.unmade = _ids(connection, _UNNAMED), _ids(connection, _UNMADE)
        faults.full_text = not is_in_step(connection)
        faults.no_profile = _lacks_profile(connection)
    return faults


def file_faults(connection: sqlite3.Connection) -> list[str]:
    """Return the problems that SQLite finds in a file's pages, tables and indexes."""
    try:
        lines = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_MAX_COMPLAINTS})")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if lines == ["ok"] else lines


def is_unrecorded(connection: sqlite3.Connection) -> bool:
    """Return whether a catalog has no checksums yet, neither in a tally nor in any row."""
    some = "SELECT EXISTS (SELECT 1 FROM tally) OR EXISTS (SELECT 1 FROM embedded WHERE checksum IS NOT NULL)"
    return not connection.execute(some).fetchone()[0]


def row_checksums(connection: sqlite3.Connection, table: Table) -> Iterator[tuple[Any, int | None, int]]:
    """Yield for each row of a table its key, its stored checksum and the one computed from its values."""
    key = next(iter(table.primary_key.columns)).name
    columns = covered(table)
    for first, stored, *values in connection.execute(_select(table.name, key, "checksum", *columns)):
        yield first, stored, row_checksum(table, values)


def verdicts(connection: sqlite3.Connection) -> Iterator[Verdict]:
    """Yield a verdict for each content and each model that has embedded it, in the order of content ids."""
    dims = {key: dim for key, dim in connection.execute("SELECT id, dim FROM space") if isinstance(dim, int)}
    last = -(2**63)
    page = "SELECT DISTINCT content_id FROM embedded WHERE content_id > ? ORDER BY content_id LIMIT ?"
    while ids := [row[0] for row in connection.execute(page, (last, _PAGE)) if isinstance(row[0], int)]:
        yield from _checked_page(connection, ids[0], ids[-1], dims)
        last = ids[-1]


def _checked_page(connection: sqlite3.Connection, first: int, last: int, dims: dict[int, int]) -> Iterator[Verdict]:
    span = (first, last)
    sums: dict[tuple[int, int], int] = {}
    for share, query in ((segment_checksum, _SEGMENTS), (text_checksum, _TEXTS)):
        for row in _rows(connection, f"{query} WHERE s.content_id BETWEEN ? AND ?", span):
            owner = (row["content_id"], row["profile_id"])
            sums[owner] = sums.get(owner, 0) + _or_zero(share, row)
    embeddings = (
        "SELECT m.id, m.segment_id, m.space_id, m.view, m.modality, m.draw, "
        "CASE WHEN length(m.vector) <= ? THEN m.vector END AS vector, s.content_id, s.profile_id "
        "FROM segment AS s JOIN embedding AS m ON m.segment_id = s.id WHERE s.content_id BETWEEN ? AND ?"
    )
    rows = list(_rows(connection, embeddings, (_MAX_VECTOR_BYTES, *span)))
    bad: dict[tuple[int, int], int] = {}
    for row, sound in zip(rows, _sound(rows, dims), strict=True):
        owner = (row["content_id"], row["profile_id"])
        sums[owner] = sums.get(owner, 0) + _or_zero(embedding_checksum, row)
        bad[owner] = bad.get(owner, 0) + (not sound)
    heads = (
        "SELECT e.id, e.content_id, c.hash, c.modality, e.profile_id, e.key, e.resume_s, e.checksum "
        "FROM embedded AS e LEFT JOIN content AS c ON c.id = e.content_id WHERE e.content_id BETWEEN ? AND ?"
    )
    for key, content_id, digest, modality, profile_id, made_by, resume_s, stored in connection.execute(heads, span):
        owner = (content_id, profile_id)
        head = embedded_checksum(content_id, digest, modality, profile_id, made_by, resume_s)
        computed = (head + sums.get(owner, 0)) % MODULUS
        wrong = bad.get(owner, 0) + (modality not in _MODALITIES)
        yield Verdict(key, content_id, profile_id, stored, computed, wrong)


def _or_zero(share: Any, row: dict[str, Any]) -> int:  # noqa: ANN401  either of two functions over a row
    """Return a row's share in a checksum, 0 for a row with values of unexpected types."""
    try:
        return int(share(row))
    except (TypeError, ValueError):
        return 0


def _sound(rows: Sequence[dict[str, Any]], dims: dict[int, int]) -> list[bool]:
    """Return for each embedding whether its view is known and its vector has the right length and norm 1."""
    sound = [False] * len(rows)
    by_dim: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        dim, vector = dims.get(row["space_id"], -1), row["vector"]
        if row["view"] in _VIEWS and isinstance(vector, bytes) and len(vector) == 2 * dim:
            by_dim.setdefault(dim, []).append(i)
    for dim, numbers in by_dim.items():
        halves = np.frombuffer(b"".join(rows[i]["vector"] for i in numbers), "<f2").reshape(len(numbers), dim)
        for i, is_unit in zip(numbers, has_unit_norm(halves.astype(np.float32)).tolist(), strict=True):
            sound[i] = is_unit
    return sound


def _wrong_tallies(connection: sqlite3.Connection) -> dict[str, int]:
    known = {name: (rows, total) for name, rows, total in connection.execute("SELECT name, rows, total FROM tally")}
    wrong = {}
    for name in TALLIED:
        checksums = [row[0] for row in connection.execute(_select(name, "checksum"))]
        total = sum(value for value in checksums if isinstance(value, int)) % MODULUS
        rows, expected = known.get(name, (len(checksums), None))
        if (rows, expected) != (len(checksums), total):
            wrong[name] = rows - len(checksums) if isinstance(rows, int) else 0
    return wrong


def _lacks_profile(connection: sqlite3.Connection) -> bool:
    """Return whether there is no current model, although something was embedded."""
    answering = "SELECT 1 FROM setting JOIN profile ON profile.id = CAST(value AS INTEGER) WHERE key = 'profile'"
    if connection.execute(answering).fetchone():
        return False
    return connection.execute("SELECT 1 FROM profile UNION SELECT 1 FROM embedded").fetchone() is not None


def _ids(connection: sqlite3.Connection, query: str) -> list[int]:
    return [row[0] for row in connection.execute(query)]


def _rows(connection: sqlite3.Connection, query: str, values: Sequence[int]) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _select(table: str, *columns: str) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return f'SELECT {names} FROM "{table}"'


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing catalog read-only, without migrating it. Raises `CatalogError`.

    Text that is no longer valid UTF-8 can be read as well.
    """
    try:
        with closing(open_as_it_is(file)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise CatalogError(f"{file}: {error}; run 'mmsearch doctor --repair'") from error


def open_as_it_is(file: Path) -> sqlite3.Connection:
    """Open a database read-only. On a read-only disk, SQLite's auxiliary files aren't needed.

    Raises `CatalogError` if it isn't a regular file: reading a pipe would never end.
    """
    uri = f"file:{quote(str(real_file(file).absolute()))}"
    try:
        connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=30)
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection
