"""The steps of write transactions on the catalog."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from mmsearch.catalog.checksums import (
    MODULUS,
    checked,
    count_in,
    delete_rows,
    embedded_checksum,
)
from mmsearch.catalog.facts import facts_row
from mmsearch.catalog.rows import OF_A_PART, FailureRow, NewContent, NewMedia, StoredSegment, StoredVector
from mmsearch.catalog.schema import content, embedded, failure, file_facts, media, profile, revision, segment
from mmsearch.catalog.segments import delete_segments, insert_segments, storable
from mmsearch.records import FileFacts

PART = 5_000
FIRST_DRAWS = 2**31
"""Sample keys of first segments are below this, those of all other segments are not."""
REVISIONS = 10_000
"""Number of past revisions that are kept; an index that is further behind is rebuilt."""


def insert_contents(connection: Connection, contents: Sequence[NewContent], profile_id: int, embedded_by: str) -> None:
    """Write contents with their segments, vectors and paths. Each replaces the model's earlier content of its hash.

    A later part is added to its content instead, if it is the one that comes next, and otherwise ignored.
    """
    unique, begun = _expected(connection, contents, profile_id)
    rows = [{"hash": digest, "modality": new.modality.value} for (digest, _), new in unique.items()]
    if not rows:
        return
    inserted = replacing(content, ["hash"], rows[0]).returning(content.c.hash, content.c.id)
    ids = {row.hash: row.id for row in connection.execute(inserted, rows)}
    for part in parts(ids[digest] for digest, from_s in unique if from_s == 0):
        delete_segments(connection, segment.c.content_id.in_(part), segment.c.profile_id == profile_id)
    pieces = ((ids[new.hash], new.modality, piece) for new in unique.values() for piece in _stored(new))
    sums = insert_segments(connection, pieces, profile_id)
    put_facts(connection, {ids[new.hash]: new.facts for new in unique.values() if new.facts is not None})
    embedded_rows: list[dict[str, Any]] = []
    for (digest, from_s), new in unique.items():
        base = 0 if from_s == 0 else begun[digest]
        begun[digest] = base if base is None else (base + sums.pop(ids[digest], 0)) % MODULUS
        state = (ids[digest], digest, new.modality.value, profile_id, embedded_by, new.resume_s)
        embedded_rows.append(embedded_row(*state, begun[digest]))
    connection.execute(replacing(embedded, ["content_id", "profile_id"], embedded_rows[0]), embedded_rows)
    written = [new for new in contents if new.hash in ids]
    point(connection, {name: ids[new.hash] for new in written for name in new.names})
    forget_failures(connection, (name.path for new in written if new.from_s == 0 for name in new.names))


def _stored(new: NewContent) -> Iterator[StoredSegment]:
    """Yield the segments of a content with their vectors in stored form."""
    for number, piece in enumerate(new.segments):
        draw = _sample_key(new.hash, new.from_s, number)
        views = piece.views.items()
        yield piece.with_views(tuple(StoredVector(space_id, view, draw, vector) for (space_id, view), vector in views))


def embedded_row(
    content_id: int,
    digest: bytes,
    modality: str,
    profile_id: int,
    embedded_by: str,
    resume_s: float | None,
    made: int | None,
) -> dict[str, Any]:
    """Return the row of `embedded` for a content and a model, with its checksum, which covers hash and modality.

    `made` is the sum of the checksums of the content's segments and embeddings, None if those of an older catalog
    aren't recorded yet.
    """
    head = embedded_checksum(content_id, digest, modality, profile_id, embedded_by, resume_s)
    return {
        "content_id": content_id,
        "profile_id": profile_id,
        "key": embedded_by,
        "resume_s": resume_s,
        "checksum": None if made is None else (made + head) % MODULUS,
    }


def _expected(
    connection: Connection, contents: Sequence[NewContent], profile_id: int
) -> tuple[dict[tuple[bytes, float], NewContent], dict[bytes, int | None]]:
    """Return the parts to be written: each part once and in order, even if two tasks decoded the same content.

    Also returns, for contents that were begun earlier, the sum of the checksums of their segments and embeddings.
    """
    known: dict[bytes, float | None] = {}
    begun: dict[bytes, int | None] = {}
    columns = (content.c.id, content.c.hash, content.c.modality, embedded.c.key, embedded.c.resume_s)
    for part in parts(new.hash for new in contents if new.from_s):
        own = (content.c.hash.in_(part), embedded.c.profile_id == profile_id)
        stored = select(*columns, embedded.c.checksum).join_from(content, embedded).where(*own)
        for row in connection.execute(stored):
            known[row.hash] = row.resume_s
            head = embedded_checksum(row.id, row.hash, row.modality, profile_id, row.key, row.resume_s)
            begun[row.hash] = None if row.checksum is None else (row.checksum - head) % MODULUS
    wanted: dict[tuple[bytes, float], NewContent] = {}
    for new in contents:
        if new.from_s == 0 or known.get(new.hash) == new.from_s:
            known[new.hash] = new.resume_s
            wanted[new.hash, new.from_s] = new
    return wanted, begun


def replacing(table: Table, unique: Sequence[str], columns: Iterable[str]) -> Insert:
    """Return a statement that writes rows of these columns; each replaces a row with the same `unique` columns."""
    statement = upsert(table)
    changed = {name: statement.excluded[name] for name in columns if name not in unique}
    return statement.on_conflict_do_update(index_elements=unique, set_=changed)


def _sample_key(digest: bytes, from_s: float, number: int) -> int:
    """Return a segment's pseudo-random sort key in samples; first segments of contents come before all others."""
    key = zlib.crc32(f"{from_s}:{number}".encode() if from_s else number.to_bytes(4, "little"), zlib.crc32(digest))
    return key >> 1 if number == 0 and not from_s else (key >> 1) + FIRST_DRAWS


