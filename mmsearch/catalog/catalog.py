"""The catalog: what a library holds, vectors included. The single source of truth; every index is a cache of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BindParameter, Connection, Engine, Select, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from mmsearch.catalog import schema
from mmsearch.catalog.rows import Embeddings, FailureRow, Ids, Known, MediaRow, NewContent, NewMedia, SegmentRow
from mmsearch.catalog.schema import content, embedding, failure, media, revision, run, segment, setting, space
from mmsearch.catalog.writing import (
    FIRST_DRAWS,
    PART,
    carry_failures,
    drop_orphans,
    forget_failures,
    insert_contents,
    parts,
    point,
    raise_revision,
    record_failures,
    take_out,
)
from mmsearch.errors import CatalogError
from mmsearch.types import Modality, View

_SOME: BindParameter[Any] = bindparam("some", expanding=True)
SAMPLE_FLOOR = 32
"""How many vectors a sample has at least, if there are so many."""


class Catalog:
    """The catalog of one library. Reads may run beside one writer; the library's lock sees that there is one."""

    def __init__(self, file: Path, *, create: bool = False) -> None:
        self._file = file
        self._engine = schema.connect(file, create=create)
        self._closed = False

    def close(self) -> None:
        """Close every connection; the catalog can't be used afterwards."""
        self._closed = True
        self._engine.dispose()

    def _opened(self) -> Engine:
        if self._closed:
            raise CatalogError(f"{self._file} was closed; open the library again")
        return self._engine

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with schema.mapped_errors(self._file), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with schema.mapped_errors(self._file), self._opened().begin() as connection:
            yield connection

    # What belongs to the library as a whole

    @property
    def profile(self) -> str | None:
        """The name of the library's profile, None in a new one."""
        with self._read() as connection:
            return connection.execute(select(setting.c.value).where(setting.c.key == "profile")).scalar()

    def set_profile(self, name: str) -> str:
        """Keep the profile's name, unless one is kept already; return the one that is."""
        with self._write() as connection:
            connection.execute(upsert(setting).values(key="profile", value=name).on_conflict_do_nothing())
            return str(connection.execute(select(setting.c.value).where(setting.c.key == "profile")).scalar_one())

    @property
    def revision(self) -> int:
        """A random number that is another after every change of embeddings; 0 before the first.

        An index of another revision is stale, and one of a revision that this catalog never had (it was restored from
        a copy, or made anew) isn't to be trusted at all: see `had_revision`.
        """
        with self._read() as connection:
            latest = select(revision.c.token).order_by(revision.c.id.desc()).limit(1)
            return int(connection.execute(latest).scalar() or 0)

    def had_revision(self, token: int) -> bool:
        """Return whether the catalog was ever of this revision."""
        with self._read() as connection:
            known = connection.execute(select(revision.c.id).where(revision.c.token == token)).first()
            return token == 0 or known is not None

    def space_id(self, name: str, fingerprint: str, dim: int) -> int | None:
        """Return the id under which a space's embeddings stand, None if there are none."""
        where = (space.c.name == name, space.c.fingerprint == fingerprint, space.c.dim == dim)
        with self._read() as connection:
            return connection.execute(select(space.c.id).where(*where)).scalar()

    def add_space(self, name: str, fingerprint: str, dim: int) -> int:
        """Return the id of a space, registering it if it is new."""
        known = self.space_id(name, fingerprint, dim)
        if known is not None:
            return known
        with self._write() as connection:
            row = {"name": name, "fingerprint": fingerprint, "dim": dim}
            return int(connection.execute(insert(space).values(row).returning(space.c.id)).scalar_one())

    # Media and contents

    def media_at(self, paths: Iterable[bytes]) -> dict[bytes, MediaRow]:
        """Return the rows of those paths that the catalog knows."""
        with self._read() as connection:
            query = _media().where(media.c.path.in_(_SOME))
            return {
                row.path: MediaRow(*row) for part in parts(paths) for row in connection.execute(query, {"some": part})
            }

    def media_under(self, root: bytes) -> Iterator[MediaRow]:
        """Yield the media at a path, and those below it in byte order of their paths."""
        yield from self.media_at([root]).values()
        last, end = _span(root)
        query = _media().where(media.c.path > bindparam("last"), media.c.path < end).order_by(media.c.path).limit(PART)
        while True:
            with self._read() as connection:
                rows = [MediaRow(*row) for row in connection.execute(query, {"last": last})]
            yield from rows
            if len(rows) < PART:
                return
            last = rows[-1].path

    def next_media_id(self) -> int:
        """Return an id above that of every media row there is: rows of this id and above are newer than now."""
        with self._read() as connection:
            return int(connection.execute(select(func.max(media.c.id))).scalar() or 0) + 1

    def content_with_hash(self, digest: bytes) -> int | None:
        """Return the id of the content that goes by a hash, None if the library doesn't hold it."""
        with self._read() as connection:
            return connection.execute(select(content.c.id).where(content.c.hash == digest)).scalar()

    def segment_ids(self, content_id: int) -> list[int]:
        """Return the ids of a content's segments."""
        with self._read() as connection:
            return list(connection.execute(select(segment.c.id).where(segment.c.content_id == content_id)).scalars())

    def contents_by_hash(self, hashes: Iterable[bytes], embedded_by: str) -> dict[bytes, Known]:
        """Return those contents that the catalog holds, embedded by this profile key."""
        query = select(content.c.hash, content.c.id, content.c.modality, content.c.resume_s).where(
            content.c.hash.in_(_SOME), content.c.embedded_by == embedded_by
        )
        with self._read() as connection:
            rows = (row for part in parts(hashes) for row in connection.execute(query, {"some": part}))
            return {row.hash: Known(row.id, Modality(row.modality), row.resume_s) for row in rows}

    def commit(
        self,
        contents: Sequence[NewContent],
        embedded_by: str,
        failures: Sequence[FailureRow] = (),
        gone: Iterable[bytes] = (),
    ) -> None:
        """Write contents, their segments and vectors, their paths, and failures, in one transaction.

        Paths that are `gone` are taken out first; their contents stay until `drop_orphans`.
        """
        with self._write() as connection:
            take_out(connection, gone)
            insert_contents(connection, contents, embedded_by)
            record_failures(connection, failures)
            if contents:
                raise_revision(connection)

    def point(self, names: Mapping[NewMedia, int]) -> None:
        """Make paths name contents that the catalog already holds (a rename, a copy, a touched file)."""
        with self._write() as connection:
            carry_failures(connection, names)
            point(connection, names)

    def remove(self, paths: Iterable[bytes]) -> int:
        """Take paths and their failures out of the catalog; return how many were media.

        Their contents stay until `drop_orphans`, for another path of the same run may still name them.
        """
        with self._write() as connection:
            return take_out(connection, paths)

    def drop_orphans(self) -> None:
        """Delete contents that no path names any more, with their segments and vectors."""
        with self._write() as connection:
            if drop_orphans(connection):
                raise_revision(connection)

    # Failures and runs

    def failures_at(self, paths: Iterable[bytes]) -> dict[bytes, FailureRow]:
        """Return the recorded failures of those paths that have one."""
        query = _failures().where(failure.c.path.in_(_SOME))
        with self._read() as connection:
            rows = (row for part in parts(paths) for row in connection.execute(query, {"some": part}))
            return {row.path: FailureRow(*row) for row in rows}

    def failures_under(self, root: bytes | None = None) -> list[FailureRow]:
        """Return the recorded failures at a path or below a folder, or all of them, by path."""
        query = _failures().order_by(failure.c.path)
        if root is not None:
            first, end = _span(root)
            query = query.where(or_(failure.c.path == root, (failure.c.path > first) & (failure.c.path < end)))
        with self._read() as connection:
            return [FailureRow(*row) for row in connection.execute(query)]

    def forget_failures(self, paths: Iterable[bytes]) -> None:
        """Delete the failures of paths; what the library holds of them stays."""
        with self._write() as connection:
            forget_failures(connection, paths)

    def start_run(self) -> int:
        """Note that a run began; return its id."""
        with self._write() as connection:
            return int(connection.execute(insert(run).values(started=_now()).returning(run.c.id)).scalar_one())

    def end_run(self, run_id: int, report: str) -> None:
        """Note that a run ended, with its report as JSON."""
        with self._write() as connection:
            connection.execute(update(run).where(run.c.id == run_id).values(ended=_now(), report=report))

    # Embeddings

    def embedding_ids(self, space_id: int, view: View, modalities: Iterable[Modality] | None = None) -> Ids:
        """Return the sorted ids of a view's embeddings in a space, of all modalities or of these."""
        query = select(embedding.c.id).where(embedding.c.space_id == space_id, embedding.c.view == view)
        if modalities is not None:
            query = query.where(embedding.c.modality.in_(sorted(modalities)))
        with self._read() as connection:
            ids = np.fromiter((row[0] for row in connection.execute(query)), dtype=np.int64)
        return np.sort(ids)

    def vectors(self, ids: Ids, dim: int) -> tuple[Ids, NDArray[np.float32]]:
        """Return those of the sorted ids that exist, and their vectors, (n, dim) float32."""
        query = select(embedding.c.id, embedding.c.vector).where(embedding.c.id.in_(_SOME))
        found: list[tuple[int, bytes]] = []
        with self._read() as connection:
            for part in parts(ids.tolist()):
                found += [(row.id, row.vector) for row in connection.execute(query, {"some": part})]
        found.sort()
        return np.asarray([row[0] for row in found], np.int64), self._unpack([row[1] for row in found], dim)

    def embeddings_of(self, segment_ids: Iterable[int], space_id: int, dim: int) -> Embeddings:
        """Return every view of these segments in a space."""
        query = select(embedding.c.id, embedding.c.segment_id, embedding.c.view, embedding.c.vector).where(
            embedding.c.segment_id.in_(_SOME), embedding.c.space_id == space_id
        )
        with self._read() as connection:
            rows = [row for part in parts(segment_ids) for row in connection.execute(query, {"some": part})]
        return Embeddings(
            ids=np.asarray([row.id for row in rows], np.int64),
            segment_ids=np.asarray([row.segment_id for row in rows], np.int64),
            views=tuple(View(row.view) for row in rows),
            vectors=self._unpack([row.vector for row in rows], dim),
        )

    def sample(self, space_id: int, view: View, size: int, dim: int) -> NDArray[np.float32]:
        """Return up to `size` vectors of a view, chosen by the hash of their content: (n, dim) float32.

        The choice depends on what the library holds and not on when it was put there. Every content gives one, so that
        a book isn't the measure of all notes; only where that makes fewer than `SAMPLE_FLOOR` do some give more.
        """
        query = select(embedding.c.vector).where(embedding.c.space_id == space_id, embedding.c.view == view)
        if view is View.AUDIO:  # silences are all alike and would be the measure of everything else
            query = query.join_from(embedding, segment).where(segment.c.silent.is_(False))
        ordered = query.order_by(embedding.c.draw)
        with self._read() as connection:
            rows = connection.execute(ordered.where(embedding.c.draw < FIRST_DRAWS).limit(size)).all()
            if len(rows) < SAMPLE_FLOOR:
                rows = connection.execute(ordered.limit(min(size, SAMPLE_FLOOR))).all()
        return self._unpack([row.vector for row in rows], dim)

    def has_other(self, space_id: int, view: View, modalities: Iterable[Modality]) -> bool:
        """Return whether a view has embeddings of contents that are of none of these modalities."""
        query = select(embedding.c.id).where(
            embedding.c.space_id == space_id, embedding.c.view == view, embedding.c.modality.not_in(sorted(modalities))
        )
        with self._read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def segment_counts(self, content_ids: Iterable[int]) -> dict[int, int]:
        """Return how many segments each of these contents has."""
        owner = segment.c.content_id
        query = select(owner, func.count()).where(owner.in_(_SOME)).group_by(owner)
        with self._read() as connection:
            return {i: n for part in parts(content_ids) for i, n in connection.execute(query, {"some": part})}

    def segments_of(self, embedding_ids: Iterable[int]) -> dict[int, int]:
        """Return the segment of each of these embeddings that exists."""
        query = select(embedding.c.id, embedding.c.segment_id).where(embedding.c.id.in_(_SOME))
        with self._read() as connection:
            return {
                row.id: row.segment_id
                for part in parts(embedding_ids)
                for row in connection.execute(query, {"some": part})
            }

    def segment_rows(self, segment_ids: Iterable[int]) -> dict[int, SegmentRow]:
        """Return these segments with their contents and paths."""
        first_path = (
            select(func.min(media.c.path))
            .where(media.c.content_id == content.c.id)
            .correlate(content)
            .scalar_subquery()
        )
        query = (
            select(
                segment.c.id,
                content.c.id.label("content_id"),
                content.c.modality,
                first_path.label("path"),
                segment.c.start_s,
                segment.c.end_s,
                segment.c.text,
                segment.c.silent,
            )
            .join_from(segment, content)
            .where(segment.c.id.in_(_SOME))
        )
        with self._read() as connection:
            rows = (row for part in parts(segment_ids) for row in connection.execute(query, {"some": part}))
            return {
                row.id: SegmentRow(row.id, row.content_id, Modality(row.modality), *row[3:])
                for row in rows
                if row.path is not None  # a path removed while we read
            }

    # Counts

    def count_media(self) -> dict[Modality, int]:
        """Return how many files of each modality the library holds."""
        query = select(content.c.modality, func.count()).select_from(media.join(content)).group_by(content.c.modality)
        with self._read() as connection:
            counts = {modality: count for modality, count in connection.execute(query)}
        return {modality: counts.get(modality, 0) for modality in Modality}

    def count_segments(self) -> int:
        """Return how many segments the library holds."""
        with self._read() as connection:
            return connection.execute(select(func.count()).select_from(segment)).scalar_one()

    def count_outdated(self, embedded_by: str) -> int:
        """Return how many files were embedded under another profile key and can't be found until re-embedded."""
        other = or_(content.c.embedded_by < embedded_by, content.c.embedded_by > embedded_by)  # "!=" uses no index
        query = select(func.count()).select_from(media.join(content)).where(other)
        with self._read() as connection:
            return connection.execute(query).scalar_one()

    def count_unfinished(self) -> int:
        """Return how many files were decoded to some part and not to their end."""
        query = select(func.count()).select_from(media.join(content)).where(content.c.resume_s.is_not(None))
        with self._read() as connection:
            return connection.execute(query).scalar_one()

    def _unpack(self, blobs: Sequence[bytes], dim: int) -> NDArray[np.float32]:
        try:
            return np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), dim).astype(np.float32)
        except ValueError as error:
            raise CatalogError(f"{self._file}: a vector has the wrong length; rebuild with 'mmsearch index'") from error


def _media() -> Select[Any]:
    columns = (
        media.c.id,
        media.c.path,
        media.c.content_id,
        media.c.size_bytes,
        media.c.mtime_ns,
        media.c.sidecars,
        media.c.device,
        content.c.embedded_by,
        content.c.resume_s,
    )
    return select(*columns).join_from(media, content)


def _failures() -> Select[Any]:
    return select(failure.c.path, failure.c.stage, failure.c.reason, failure.c.stamp, failure.c.version)


def _span(root: bytes) -> tuple[bytes, bytes]:
    """Return the bounds between which, both exclusive, the paths below a folder lie in byte order."""
    separator = os.fsencode(os.sep)
    folder = root.rstrip(separator)
    return folder + separator, folder + bytes([separator[0] + 1])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
