"""Stage 4: routes → candidates, searched as deep as it takes and scored in all their views on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog, SegmentRow
from mmsearch.indexes import Indexes
from mmsearch.search.query import Query
from mmsearch.search.routes import Route
from mmsearch.search.scoring import standardise
from mmsearch.spaces import Vectors
from mmsearch.types import Modality, View

TIES = 10_000
"""How deep equal scores are followed, so that their order doesn't depend on `k`."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Segments that may be hits, row i of each array.

    `z` (n, routes) float32 is the score of each view on one scale, NaN where the segment lacks the view. `vectors`
    holds for each route (n, dim) float32, rows of NaN likewise.
    """

    rows: list[SegmentRow]
    z: NDArray[np.float32]
    vectors: list[NDArray[np.float32]]


class Retriever:
    """Finds candidates in one library."""

    def __init__(self, catalog: Catalog, indexes: Indexes) -> None:
        self._catalog = catalog
        self._indexes = indexes

    def candidates(self, query: Query, routes: Sequence[Route], own: Sequence[int], least: int) -> Candidates:
        """Search every route until at least `least` contents are found, and score all views of what was found.

        The contents `own` are candidates in any case.
        """
        rows: dict[int, SegmentRow] = {}
        for route in routes:
            rows.update(self._search(query, route, route.vector, least))
        rows.update(self._catalog.segment_rows(s for content in own for s in self._catalog.segment_ids(content)))
        return self._with_views(query, rows.values(), routes, own)

    def widened(
        self,
        candidates: Candidates,
        query: Query,
        routes: Sequence[Route],
        own: Sequence[int],
        vectors: Sequence[Vectors | None],
        least: int,
    ) -> Candidates:
        """Return the candidates and those that other vectors find, one vector per route (None: it isn't searched)."""
        held = {row.id for row in candidates.rows}
        rows: dict[int, SegmentRow] = {}
        for route, vector in zip(routes, vectors, strict=True):
            if vector is not None:
                rows.update(self._search(query, route, vector, least))
        more = self._with_views(query, [row for i, row in rows.items() if i not in held], routes, own)
        return Candidates(
            candidates.rows + more.rows,
            np.concatenate([candidates.z, more.z]),
            [np.concatenate(parts) for parts in zip(candidates.vectors, more.vectors, strict=True)],
        )

    def count(self, routes: Iterable[Route]) -> int:
        """Return how many vectors the largest of the routes' indexes holds."""
        return max(self._indexes.get(route.space, route.view).count for route in routes)

    def _search(self, query: Query, route: Route, vector: Vectors, least: int) -> dict[int, SegmentRow]:
        """Return the nearest segments by id: of at least `least` contents and with all ties, or all there are."""
        index = self._indexes.get(route.space, route.view)
        allowed = self._indexes.allowed(route.space, route.view, query.modalities)
        depth = 2 * least + 50
        while True:
            scores, ids = index.search(vector[None], depth, allowed)
            found = self._catalog.segment_rows(self._catalog.segments_of(ids[ids >= 0].tolist()).values())
            rows = {i: row for i, row in found.items() if not (row.silent and route.view is View.AUDIO)}
            exhausted = ids[0, -1] < 0 or depth >= index.count
            tied = depth < TIES and scores[0, -1] == scores[0, min(query.k, depth) - 1]
            if exhausted or (not tied and len({row.content_id for row in rows.values()}) >= least):
                return rows
            depth *= 4

    def _with_views(
        self, query: Query, found: Iterable[SegmentRow], routes: Sequence[Route], own: Sequence[int]
    ) -> Candidates:
        """Score every view of the segments, not only those that found them.

        Silence matches no query, so a silent segment has no audio view, except for the file that it belongs to.
        """
        wanted = query.modalities or frozenset(Modality)
        rows = [row for row in found if row.modality in wanted]
        mute = [i for i, row in enumerate(rows) if row.silent and row.content_id not in own]
        place = {row.id: i for i, row in enumerate(rows)}
        z = np.full((len(rows), len(routes)), np.nan, np.float32)
        vectors = [np.full((len(rows), route.space.dim), np.nan, np.float32) for route in routes]
        held = {route.space_id: self._catalog.embeddings_of(place, route.space_id, route.space.dim) for route in routes}
        for r, route in enumerate(routes):
            embeddings = held[route.space_id]
            mine = np.asarray([view is route.view for view in embeddings.views], np.bool_)
            at = [place[segment] for segment in embeddings.segment_ids[mine].tolist()]
            vectors[r][at] = embeddings.vectors[mine]
            z[at, r] = standardise(embeddings.vectors[mine] @ route.vector, route.background)
            if route.view is View.AUDIO:
                z[mute, r], vectors[r][mute] = np.nan, np.nan
        scored = np.flatnonzero(~np.isnan(z).all(axis=1))
        return Candidates([rows[i] for i in scored.tolist()], z[scored], [part[scored] for part in vectors])