def point(connection: Connection, names: Mapping[NewMedia, int]) -> None:
    """Assign paths to contents."""
    rows = [
        {
            "path": name.path,
            "content_id": content_id,
            "size_bytes": name.size_bytes,
            "mtime_ns": name.mtime_ns,
            "sidecars": name.sidecars,
            "device": name.device,
        }
        for name, content_id in names.items()
    ]
    put(connection, media, rows)


def put_facts(connection: Connection, facts: Mapping[int, FileFacts]) -> None:
    """Write the facts of contents by the contents' ids."""
    put(connection, file_facts, [facts_row(content_id, values) for content_id, values in facts.items()], "content_id")


def put(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: str = "path") -> None:
    """Write rows of a table with a tally; each replaces a row with the same key. Of equal keys, the last row counts."""
    by_key = {row[key]: checked(table, row) for row in rows}
    if not by_key:
        return
    replaced: list[int | None] = []
    for part in parts(by_key):
        replaced += connection.execute(select(table.c.checksum).where(table.c[key].in_(part))).scalars()
    count_in(connection, table, replaced, [row["checksum"] for row in by_key.values()])
    whole = list(by_key.values())
    connection.execute(replacing(table, [key], whole[0]), whole)


def carry_failures(connection: Connection, names: Mapping[NewMedia, int]) -> None:
    """Replace the failures of paths by those that parts of their contents have under other paths."""
    partial: dict[int, Any] = {}
    for part in parts(set(names.values())):
        recorded = select(media.c.content_id, failure.c.stage, failure.c.reason, failure.c.version).join_from(
            media, failure, media.c.path == failure.c.path
        )
        of_parts = (media.c.content_id.in_(part), failure.c.stage.in_(OF_A_PART))
        partial |= {row.content_id: row for row in connection.execute(recorded.where(*of_parts))}
    forget_failures(connection, (name.path for name in names))
    record_failures(
        connection,
        [
            FailureRow(name.path, row.stage, row.reason, name.stamp, row.version)
            for name, content_id in names.items()
            if (row := partial.get(content_id)) is not None
        ],
    )


def record_failures(connection: Connection, failures: Sequence[FailureRow]) -> None:
    """Write failures; each replaces an earlier one of the same path."""
    rows = [
        {"path": f.path, "stage": f.stage, "reason": storable(f.reason), "stamp": f.stamp, "version": f.version}
        for f in failures
    ]
    put(connection, failure, rows)


def forget_failures(connection: Connection, paths: Iterable[bytes]) -> None:
    """Delete the failures of paths."""
    for part in parts(paths):
        delete_rows(connection, failure, failure.c.path.in_(part))


def drop_orphans(connection: Connection) -> int:
    """Delete contents without a path, with their segments, vectors and facts; return their number."""
    has_path = select(media.c.id).where(media.c.content_id == content.c.id).correlate(content).exists()
    orphans = connection.execute(select(content.c.id).where(~has_path)).scalars().all()
    for part in parts(orphans):
        delete_segments(connection, segment.c.content_id.in_(part))
        delete_rows(connection, file_facts, file_facts.c.content_id.in_(part))
        connection.execute(delete(content).where(content.c.id.in_(part)))
    return len(orphans)


def take_out(connection: Connection, paths: Iterable[bytes]) -> int:
    """Delete paths and their failures; return the number of deleted media."""
    removed = 0
    for part in parts(paths):
        removed += delete_rows(connection, media, media.c.path.in_(part))
        forget_failures(connection, part)
    return removed


def raise_revision(connection: Connection, profile_id: int) -> None:
    """Record that a model's embeddings have changed: the new revision number is unique over all models and states."""
    row = checked(revision, {"token": secrets.randbits(62) + 1, "profile_id": profile_id})
    newest = int(connection.execute(insert(revision).values(row).returning(revision.c.id)).scalar_one())
    past = (revision.c.id <= newest - REVISIONS, revision.c.profile_id == profile_id)
    connection.execute(delete(revision).where(*past))


def raise_every_revision(connection: Connection, profile_id: int) -> None:
    """Record that the embeddings of every model have changed, also of this one, which may not be registered yet."""
    for known_id in {profile_id, *connection.execute(select(profile.c.id)).scalars()}:
        raise_revision(connection, known_id)


def parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Split values into lists for the parameters of one statement, of which SQLite accepts at most 32,766."""
    remaining = iter(values)
    while part := list(islice(remaining, PART)):
        yield part
