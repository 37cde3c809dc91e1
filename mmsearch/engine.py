"""Query → hits: candidates fused into one score, agreement, one hit a content, confidence, the cut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.calibration import Calibration
from mmsearch.catalog import Catalog
from mmsearch.errors import MediaError
from mmsearch.indexes import Indexes
from mmsearch.media import content_digest, find_sidecars
from mmsearch.paths import expand
from mmsearch.query import Query
from mmsearch.ranking import (
    HUB_SHARE,
    LEAST,
    STRENGTH,
    agreeing,
    agreement,
    best_of_each,
    evidence,
    fuse,
    how_many,
    hubness,
    near_duplicates,
    positives,
    rerank,
    standardise,
    strength,
)
from mmsearch.retrieval import Candidates, Retriever, Route
from mmsearch.settings import Limits
from mmsearch.spaces import OnnxSpace, Profile, Vectors, normalise
from mmsearch.terms import Encoder, read_items
from mmsearch.types import Hit, Neighbour, View, Why

NEAR_DUPLICATE = {View.VISUAL: 0.98, View.AUDIO: 0.999, View.TEXT: 0.995}
"""Cosine of a view from which on two contents are one to a person: see benchmarks/confidence.py.

Of sounds only the very same: in a space that was trained with their kinds, two dogs that bark are nearly one point.
"""
COMPARED = 2_000
"""How many first contents are compared with each other, each with each."""
WEAK = 0.1
"""The confidence below which a match is cut: nine of ten unrelated queries find something better here."""
LOOKED_AT, DEEP = 30, 500
"""How many contents every view is searched for at least; and where what several views say of one is added up."""
NEIGHBOURS = 3
"""How many of the answers that agree with a hit are named."""
_HASHED_BYTES = 2**28
"""A larger file that asks isn't hashed to find out whether the library holds a copy of it."""
_MEASURED = 60
"""How many first candidates of a view tell how much evidence there is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a query, how many near-duplicates of them were hidden, and how many weak matches were cut."""

    hits: list[Hit]
    hidden: int = 0
    weak: int = 0


@dataclass(slots=True)
class _Ranked:
    """The candidates of a query in their order: the best segment of each content, best first.

    `speaks` (n,) is the route that says most for each. Where they were re-ranked, `added` (n,) is what that added,
    `first` are the positives, and `rho` (n, positives) says how far each candidate agrees with each of them.
    """

    found: Candidates
    routes: list[Route]
    scores: NDArray[np.float32]
    order: list[int]
    speaks: NDArray[np.intp]
    added: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    first: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    rho: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True, slots=True)
class _Measure:
    """What the bank says of a hit."""

    confidence: float
    hubness: float


