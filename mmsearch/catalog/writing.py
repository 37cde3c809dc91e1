"""What a transaction on the catalog is made of."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from mmsearch.catalog.rows import OF_A_PART, FailureRow, NewContent, NewMedia
from mmsearch.catalog.schema import content, embedded, embedding, failure, media, profile, revision, segment

PART = 5_000
FIRST_DRAWS = 2**31
"""Below this lie the draws of first segments, from here on those of all others."""
REVISIONS = 10_000
"""How many past states are remembered: an index that is further behind is rebuilt."""


def insert_contents(connection: Connection, contents: Sequence[NewContent], profile_id: int, embedded_by: str) -> None:
    """Write contents with their segments, vectors and paths, each in place of what the profile has under its hash.

    A part that isn't the first of its content is added to it instead, if it is the one that comes next.
    """
    unique = _expected(connection, contents, profile_id)
    rows = [{"hash": digest, "modality": new.modality.value} for (digest, _), new in unique.items()]
    if not rows:
        return
    inserted = replacing(content, ["hash"], rows[0]).returning(content.c.hash, content.c.id)
    ids = {row.hash: row.id for row in connection.execute(inserted, rows)}
    done = [
        {"content_id": ids[digest], "profile_id": profile_id, "key": embedded_by, "resume_s": new.resume_s}
        for (digest, _), new in unique.items()
    ]
    connection.execute(replacing(embedded, ["content_id", "profile_id"], done[0]), done)
    for part in parts(ids[digest] for digest, from_s in unique if from_s == 0):
        mine = (segment.c.content_id.in_(part), segment.c.profile_id == profile_id)
        connection.execute(delete(segment).where(*mine))
    owners = [(new, number, piece) for new in unique.values() for number, piece in enumerate(new.segments)]
    segments = [
        {
            "content_id": ids[new.hash],
            "start_s": _milliseconds(piece.start_s),
            "end_s": _milliseconds(piece.end_s),
            "text": _storable(piece.text),
            "silent": piece.silent,
            "profile_id": profile_id,
        }
        for new, _, piece in owners
    ]
    segment_ids: Sequence[int] = ()
    if segments:
        returning = insert(segment).returning(segment.c.id, sort_by_parameter_order=True)
        segment_ids = connection.execute(returning, segments).scalars().all()
    vectors = [
        {
            "segment_id": segment_id,
            "space_id": space_id,
            "view": view.value,
            "modality": new.modality.value,
            "draw": _draw(new.hash, new.from_s, number),
            "vector": vector.astype("<f2").tobytes(),
        }
        for segment_id, (new, number, piece) in zip(segment_ids, owners, strict=True)
        for (space_id, view), vector in piece.vectors.items()
    ]
    if vectors:
        connection.execute(insert(embedding), vectors)
    named = [new for new in contents if new.hash in ids]
    point(connection, {name: ids[new.hash] for new in named for name in new.names})
    forget_failures(connection, (name.path for new in named if new.from_s == 0 for name in new.names))


def _expected(
    connection: Connection, contents: Sequence[NewContent], profile_id: int
) -> dict[tuple[bytes, float], NewContent]:
    """Return what is to be written: of a content that two tasks met under two names, each part once and in order."""
    known: dict[bytes, float | None] = {}
    for part in parts(new.hash for new in contents if new.from_s):
        begun = (content.c.hash.in_(part), embedded.c.profile_id == profile_id)
        stored = select(content.c.hash, embedded.c.resume_s).join_from(content, embedded).where(*begun)
        known |= {row.hash: row.resume_s for row in connection.execute(stored)}
    wanted: dict[tuple[bytes, float], NewContent] = {}
    for new in contents:
        if new.from_s == 0 or known.get(new.hash) == new.from_s:
            known[new.hash] = new.resume_s
            wanted[new.hash, new.from_s] = new
    return wanted


def replacing(table: Table, unique: Sequence[str], columns: Iterable[str]) -> Insert:
    """Return the statement that writes rows of these columns, each in place of the one with the same `unique` ones."""
    statement = upsert(table)
    changed = {name: statement.excluded[name] for name in columns if name not in unique}
    return statement.on_conflict_do_update(index_elements=unique, set_=changed)


def _storable(text: str | None) -> str | None:
    """Return a text as UTF-8 can hold it: a byte of a file's name that isn't UTF-8 is escaped."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _draw(digest: bytes, from_s: float, number: int) -> int:
    """Return the place in a sample of the n-th segment of a content's part: first segments come before any other."""
    place = zlib.crc32(f"{from_s}:{number}".encode() if from_s else number.to_bytes(4, "little"), zlib.crc32(digest))
    return place >> 1 if number == 0 and not from_s else (place >> 1) + FIRST_DRAWS


def point(connection: Connection, names: Mapping[NewMedia, int]) -> None:
    """Make paths name contents."""
    if not names:
        return
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
    connection.execute(replacing(media, ["path"], rows[0]), rows)


def carry_failures(connection: Connection, names: Mapping[NewMedia, int]) -> None:
    """Give paths the failure that a part of their content has under any path, and forget their own."""
    partial: dict[int, Any] = {}
    for part in parts(set(names.values())):
        held = select(media.c.content_id, failure.c.stage, failure.c.reason, failure.c.version).join_from(
            media, failure, media.c.path == failure.c.path
        )
        of_parts = (media.c.content_id.in_(part), failure.c.stage.in_(OF_A_PART))
        partial |= {row.content_id: row for row in connection.execute(held.where(*of_parts))}
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
    """Write failures, each in place of an earlier one of the same path."""
    if not failures:
        return
    rows = [
        {"path": f.path, "stage": f.stage, "reason": _storable(f.reason), "stamp": f.stamp, "version": f.version}
        for f in failures
    ]
    connection.execute(replacing(failure, ["path"], rows[0]), rows)


def forget_failures(connection: Connection, paths: Iterable[bytes]) -> None:
    """Delete the failures of paths."""
    for part in parts(paths):
        connection.execute(delete(failure).where(failure.c.path.in_(part)))


def drop_orphans(connection: Connection) -> int:
    """Delete contents that no path names, and by cascade their segments and embeddings; return how many."""
    named = select(media.c.id).where(media.c.content_id == content.c.id).correlate(content).exists()
    return connection.execute(delete(content).where(~named)).rowcount


def take_out(connection: Connection, paths: Iterable[bytes]) -> int:
    """Delete paths and their failures; return how many were media."""
    removed = 0
    for part in parts(paths):
        removed += connection.execute(delete(media).where(media.c.path.in_(part))).rowcount
        forget_failures(connection, part)
    return removed


def raise_revision(connection: Connection, profile_id: int) -> None:
    """Note that a profile's embeddings changed: no other state of it, nor of any other, goes by the same number."""
    row = {"token": secrets.randbits(62) + 1, "profile_id": profile_id}
    newest = int(connection.execute(insert(revision).values(row).returning(revision.c.id)).scalar_one())
    past = (revision.c.id <= newest - REVISIONS, revision.c.profile_id == profile_id)
    connection.execute(delete(revision).where(*past))


def raise_every_revision(connection: Connection, profile_id: int) -> None:
    """Note that the embeddings of every profile changed; this one may not be registered yet."""
    for each in {profile_id, *connection.execute(select(profile.c.id)).scalars()}:
        raise_revision(connection, each)


def parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Cut values into lists that one statement can compare with; SQLite takes at most 32,766."""
    rest = iter(values)
    while part := list(islice(rest, PART)):
        yield part
