"""Query vectors → candidates: from each index as deep as it takes, then scored in all their views on one scale."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.calibration import SAMPLE, between
from mmsearch.catalog import Catalog, SegmentRow
from mmsearch.indexes import Indexes
from mmsearch.query import Query
from mmsearch.ranking import Background, estimate_background, standardise
from mmsearch.spaces import Profile, Space, Vectors
from mmsearch.terms import Encoder
from mmsearch.types import Modality, View

TIES = 10_000
"""How deep equal scores are followed, so that their order doesn't depend on `k`."""
CROSSING = 1.0
"""What a view is behind, in standard deviations, that is asked by another one beside one asked by its own."""


@dataclass(frozen=True, slots=True)
class Route:
    """How one view of the items is asked: by which vector (dim,) of which space, made from which views of the query.

    `background` is that of the query and unrelated items, `between` that of two of these. `handicap` is taken off z.
    """

    space: Space
    space_id: int
    view: View
    sides: frozenset[View]
    vector: Vectors
    background: Background
    between: Background
    handicap: float


@dataclass(slots=True)
class Candidates:
    """Segments that may answer, row i of each: z per view (NaN where it has none), and the vectors behind them."""

    rows: list[SegmentRow]
    z: NDArray[np.float32]  # (n, routes)
    vectors: list[NDArray[np.float32]]  # for each route (n, dim), rows of NaN where the segment lacks the view


class Retriever:
    """Finds candidates in one library."""

    def __init__(self, catalog: Catalog, profile: Profile, indexes: Indexes) -> None:
        self._catalog = catalog
        self._profile = profile
        self._indexes = indexes
        self._samples: dict[tuple[str, View], tuple[int, NDArray[np.float32], Background]] = {}

    def routes(self, encoder: Encoder, views: Collection[View]) -> list[Route]:
        """One space a pair: each item view is asked in the first space that covers it and every term of the query."""
        within = any(encoder.sides(view) == {view} for view in View)
        routes: list[Route] = []
        for view in View:
            if views and view not in views:
                continue
            sides = encoder.sides(view)
            space = self._profile.space_for(*sides, view)
            if space is None:
                continue
            space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
            if space_id is None:
                continue
            sample, pairs = self._sample(space, space_id, view)
            if not len(sample):
                continue
            vector = encoder.vector(space, view)
            priors = np.mean([space.background(side, view) for side in sides], axis=0)
            background = estimate_background(sample @ vector, Background(*priors))
            handicap = CROSSING if within and sides != {view} and View.TEXT not in sides else 0.0
            routes.append(Route(space, space_id, view, frozenset(sides), vector, background, pairs, handicap))
        return routes

    def _sample(self, space: Space, space_id: int, view: View) -> tuple[NDArray[np.float32], Background]:
        key, revision = (space.name, view), self._catalog.revision
        known = self._samples.get(key)
        if known is None or known[0] != revision:
            sample = self._catalog.sample(space_id, view, SAMPLE, space.dim)
            known = self._samples[key] = (revision, sample, between(sample, space, view))
        return known[1], known[2]

    def candidates(self, query: Query, routes: Sequence[Route], own: Sequence[int], least: int) -> Candidates:
        """Search every route until at least `least` contents are found, and score what they found."""
        rows: dict[int, SegmentRow] = {}
        for route in routes:
            rows.update(self._search(query, route, route.vector, least))
        rows.update(self._catalog.segment_rows(s for content in own for s in self._catalog.segment_ids(content)))
        return self._with_views(query, rows.values(), routes, own)

    def widened(
        self,
        found: Candidates,
        query: Query,
        routes: Sequence[Route],
        own: Sequence[int],
        vectors: Sequence[Vectors | None],
        least: int,
    ) -> Candidates:
        """Return the candidates with those that other vectors find, one for each route (None: it isn't searched)."""
        held = {row.id for row in found.rows}
        rows: dict[int, SegmentRow] = {}
        for route, vector in zip(routes, vectors, strict=True):
            if vector is not None:
                rows.update(self._search(query, route, vector, least))
        more = self._with_views(query, [row for i, row in rows.items() if i not in held], routes, own)
        return Candidates(
            found.rows + more.rows,
            np.concatenate([found.z, more.z]),
            [np.concatenate(parts) for parts in zip(found.vectors, more.vectors, strict=True)],
        )

    def _search(self, query: Query, route: Route, vector: Vectors, least: int) -> dict[int, SegmentRow]:
        """Return the segments nearest to a vector: of at least so many contents with all that tie, or all there are."""
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
        """Score every view of the candidates, also those by which they weren't found.

        Silence sounds like nothing, so it answers only the file that it is.
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