class Engine:
    """Answers queries over one library."""

    def __init__(self, catalog: Catalog, profile: Profile, indexes: Indexes, limits: Limits) -> None:
        self._catalog = catalog
        self._profile = profile
        self._indexes = indexes
        self._limits = limits
        self._retriever = Retriever(catalog, profile, indexes)
        self._calibration = Calibration(catalog, profile, indexes)

    def over(self, catalog: Catalog, indexes: Indexes | None = None) -> Engine:
        """Return an engine that answers as this one does, from another reader of the catalog or from other indexes."""
        return Engine(catalog, self._profile, indexes or self._indexes, self._limits)

    def answer(self, query: Query) -> Answer:
        """Return the hits of a query, best first. Raises `QueryError`, `MediaError`, `ModelError`."""
        ranked = self._ranked(query)
        if not ranked.order:
            return Answer([])
        order, copies, weak = ranked.order, set[int](), set[int]()
        looked_at = order[: query.k]
        if query.cut:
            copies = self._copies(ranked, max(2 * query.k, LOOKED_AT))
            looked_at = [i for i in order if i not in copies][: max(2 * query.k, LOOKED_AT)]
        measures = self._measured(query, ranked, looked_at)
        if query.cut:
            weak = {i for i, measure in measures.items() if measure.confidence < WEAK}
        shown = [i for i in looked_at if i not in weak][: query.k]
        hits = [self._hit(ranked, n, i, measures.get(i), explain=query.explain) for n, i in enumerate(shown, 1)]
        passed = order[: order.index(shown[-1])] if len(shown) == query.k else order
        return Answer(hits, sum(i in copies for i in passed), sum(i in weak for i in passed))

    def rank(self, query: Query) -> list[int]:
        """Return the ids of the contents that `answer` gives a hit each, in its order, uncut; raises what it does."""
        ranked = self._ranked(query)
        return [ranked.found.rows[i].content_id for i in ranked.order[: query.k]]

    def _ranked(self, query: Query) -> _Ranked:
        items = [term.item for term in query.terms]
        asked = read_items(items, self._profile, self._limits, self._limits.query_s, self._load_for)
        encoder = Encoder(query.terms, asked)
        routes = self._retriever.routes(encoder, query.views)
        own = self.own_contents(query)
        together = encoder.together()
        least = max(2 * query.k if query.cut else query.k, DEEP if together else LOOKED_AT)
        found = self._retriever.candidates(query, routes, own, least)
        if not found.rows:
            return _Ranked(found, routes, np.empty(0, np.float32), [], np.empty(0, np.intp))
        handicaps = np.asarray([route.handicap for route in routes], np.float32)

        def ranking(found: Candidates) -> _Ranked:
            scores = fuse(found.z, [route.view in together for route in routes], handicaps)
            return _Ranked(found, routes, scores, _order(found, scores), np.nanargmax(found.z - handicaps, axis=1))

        ranked = ranking(found)
        few = how_many(self._count(ranked))
        voting = [i for i in ranked.order if found.rows[i].content_id not in own][: max(few, LEAST)]
        by = self._strength(query, ranked, voting if few >= LEAST or query.rerank else [])
        if by > 0:
            first, weights = positives(ranked.scores[voting], len(voting))
            ids = [found.rows[voting[n]].id for n in first.tolist()]
            found = self._retriever.widened(
                found, query, routes, own, _towards(found, voting, first, weights), LOOKED_AT
            )
            ranked = _agree(ranking(found), ids, weights, by)
        if mine := [i for content in own for i in ranked.order if found.rows[i].content_id == content]:
            ranked.order = mine + [i for i in ranked.order if i not in mine]
            ranked.scores[mine] = ranked.scores.max()
        return ranked

    def _load_for(self, view: View) -> None:
        """Load what an answer by this view takes, while a file that asks is decoded in another process."""
        space = self._profile.space_for(view)
        if space is not None and self._catalog.space_id(space.name, space.fingerprint, space.dim) is not None:
            self._indexes.get(space, view)
            if isinstance(space, OnnxSpace):
                space.load(view)

    def _strength(self, query: Query, ranked: _Ranked, voting: list[int]) -> float:
        """Return how much agreement counts: as much as is asked for, or by default where it was seen to gain."""
        if query.rerank is False or len(voting) < 2:
            return 0.0
        if query.rerank:
            return STRENGTH
        first = ranked.routes[int(ranked.speaks[voting[0]])]
        if len(query.terms) > 1 or first.view is View.TEXT:
            return 0.0  # never measured
        item = query.terms[0].item
        if isinstance(item, Path) and first.sides != {first.view}:
            return 0.0  # a note asks for photos, or a picture for sounds: never measured
        return strength(np.sort(ranked.scores[voting])[::-1], [item] if isinstance(item, str) else [])

    def _count(self, ranked: _Ranked) -> int:
        """Return how many contents could answer, where that is few; else how many the largest view has."""
        contents = len(ranked.order)
        if contents < LOOKED_AT:  # no more were found, so there are no more
            return contents
        return max(self._indexes.get(route.space, route.view).count for route in ranked.routes)

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

    def _measured(self, query: Query, ranked: _Ranked, shown: Sequence[int]) -> dict[int, _Measure]:
        """Return the confidence and the hubness of what is shown, of each in the view that speaks most for it.

        Only where one text asks, as the bank does: a difference of two lies elsewhere than any text.
        """
        measures: dict[int, _Measure] = {}
        if len(query.terms) > 1 or not isinstance(query.terms[0].item, str):
            return measures
        for r in np.unique(ranked.speaks[list(shown)]).tolist():
            route, z = ranked.routes[r], ranked.found.z[:, r]
            asked = self._calibration.asked(route.space, route.view)
            if asked is None:
                continue
            pool = np.argsort(np.where(np.isnan(z), np.inf, -z), kind="stable")[:_MEASURED]
            pool = pool[~np.isnan(z[pool])]
            mine = [i for i in shown if ranked.speaks[i] == r]
            rows = np.concatenate([pool, np.asarray(mine, np.intp)])
            vectors = ranked.found.vectors[r][rows]
            hubs = hubness(asked.z(vectors))
            measured = standardise(vectors @ route.vector, asked.background(route.background))
            found = evidence(measured, hubs, vectors, route.between, len(pool))
            for at, i in enumerate(mine, len(pool)):
                measures[i] = _Measure(asked.reach.confidence(float(found[at])), HUB_SHARE * float(hubs[at]))
        return measures

    def _copies(self, ranked: _Ranked, enough: int) -> set[int]:
        """Return what looks, sounds and reads the same as something before it, until `enough` others are found."""
        found, window = ranked.found, enough
        thresholds = [NEAR_DUPLICATE[route.view] for route in ranked.routes]
        while True:
            looked_at = ranked.order[: min(window, max(enough, COMPARED))]
            # One shot says little of a long video: many begin with the same titles, or in black.
            counts = self._catalog.segment_counts({found.rows[i].content_id for i in looked_at})
            kinds = np.asarray([f"{found.rows[i].modality} {counts.get(found.rows[i].content_id)}" for i in looked_at])
            views = [vectors[looked_at[:COMPARED]] for vectors in found.vectors]
            marked = near_duplicates(views, kinds[:COMPARED], thresholds)
            if len(looked_at) - int(marked.sum()) >= enough or len(looked_at) < window:
                return {i for i, copy in zip(looked_at, marked.tolist(), strict=False) if copy}
            window *= 4

    def _hit(self, ranked: _Ranked, rank: int, i: int, measure: _Measure | None, *, explain: bool) -> Hit:
        row = ranked.found.rows[i]
        route = ranked.routes[int(ranked.speaks[i])]
        return Hit(
            rank=rank,
            score=float(ranked.scores[i]),
            confidence=measure.confidence if measure else None,
            path=Path(os.fsdecode(row.path)),
            modality=row.modality,
            view=route.view,
            start_s=row.start_s,
            end_s=row.end_s,
            text=row.text,
            space=route.space.name,
            why=_why(ranked, i, measure) if explain else None,
        )


