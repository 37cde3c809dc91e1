"""Stage 4: routes → candidates, searched as deep as it takes and scored in all their views on one scale."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog, Ids, SegmentRow
from mmsearch.indexes import Indexes
from mmsearch.search.query import Query
from mmsearch.search.routes import Route
from mmsearch.search.scoring import standardise
from mmsearch.spaces import Vectors
from mmsearch.types import View
from mmsearch.vectors import MOST_ID, Bitmap, VectorIndex, bitmap

if TYPE_CHECKING:
    from mmsearch.catalog.matching import Matcher, Matches
    from mmsearch.filters import Filter

BITMAPS = 16
"""For how many filters the bitmaps are kept."""
TIES = 10_000
"""How deep equal scores are followed, so that their order doesn't depend on `k`."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Segments that may be hits, row i of each array.

    `z` (n, routes) float32 is the score of each view on one scale, NaN where the segment lacks the view. `vectors`
    holds for each route (n, dim) float32, rows of NaN likewise. `segment_counts` is how many segments each content
    has, where the query cuts copies.
    """

    rows: list[SegmentRow]
    z: NDArray[np.float32]
    vectors: list[NDArray[np.float32]]
    segment_counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Search:
    """One view's index, searched by one vector (dim,)."""

    view: View
    vector: Vectors
    index: VectorIndex

    def nearest(self, depth: int, allowed: Bitmap | None) -> tuple[NDArray[np.float32], Ids]:
        """Return the scores and ids of the nearest of the embeddings that are allowed (None: all).

        (1, depth) each, ids of -1 at the end.
        """
        return self.index.search(self.vector[None], depth, allowed)


