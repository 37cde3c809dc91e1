"""Reads the embedded contents of one model, and writes them as another model's, without decoding any file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import select

from mmsearch.catalog.database import Part
from mmsearch.catalog.embeddings import first_path
from mmsearch.catalog.rows import StoredContent, StoredSegment, StoredVector
from mmsearch.catalog.schema import content, embedded, embedding, segment
from mmsearch.catalog.segments import delete_segments, insert_segments, segments_where
from mmsearch.catalog.writing import embedded_row, raise_revision, replacing
from mmsearch.types import Modality, View

_PAGE = 64
"""Number of contents that are read and written together; a film has a thousand segments."""


class Copier(Part):
    """Reads contents with this model's segments and vectors, and writes such contents as this model's."""

    def stored(self) -> Iterator[list[StoredContent]]:
        """Yield the contents that the model has embedded completely, in the order of their ids, page by page."""
        last = 0
        columns = (content.c.id, content.c.hash, content.c.modality, first_path().label("path"))
        whole = (embedded.c.profile_id == self.profile_id, embedded.c.resume_s.is_(None))
        query = select(*columns).join_from(content, embedded).where(*whole).order_by(content.c.id).limit(_PAGE)
        while True:
            with self._read() as connection:
                rows = connection.execute(query.where(content.c.id > last)).all()
            segments = self._segments([row.id for row in rows])
            yield [
                StoredContent(row.id, row.hash, Modality(row.modality), row.path, tuple(segments.get(row.id, ())))
                for row in rows
            ]
            if len(rows) < _PAGE:
                return
            last = rows[-1].id

    def _segments(self, content_ids: Sequence[int]) -> dict[int, list[StoredSegment]]:
        own = (segment.c.content_id.in_(content_ids), segment.c.profile_id == self.profile_id)
        vectors: dict[int, list[StoredVector]] = {}
        segments: dict[int, list[StoredSegment]] = {}
        columns = (embedding.c.segment_id, embedding.c.space_id, embedding.c.view, embedding.c.draw, embedding.c.vector)
        with self._read() as connection:
            for row in connection.execute(select(*columns).join_from(embedding, segment).where(*own)):
                vector = StoredVector(row.space_id, View(row.view), row.draw, np.frombuffer(row.vector, "<f2"))
                vectors.setdefault(row.segment_id, []).append(vector)
            for number, content_id, piece in segments_where(connection, *own):
                segments.setdefault(content_id, []).append(piece.with_views(tuple(vectors.get(number, ()))))
        return segments

    def embedded_by(self, key: str) -> set[int]:
        """Return the ids of the contents that the model has embedded completely under this key."""
        whole = (embedded.c.profile_id == self.profile_id, embedded.c.key == key, embedded.c.resume_s.is_(None))
        with self._read() as connection:
            return set(connection.execute(select(embedded.c.content_id).where(*whole)).scalars())

    def copy_in(self, contents: Sequence[StoredContent], embedded_by: str) -> None:
        """Write contents as embedded by this model, in one transaction; they replace its earlier segments."""
        if not contents:
            return
        model = self.profile_id
        with self._write() as connection:
            ids = [stored.id for stored in contents]
            delete_segments(connection, segment.c.content_id.in_(ids), segment.c.profile_id == model)
            pieces = ((stored.id, stored.modality, piece) for stored in contents for piece in stored.segments)
            sums = insert_segments(connection, pieces, model)
            rows = [
                embedded_row(c.id, c.hash, c.modality.value, model, embedded_by, None, sums.get(c.id, 0))
                for c in contents
            ]
            connection.execute(replacing(embedded, ["content_id", "profile_id"], rows[0]), rows)
            raise_revision(connection, model)