def _order(found: Candidates, scores: NDArray[np.float32]) -> list[int]:
    return best_of_each(scores, [row.content_id for row in found.rows], [row.path for row in found.rows])


def _agree(ranked: _Ranked, ids: Sequence[int], weights: NDArray[np.float32], by: float) -> _Ranked:
    """Re-rank by how well each candidate agrees with the segments `ids`, in every view they share."""
    found = ranked.found
    place = {row.id: i for i, row in enumerate(found.rows)}
    first = np.asarray([place[i] for i in ids], np.intp)
    similarity = [
        standardise(vectors @ vectors[first].T, route.between)
        for vectors, route in zip(found.vectors, ranked.routes, strict=True)
    ]
    rho = agreeing(similarity)
    view_sets = ~np.isnan(found.z) @ (1 << np.arange(len(ranked.routes)))
    final = rerank(ranked.scores, agreement(rho, weights), first, weights, view_sets, by)
    return _Ranked(found, ranked.routes, final, _order(found, final), ranked.speaks, final - ranked.scores, first, rho)


def _towards(
    found: Candidates, voting: Sequence[int], first: NDArray[np.intp], weights: NDArray[np.float32]
) -> list[Vectors | None]:
    """Return for each route where its positives lie: what agrees with them is to be found there."""
    chosen = [voting[n] for n in first.tolist()]
    sums = [(np.nan_to_num(vectors[chosen]) * weights[:, None]).sum(axis=0) for vectors in found.vectors]
    return [normalise(total) if total.any() else None for total in sums]


def _why(ranked: _Ranked, i: int, measure: _Measure | None) -> Why:
    added = float(ranked.added[i]) if len(ranked.added) else 0.0
    alike = ranked.rho[i] if len(ranked.rho) else np.empty(0, np.float32)
    rows, own = ranked.found.rows, ranked.found.rows[i].content_id
    voters = [n for n in np.argsort(-alike).tolist() if alike[n] > 0]
    others = [n for n in voters if rows[ranked.first[n]].content_id != own][:NEIGHBOURS]
    return Why(
        first_stage=float(ranked.scores[i]) - added,
        hubness=measure.hubness if measure else None,
        agreement=added,
        neighbours=tuple(Neighbour(Path(os.fsdecode(rows[ranked.first[n]].path)), float(alike[n])) for n in others),
    )