class Retriever:
    """Finds candidates in one library. Whatever it reads of the catalog for one call is one read transaction."""

    def __init__(self, catalog: Catalog, indexes: Indexes) -> None:
        self._catalog = catalog
        self._indexes = indexes
        self._guard = threading.Lock()
        self._matcher: Matcher | None = None
        self._bitmaps: dict[Filter, tuple[Matches, Bitmap | None]] = {}

    def candidates(self, query: Query, routes: Sequence[Route], own: Sequence[int], least: int) -> Candidates:
        """Search every route until at least `least` contents are found, and score all views of what was found.

        The contents `own` are candidates in any case.
        """
        searches = self._searches((route, route.vector) for route in routes)
        with self._catalog.one_read():
            matches, allowed = self._allowed(query)
            rows = self._nearest(query, searches, allowed, least)
            if own:
                segments = (segment for content in own for segment in self._catalog.segment_ids(content))
                rows.update(self._catalog.segment_rows(segments))
            return self._with_views(query, _matching(rows.values(), matches), routes, own)

    def newest(self, query: Query) -> tuple[Candidates, NDArray[np.float64]]:
        """Return the contents that the query's filter holds for, at their first segments, the newest first.

        Also returns the date of each (n,), in seconds from 1970 by the clock on the wall where it was made.
        """
        assert query.filter is not None
        with self._catalog.one_read():
            found = self._matching_contents().newest(query.filter.expression, query.k)
            first = self._catalog.first_segments(content for content, _ in found)
            rows = self._catalog.segment_rows(first.values())
        held = [(rows[first[content]], date) for content, date in found if first.get(content) in rows]
        nothing = np.empty((len(held), 0), np.float32)
        return Candidates([row for row, _ in held], nothing, []), np.asarray([date for _, date in held], np.float64)

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
        pairs = zip(routes, vectors, strict=True)
        searches = self._searches((route, vector) for route, vector in pairs if vector is not None)
        with self._catalog.one_read():
            matches, allowed = self._allowed(query)
            rows = self._nearest(query, searches, allowed, least)
            new = [row for i, row in rows.items() if i not in held]
            more = self._with_views(query, _matching(new, matches), routes, own)
        return Candidates(
            candidates.rows + more.rows,
            np.concatenate([candidates.z, more.z]),
            [np.concatenate(parts) for parts in zip(candidates.vectors, more.vectors, strict=True)],
            {**candidates.segment_counts, **more.segment_counts},
        )

    def count(self, routes: Iterable[Route]) -> int:
        """Return how many vectors the largest of the routes' indexes holds."""
        return max(self._indexes.get(route.space, route.view, route.revision).count for route in routes)

    def _searches(self, vectors: Iterable[tuple[Route, Vectors]]) -> list[_Search]:
        """Open the index of each route. One that is behind the catalog is caught up, which no read may hold up."""
        return [
            _Search(route.view, vector, self._indexes.get(route.space, route.view, route.revision))
            for route, vector in vectors
        ]

    def _matching_contents(self) -> Matcher:
        if self._matcher is None:
            self._matcher = self._catalog.matcher()
        return self._matcher

    def _allowed(self, query: Query) -> tuple[Matches | None, Bitmap | None]:
        """Return what the query's filter holds for, and the bitmap of its embeddings; None where it holds for all."""
        if query.filter is None:
            return None, None
        matches = self._matching_contents().matches(query.filter.expression)
        with self._guard:
            known = self._bitmaps.get(query.filter)
        if known is None or known[0] is not matches:
            ids = matches.embeddings()
            known = matches, None if ids is None else bitmap(ids[(ids >= 0) & (ids < MOST_ID)])
            with self._guard:
                self._bitmaps[query.filter] = known
                while len(self._bitmaps) > BITMAPS:
                    del self._bitmaps[next(iter(self._bitmaps))]
        return known

    def _nearest(
        self, query: Query, searches: Sequence[_Search], allowed: Bitmap | None, least: int
    ) -> dict[int, SegmentRow]:
        """Return the nearest segments by id: for each search of at least `least` contents and with all ties, or all.

        All searches of one depth share their reads; those that don't suffice are repeated deeper.
        """
        found: dict[int, dict[int, SegmentRow]] = {}
        pending, depth = list(range(len(searches))), 2 * least + 50
        while pending:
            results = {n: searches[n].nearest(depth, allowed) for n in pending}
            segment_of = self._catalog.segments_of(
                dict.fromkeys(i for _, ids in results.values() for i in ids[ids >= 0].tolist())
            )
            rows = self._catalog.segment_rows(dict.fromkeys(segment_of.values()))
            pending = []
            for n, (scores, ids) in results.items():
                search = searches[n]
                segments = {segment_of[i] for i in ids[ids >= 0].tolist() if i in segment_of}
                found[n] = {
                    i: rows[i]
                    for i in sorted(segments & rows.keys())
                    if not (rows[i].silent and search.view is View.AUDIO)
                }
                exhausted = ids[0, -1] < 0 or depth >= search.index.count
                tied = depth < TIES and scores[0, -1] == scores[0, min(query.k, depth) - 1]
                if not exhausted and (tied or len({row.content_id for row in found[n].values()}) < least):
                    pending.append(n)
            depth *= 4
        return {i: row for n in range(len(searches)) for i, row in found[n].items()}

    def _with_views(
        self, query: Query, found: Iterable[SegmentRow], routes: Sequence[Route], own: Sequence[int]
    ) -> Candidates:
        """Score every view of the segments, not only those that found them.

        Silence matches no query, so a silent segment has no audio view, except for the file that it belongs to.
        """
        rows = list(found)
        mute = [i for i, row in enumerate(rows) if row.silent and row.content_id not in own]
        place = {row.id: i for i, row in enumerate(rows)}
        z = np.full((len(rows), len(routes)), np.nan, np.float32)
        vectors = [np.full((len(rows), route.space.dim), np.nan, np.float32) for route in routes]
        dims = {route.space_id: route.space.dim for route in routes}
        held = {space_id: self._catalog.embeddings_of(place, space_id, dim) for space_id, dim in dims.items()}
        for r, route in enumerate(routes):
            embeddings = held[route.space_id]
            mine = np.asarray([view is route.view for view in embeddings.views], np.bool_)
            at = [place[segment] for segment in embeddings.segment_ids[mine].tolist()]
            vectors[r][at] = embeddings.vectors[mine]
            z[at, r] = standardise(embeddings.vectors[mine] @ route.vector, route.background)
            if route.view is View.AUDIO:
                z[mute, r], vectors[r][mute] = np.nan, np.nan
        scored = np.flatnonzero(~np.isnan(z).all(axis=1))
        contents = {rows[i].content_id for i in scored.tolist()} if query.cut else ()
        counts = self._catalog.segment_counts(contents) if contents else {}
        return Candidates([rows[i] for i in scored.tolist()], z[scored], [part[scored] for part in vectors], counts)


def _matching(rows: Collection[SegmentRow], matches: Matches | None) -> Collection[SegmentRow]:
    """Return the segments of contents that a filter holds for; None leaves all."""
    if matches is None:
        return rows
    return list(compress(rows, matches.among(row.content_id for row in rows).tolist()))
