"""A catalog whose rows are read once: for many queries in a row that each rank everything."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress

import numpy as np

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.database import Part
from mmsearch.catalog.rows import Embeddings, SegmentRow
from mmsearch.types import View


class HeldCatalog(Catalog):
    """The same catalog, to be read only; what a query has read of segments and vectors stays in memory for the next.

    That is four bytes a dimension for every vector read. Whether it changed since, only `revision` of the other says.
    """

    def __init__(self, catalog: Catalog) -> None:
        Part.__init__(self, catalog._database, catalog.profile_id)
        self._held_revision = catalog.revision
        self._space_ids: dict[tuple[str, str, int], int | None] = {}
        self._segment_of: dict[int, int] = {}
        self._rows: dict[int, SegmentRow] = {}
        self._embeddings: dict[int, Embeddings] = {}
        self._looked_up: dict[int, set[int]] = {}

    @property
    def revision(self) -> int:
        """The revision that the catalog was of when it was first read."""
        return self._held_revision

    def space_id(self, name: str, fingerprint: str, dim: int) -> int | None:
        """Return the id under which a space's embeddings stand, None if there are none."""
        key = (name, fingerprint, dim)
        if key not in self._space_ids:
            self._space_ids[key] = super().space_id(*key)
        return self._space_ids[key]

    def segments_of(self, embedding_ids: Iterable[int]) -> dict[int, int]:
        """Return the segment of each of these embeddings that exists."""
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
        held = self._embeddings.get(space_id)
        missing = [i for i in wanted if i not in looked_up]
        if missing or held is None:
            more = super().embeddings_of(missing, space_id, dim)
            held = self._embeddings[space_id] = more if held is None else _both(held, more)
            looked_up.update(missing)
        mine = np.isin(held.segment_ids, np.asarray(wanted, np.int64))
        views: tuple[View, ...] = tuple(compress(held.views, mine.tolist()))
        return Embeddings(held.ids[mine], held.segment_ids[mine], views, held.vectors[mine])


def _both(one: Embeddings, other: Embeddings) -> Embeddings:
    return Embeddings(
        ids=np.concatenate([one.ids, other.ids]),
        segment_ids=np.concatenate([one.segment_ids, other.segment_ids]),
        views=one.views + other.views,
        vectors=np.concatenate([one.vectors, other.vectors]),
    )
