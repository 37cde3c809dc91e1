"""A catalog that caches its rows, for many queries in a row that each rank everything."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress

import numpy as np

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.database import Part
from mmsearch.catalog.rows import Embeddings, SegmentRow
from mmsearch.types import View


class CachedCatalog(Catalog):
    """A read-only view of a catalog that keeps the segments and vectors of earlier queries in memory.

    A vector takes four bytes per dimension. Later changes aren't noticed; compare `revision` with the catalog's own.
    """

    def __init__(self, catalog: Catalog) -> None:
        Part.__init__(self, catalog._database, catalog.profile_id)
        self._first_revision = catalog.revision
        self._space_ids: dict[tuple[str, str, int], int | None] = {}
        self._segment_of: dict[int, int] = {}
        self._rows: dict[int, SegmentRow] = {}
        self._embeddings: dict[int, Embeddings] = {}
        self._looked_up: dict[int, set[int]] = {}

    @property
    def revision(self) -> int:
        """The catalog's revision when the cache was created."""
        return self._first_revision

    def space_id(self, name: str, fingerprint: str, dim: int) -> int | None:
        """Return the id of a space, None if it has no embeddings."""
        key = (name, fingerprint, dim)
        if key not in self._space_ids:
            self._space_ids[key] = super().space_id(*key)
        return self._space_ids[key]

    def segments_of(self, embedding_ids: Iterable[int]) -> dict[int, int]:
        """Return the segment of each existing embedding."""
        wanted = list(embedding_ids)
        if missing := [i for i in wanted if i not in self._segment_of]:
            self._segment_of |= super().segments_of(missing)
        return {i: self._segment_of[i] for i in wanted if i in self._segment_of}

    def segment_rows(self, segment_ids: Iterable[int]) -> dict[int, SegmentRow]:
        """Return these segments with their contents and paths."""
        wanted = list(segment_ids)
        if missing := [i for i in wanted if i not in self._rows]:
            self._rows |= super().segment_rows(missing)
        return {i: self._rows[i] for i in wanted if i in self._rows}

    def embeddings_of(self, segment_ids: Iterable[int], space_id: int, dim: int) -> Embeddings:
        """Return every view of these segments in a space."""
        wanted = list(segment_ids)
        looked_up = self._looked_up.setdefault(space_id, set())
        cached = self._embeddings.get(space_id)
        missing = [i for i in wanted if i not in looked_up]
        if missing or cached is None:
            more = super().embeddings_of(missing, space_id, dim)
            cached = self._embeddings[space_id] = more if cached is None else _joined(cached, more)
            looked_up.update(missing)
        rows = np.isin(cached.segment_ids, np.asarray(wanted, np.int64))
        views: tuple[View, ...] = tuple(compress(cached.views, rows.tolist()))
        return Embeddings(cached.ids[rows], cached.segment_ids[rows], views, cached.vectors[rows])


def _joined(first: Embeddings, second: Embeddings) -> Embeddings:
    return Embeddings(
        ids=np.concatenate([first.ids, second.ids]),
        segment_ids=np.concatenate([first.segment_ids, second.segment_ids]),
        views=first.views + second.views,
        vectors=np.concatenate([first.vectors, second.vectors]),
    )
