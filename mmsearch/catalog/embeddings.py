"""The reading side of the catalog: segments and their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BindParameter, ScalarSelect, bindparam, func, select

from mmsearch.catalog.database import Part
from mmsearch.catalog.rows import CaptionRow, Embeddings, Ids, SegmentRow, check_types
from mmsearch.catalog.schema import content, embedding, media, revision, segment, space, text
from mmsearch.catalog.segments import COLUMNS, FIELDS, kinds_of_fields, texts_of
from mmsearch.catalog.writing import FIRST_DRAWS, parts
from mmsearch.records import Origin, Text
from mmsearch.types import Modality, View

SAMPLE_FLOOR = 32
"""How many vectors a sample has at least, if there are so many."""
NORM_TOLERANCE = 0.02
"""How far a vector's length may be from 1: half precision takes less than a thousandth."""
_VIEWS = frozenset(view.value for view in View)
_MODALITIES = frozenset(modality.value for modality in Modality)
_KINDS = kinds_of_fields()
_SOME: BindParameter[Any] = bindparam("some", expanding=True)


class EmbeddingReader(Part):
    """Reads what a profile has embedded."""

    @property
    def revision(self) -> int:
        """A random number that is another after every change of the profile's embeddings; 0 before the first.

        An index of another revision is stale, and one of a revision that this profile never had here (the catalog was
        restored from a copy, or made anew) isn't to be trusted at all: see `had_revision`.
        """
        mine = revision.c.profile_id == self.profile_id
        with self._read() as connection:
            latest = select(revision.c.token).where(mine).order_by(revision.c.id.desc()).limit(1)
            return int(connection.execute(latest).scalar() or 0)

    def had_revision(self, token: int) -> bool:
        """Return whether the profile's embeddings were ever of this revision."""
        where = (revision.c.token == token, revision.c.profile_id == self.profile_id)
        with self._read() as connection:
            return token == 0 or connection.execute(select(revision.c.id).where(*where)).first() is not None

    def space_id(self, name: str, fingerprint: str, dim: int) -> int | None:
        """Return the id under which a space's embeddings stand, None if there are none."""
        where = (space.c.name == name, space.c.fingerprint == fingerprint, space.c.dim == dim)
        with self._read() as connection:
            mine = select(space.c.id).where(*where, space.c.profile_id == self.profile_id)
            return connection.execute(mine).scalar()

    def segment_ids(self, content_id: int) -> list[int]:
        """Return the ids of a content's segments."""
        mine = (segment.c.content_id == content_id, segment.c.profile_id == self.profile_id)
        with self._read() as connection:
            return list(connection.execute(select(segment.c.id).where(*mine)).scalars())

    def count_segments(self) -> int:
        """Return how many segments there are."""
        mine = segment.c.profile_id == self.profile_id
        with self._read() as connection:
            return connection.execute(select(func.count()).select_from(segment).where(mine)).scalar_one()

    def embedding_ids(self, space_id: int, view: View) -> Ids:
        """Return the sorted ids of a view's embeddings in a space."""
        query = select(embedding.c.id).where(embedding.c.space_id == space_id, embedding.c.view == view)
        with self._read() as connection:
            ids = np.fromiter((row[0] for row in connection.execute(query)), dtype=np.int64)
        return np.sort(ids)

    def vectors(self, ids: Ids, dim: int) -> tuple[Ids, NDArray[np.float32]]:
        """Return those of the sorted ids whose vectors are there and sound, and these, (n, dim) float32."""
        query = select(embedding.c.id, embedding.c.vector).where(embedding.c.id.in_(_SOME))
        found: list[tuple[int, bytes]] = []
        with self._read() as connection:
            for part in parts(ids.tolist()):
                found += [(row.id, row.vector) for row in connection.execute(query, {"some": part})]
        found.sort()
        sound, vectors = self._unpack([row[1] for row in found], dim)
        return np.asarray([row[0] for row in found], np.int64)[sound], vectors

    def embeddings_of(self, segment_ids: Iterable[int], space_id: int, dim: int) -> Embeddings:
        """Return every view of these segments in a space."""
        query = select(embedding.c.id, embedding.c.segment_id, embedding.c.view, embedding.c.vector).where(
            embedding.c.segment_id.in_(_SOME), embedding.c.space_id == space_id
        )
        with self._read() as connection:
            rows = [row for part in parts(segment_ids) for row in connection.execute(query, {"some": part})]
            rows = [row for row in rows if row.view in _VIEWS]
            sound, vectors = self._unpack([row.vector for row in rows], dim)
            return Embeddings(
                ids=np.asarray([row.id for row in rows], np.int64)[sound],
                segment_ids=np.asarray([row.segment_id for row in rows], np.int64)[sound],
                views=tuple(View(rows[i].view) for i in np.flatnonzero(sound).tolist()),
                vectors=vectors,
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
        return self._unpack([row.vector for row in rows], dim)[1]

    def segment_counts(self, content_ids: Iterable[int]) -> dict[int, int]:
        """Return how many segments each of these contents has."""
        owner = segment.c.content_id
        mine = (owner.in_(_SOME), segment.c.profile_id == self.profile_id)
        query = select(owner, func.count()).where(*mine).group_by(owner)
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

    def contents_of(self, segment_ids: Iterable[int]) -> dict[int, int]:
        """Return the content of each of these segments that exists."""
        query = select(segment.c.id, segment.c.content_id).where(segment.c.id.in_(_SOME))
        with self._read() as connection:
            return {
                row.id: row.content_id
                for part in parts(segment_ids)
                for row in connection.execute(query, {"some": part})
            }

    def segment_rows(self, segment_ids: Iterable[int]) -> dict[int, SegmentRow]:
        """Return these segments, without their texts, with their contents and paths."""
        columns = (segment.c.id, content.c.id, content.c.modality, first_path().label("path"), *COLUMNS)
        query = select(*columns).join_from(segment, content).where(segment.c.id.in_(_SOME))
        with self._read() as connection:
            rows = [row for part in parts(segment_ids) for row in connection.execute(query, {"some": part})]
            check_types(rows, int, int, None, (bytes, None), *_KINDS)
            return {
                number: SegmentRow(
                    None,
                    id=number,
                    content_id=content_id,
                    modality=Modality(modality),
                    path=path,
                    **dict(zip(FIELDS, fields, strict=True)),
                )
                for number, content_id, modality, path, *fields in rows
                if path is not None and modality in _MODALITIES  # a path removed while we read; a damaged row
            }

    def texts_of(self, segment_ids: Iterable[int]) -> dict[int, tuple[Text, ...]]:
        """Return the texts of these segments, of those that have any."""
        with self._read() as connection:
            found: dict[int, tuple[Text, ...]] = {}
            for part in parts(segment_ids):
                found |= texts_of(connection, text.c.segment_id.in_(part))
            return found

    def captions(self) -> list[CaptionRow]:
        """Return what is written of each picture, sound and clip of which anything is: its first text, by path.

        Of a clip, what describes the whole goes before what is said in one of its moments.
        """
        columns = (text.c.id, segment.c.content_id, content.c.modality, text.c.words, text.c.origin)
        query = (
            select(*columns, first_path().label("path"))
            .join_from(text, segment)
            .join(content)
            .where(segment.c.profile_id == self.profile_id, content.c.modality != Modality.TEXT)
        )
        with self._read() as connection:
            rows = [row for row in connection.execute(query) if row.path is not None]
            check_types(rows, int, int, None, str, str, bytes)
            found: dict[int, CaptionRow] = {}
            for row in sorted(rows, key=lambda row: (row.origin != Origin.CAPTION, row.id)):
                found.setdefault(row.content_id, CaptionRow(row.path, Modality(row.modality), row.words))
        return sorted(found.values(), key=lambda row: row.path)

    def _unpack(self, blobs: Sequence[bytes], dim: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which of n stored vectors are sound, (n,) bool, and those as (m, dim) float32.

        One of NaN would be the best answer to everything, or make every score one; so what isn't of norm 1 is left out.
        """
        sizes = {len(blob) if isinstance(blob, bytes) else -1 for blob in blobs}
        sound = np.ones(len(blobs), np.bool_)
        if not sizes <= {2 * dim}:
            sound = np.asarray([isinstance(blob, bytes) and len(blob) == 2 * dim for blob in blobs], np.bool_)
            blobs = [blobs[i] for i in np.flatnonzero(sound).tolist()]
        vectors = np.frombuffer(b"".join(blobs), "<f2").reshape(len(blobs), dim).astype(np.float32)
        usable = has_unit_norm(vectors)
        if not usable.all():
            sound[np.flatnonzero(sound)[~usable]] = False
            vectors = vectors[usable]
        if not sound.all():
            self._database.warn(
                f"{self._database.file} holds damaged vectors, which are left out; run 'mmsearch index' to mend it"
            )
        return sound, vectors


def has_unit_norm(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return of each row of (n, dim) whether it is finite and of norm 1, as well as half precision can hold that."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    low, high = (1 - NORM_TOLERANCE) ** 2, (1 + NORM_TOLERANCE) ** 2
    return np.asarray((squares >= low) & (squares <= high), np.bool_)  # NaN and infinity are neither


def first_path() -> ScalarSelect[Any]:
    """Return the query for the first path, in byte order, of the content at hand; null where it has none any more."""
    own = select(func.min(media.c.path)).where(media.c.content_id == content.c.id)
    return own.correlate(content).scalar_subquery()
