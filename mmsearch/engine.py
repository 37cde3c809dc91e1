"""Query → hits: candidates from the indexes, all their views on one scale, one hit a content."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog, SegmentRow
from mmsearch.errors import MediaError
from mmsearch.indexes import Indexes
from mmsearch.media import content_digest, find_sidecars
from mmsearch.paths import expand
from mmsearch.query import Query
from mmsearch.ranking import (
    Background,
    agreement,
    best_of_each,
    estimate_background,
    fuse,
    near_duplicates,
    rerank,
    standardise,
)
from mmsearch.settings import Limits
from mmsearch.spaces import Profile, Space, Vectors
from mmsearch.terms import Encoder, read_item
from mmsearch.types import Hit, Modality, View

SAMPLE = 512
"""How many contents of a library its background is estimated from."""
NEAR_DUPLICATE = 0.995
"""Cosine of the same view above which two contents are the same to the eye: re-encoded, resized."""
TIES = 10_000
"""How deep equal scores are followed, so that their order doesn't depend on `k`."""
_HASHED_BYTES = 2**28
"""A larger file that asks isn't hashed to find out whether the library holds a copy of it."""
RERANKED = 100
NEIGHBOURS = 10
STRENGTH = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a query, and how many near-duplicates of them were hidden."""

    hits: list[Hit]
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class _Route:
    """How one view of the items is asked: by which query vector (dim,) of which space, against which background."""

    space: Space
    space_id: int
    view: View
    vector: Vectors
    background: Background


@dataclass(slots=True)
class _Candidates:
    """Segments that may answer, row i of each: z per view (NaN where it has none), and the vectors behind them."""

    rows: list[SegmentRow]
    z: NDArray[np.float32]  # (n, routes)
    vectors: list[NDArray[np.float32]]  # for each route (n, dim), rows of NaN where the segment lacks the view


class Engine:
    """Answers queries over one library."""

    def __init__(self, catalog: Catalog, profile: Profile, indexes: Indexes, limits: Limits) -> None:
        self._catalog = catalog
        self._profile = profile
        self._indexes = indexes
        self._limits = limits
        self._samples: dict[tuple[str, View], tuple[int, NDArray[np.float32]]] = {}

    def over(self, catalog: Catalog, indexes: Indexes | None = None) -> Engine:
        """Return an engine that answers as this one does, from another reader of the catalog or from other indexes."""
        return Engine(catalog, self._profile, indexes or self._indexes, self._limits)

    def answer(self, query: Query) -> Answer:
        """Return the hits of a query, best first. Raises `QueryError`, `MediaError`, `ModelError`."""
        found, routes, scores, order = self._ordered(query)
        hidden = 0
        if query.cut and order:
            order, hidden = self._collapse(found, order, query.k)
        return Answer([self._hit(found, routes, scores, rank, i) for rank, i in enumerate(order[: query.k], 1)], hidden)

    def rank(self, query: Query) -> list[int]:
        """Return the ids of the contents that `answer` gives a hit each, in its order, uncut; raises what it does."""
        found, _, _, order = self._ordered(query)
        return [found.rows[i].content_id for i in order[: query.k]]

    def _ordered(self, query: Query) -> tuple[_Candidates, list[_Route], NDArray[np.float32], list[int]]:
        """Return the candidates with their routes and scores, and the best of each content, best first."""
        asked = [read_item(term.item, self._profile, self._limits) for term in query.terms]
        routes = self._routes(Encoder(query.terms, asked), query.views)
        own = self.own_contents(query)
        found = self._candidates(query, routes, own)
        if not found.rows:
            return found, routes, np.empty(0, np.float32), []
        several = {view for each in asked if len(each.views) > 1 for view in each.views}
        scores = fuse(found.z, [route.view in several for route in routes])
        order = best_of_each(scores, [row.content_id for row in found.rows], [row.path for row in found.rows])
        if query.rerank:
            order, scores = self._rerank(found, routes, order, scores)
        if mine := [i for content in own for i in order if found.rows[i].content_id == content]:
            order = mine + [i for i in order if i not in mine]
            scores[mine] = scores.max()
        return found, routes, scores, order

    def _routes(self, encoder: Encoder, views: Collection[View]) -> list[_Route]:
        """One space a pair: each item view is asked in the first space that covers it and every term of the query."""
        routes: list[_Route] = []
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
            sample = self._sample(space, space_id, view)
            if not len(sample):
                continue
            vector = encoder.vector(space, view)
            priors = np.mean([space.background(side, view) for side in sides], axis=0)
            background = estimate_background(sample @ vector, Background(*priors))
            routes.append(_Route(space, space_id, view, vector, background))
        return routes

    def _sample(self, space: Space, space_id: int, view: View) -> NDArray[np.float32]:
        key, revision = (space.name, view), self._catalog.revision
        known = self._samples.get(key)
        if known is None or known[0] != revision:
            known = self._samples[key] = (revision, self._catalog.sample(space_id, view, SAMPLE, space.dim))
        return known[1]

    def own_contents(self, query: Query) -> list[int]:
        """Return the contents that are asked with, where files alone ask: those of them that the library holds.

        A text beside a file, or something to steer away from, asks for something else than the file.
        """
        found: list[int | None] = []
        for term in query.terms:
            item = term.item
            if isinstance(item, str) or term.weight < 0:
                return []
            path = os.path.abspath(os.fsencode(expand(item)))  # noqa: PTH100  paths are bytes here
            try:
                found.append(self._content_at(path) or self.content_like(path))
            except (MediaError, OSError):
                continue  # it was read a moment ago; it just doesn't come first
        return [content for content in dict.fromkeys(found) if content is not None]

    def _content_at(self, path: bytes) -> int | None:
        """Return the content of a file that is in the library and didn't change since, without reading it."""
        row = self._catalog.media_at([path]).get(path)
        if row is None:
            return None
        status = os.stat(path)  # noqa: PTH116
        return row.content_id if (status.st_size, status.st_mtime_ns) == (row.size_bytes, row.mtime_ns) else None

    def content_like(self, path: bytes) -> int | None:
        """Return the content that a file has the same bytes and captions as. Raises `MediaError`, `OSError`."""
        if os.stat(path).st_size > _HASHED_BYTES:  # noqa: PTH116
            return None
        return self._catalog.content_with_hash(content_digest(path, find_sidecars(path)))

    def _candidates(self, query: Query, routes: Sequence[_Route], own: Sequence[int]) -> _Candidates:
        """Search every route as deep as it takes, and score what they found."""
        rows: dict[int, SegmentRow] = {}
        for route in routes:
            rows.update(self._search(query, route))
        rows.update(self._catalog.segment_rows(s for content in own for s in self._catalog.segment_ids(content)))
        wanted = query.modalities or frozenset(Modality)
        return self._with_views([row for row in rows.values() if row.modality in wanted], routes, own)

    def _search(self, query: Query, route: _Route) -> dict[int, SegmentRow]:
        """Return the segments that a route finds: of at least `k` contents with all that tie, or all there are."""
        index = self._indexes.get(route.space, route.view)
        allowed = self._indexes.allowed(route.space, route.view, query.modalities)
        contents = 2 * query.k if query.cut else query.k
        depth = 2 * query.k + 50
        while True:
            scores, ids = index.search(route.vector[None], depth, allowed)
            found = self._catalog.segment_rows(self._catalog.segments_of(ids[ids >= 0].tolist()).values())
            rows = {i: row for i, row in found.items() if not (row.silent and route.view is View.AUDIO)}
            exhausted = ids[0, -1] < 0 or depth >= index.count
            tied = depth < TIES and scores[0, -1] == scores[0, query.k - 1]
            if exhausted or (not tied and len({row.content_id for row in rows.values()}) >= contents):
                return rows
            depth *= 4

    def _with_views(self, rows: list[SegmentRow], routes: Sequence[_Route], own: Sequence[int]) -> _Candidates:
        """Score every view of the candidates, also those by which they weren't found.

        Silence sounds like nothing, so it answers only the file that it is.
        """
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
        scored = [i for i in range(len(rows)) if not np.isnan(z[i]).all()]
        return _Candidates([rows[i] for i in scored], z[scored], [part[scored] for part in vectors])

    def _rerank(
        self, found: _Candidates, routes: Sequence[_Route], order: list[int], scores: NDArray[np.float32]
    ) -> tuple[list[int], NDArray[np.float32]]:
        """Re-rank the first contents by how well they agree with each other in every view they share."""
        first = order[:RERANKED]
        similarity: Mapping[int, NDArray[np.float32]] = {
            r: standardise(found.vectors[r][first] @ found.vectors[r][first].T, self._between(route))
            for r, route in enumerate(routes)
        }
        has = ~np.isnan(found.z[first])
        view_sets = has @ (1 << np.arange(len(routes)))
        final = scores.copy()
        agreed = agreement(similarity, NEIGHBOURS)
        final[first] = rerank(scores[first], agreed, self._trust(found, routes, first), view_sets, STRENGTH)
        if rest := order[RERANKED:]:  # what was looked at stays above what wasn't
            bound = float(final[rest].max())
            final[first] = np.maximum(final[first] + max(0.0, bound - float(final[first].min())), bound)
        return sorted(first, key=lambda i: (-float(final[i]), found.rows[i].path)) + order[RERANKED:], final

    def _between(self, route: _Route) -> Background:
        """Return the background of two unrelated items in one view of this collection."""
        sample = self._sample(route.space, route.space_id, route.view)[:128]
        pairs = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
        return estimate_background(pairs, Background(*route.space.background(route.view, route.view)))

    def _trust(self, found: _Candidates, routes: Sequence[_Route], first: Sequence[int]) -> NDArray[np.float32]:
        """Return w in [0, 1]: how far an item's own two views agree (Robust-xID's CDF); 0 where it has but one."""
        weights = np.zeros(len(first), np.float32)
        for a in range(len(routes)):
            for b in range(a):
                if routes[a].space_id != routes[b].space_id:
                    continue
                background = Background(*routes[a].space.background(routes[a].view, routes[b].view))
                own = np.sum(found.vectors[a][first] * found.vectors[b][first], axis=1)
                z = standardise(own, background)
                cdf = [0.0 if math.isnan(v) else 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z.tolist()]
                weights = np.maximum(weights, np.asarray(cdf, np.float32))
        return weights

    def _collapse(self, found: _Candidates, order: list[int], k: int) -> tuple[list[int], int]:
        """Leave out contents that look and read the same as one before them, until `k` are left."""
        looked_at = order[: 4 * k]
        # One shot says little of a long video: many begin with the same titles, or in black.
        counts = self._catalog.segment_counts({found.rows[i].content_id for i in looked_at})
        kinds = np.asarray([f"{found.rows[i].modality} {counts.get(found.rows[i].content_id)}" for i in looked_at])
        marked = near_duplicates([vectors[looked_at] for vectors in found.vectors], kinds, NEAR_DUPLICATE)
        kept = [i for i, hide in zip(looked_at, marked, strict=True) if not hide]
        shown = looked_at.index(kept[k - 1]) if len(kept) >= k else len(looked_at)
        return kept + order[4 * k :], int(marked[:shown].sum())

    def _hit(self, found: _Candidates, routes: Sequence[_Route], scores: NDArray[np.float32], rank: int, i: int) -> Hit:
        row = found.rows[i]
        route = routes[int(np.nanargmax(found.z[i]))]
        return Hit(
            rank=rank,
            score=float(scores[i]),
            confidence=None,  # null until it is calibrated on the collection
            path=Path(os.fsdecode(row.path)),
            modality=row.modality,
            view=route.view,
            start_s=row.start_s,
            end_s=row.end_s,
            text=row.text,
            space=route.space.name,
        )
