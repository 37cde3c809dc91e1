"""Stage 5: candidates → a ranking. Pure functions: benchmarks and the engine call the same ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmsearch.search.query import Query
from mmsearch.search.retrieve import Candidates
from mmsearch.search.routes import Route
from mmsearch.search.scoring import (
    LEAST,
    STRENGTH,
    agreeing,
    agreement,
    best_of_each,
    fuse,
    how_many,
    positives,
    rerank,
    standardise,
    strength,
)
from mmsearch.spaces import Vectors, normalise
from mmsearch.types import View

Rows = NDArray[np.intp]
"""Positions in the arrays of `Candidates`."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What re-ranking by agreement did.

    `added` (n,) is what it added to each score; `feedback` are the rows of the feedback items, and `similarity`
    (n, feedback items) is how far each candidate agrees with each of them, in standard deviations.
    """

    added: NDArray[np.float32]
    feedback: Rows
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates of a query in their order.

    `order` holds the row of the best segment of each content, best first. `scores` and `leading` are (n,): the score of
    each candidate, and the position of the route that contributes most to it. `agreement` is None where there was no
    re-ranking. Without `routes`, contents were listed by their dates: these are the scores then.
    """

    candidates: Candidates
    routes: Sequence[Route]
    scores: NDArray[np.floating]
    order: list[int]
    leading: Rows
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """The segments by which candidates are re-ranked.

    Their ids, their weights (m,), which sum to 1, and λ, the strength of agreement. `targets` holds for each route the
    centre of the feedback items, (dim,) float32, None where they lack the view: what agrees with them lies near it.
    """

    segment_ids: list[int]
    weights: NDArray[np.float32]
    strength: float
    targets: list[Vectors | None]


def first_stage(candidates: Candidates, routes: Sequence[Route], joint_views: Collection[View]) -> Ranking:
    """Rank candidates by all their views; `joint_views` are judged together where an item has all of them."""
    if not candidates.rows:
        return Ranking(candidates, routes, np.empty(0, np.float32), [], np.empty(0, np.intp))
    penalties = np.asarray([route.penalty for route in routes], np.float32)
    scores = fuse(candidates.z, [route.view in joint_views for route in routes], penalties)
    leading = np.nanargmax(candidates.z - penalties, axis=1)
    return Ranking(candidates, routes, scores, _order(candidates, scores), leading)


def newest_first(candidates: Candidates, dates: NDArray[np.float64]) -> Ranking:
    """Return the ranking of contents that were found by a filter alone, in their order; `dates` (n,) are the scores."""
    return Ranking(candidates, (), dates, list(range(len(dates))), np.zeros(len(dates), np.intp))


def choose_feedback(query: Query, ranking: Ranking, own: Collection[int], collection_size: int) -> Feedback | None:
    """Return the feedback items of a ranking, None where it isn't re-ranked.

    Small collections hold few items of any one kind, so `collection_size` bounds how many there are. The query's `own`
    contents give no feedback: everything agrees with them already.
    """
    rows = ranking.candidates.rows
    count = how_many(collection_size)
    if count < LEAST and not query.rerank:
        return None
    voting = [i for i in ranking.order if rows[i].content_id not in own][: max(count, LEAST)]
    by = _strength(query, ranking, voting)
    if by <= 0:
        return None
    first, weights = positives(ranking.scores[voting], len(voting))
    chosen = [voting[n] for n in first.tolist()]
    sums = [(np.nan_to_num(vectors[chosen]) * weights[:, None]).sum(axis=0) for vectors in ranking.candidates.vectors]
    targets = [normalise(total) if total.any() else None for total in sums]
    return Feedback([rows[i].id for i in chosen], weights, by, targets)


def _strength(query: Query, ranking: Ranking, voting: Sequence[int]) -> float:
    """Return λ: what the query demands, or by default a strength only in directions where a gain was measured."""
    if query.rerank is False or len(voting) < 2:
        return 0.0
    if query.rerank:
        return STRENGTH
    best = ranking.routes[int(ranking.leading[voting[0]])]
    if len(query.terms) > 1 or best.view is View.TEXT:
        return 0.0  # never measured
    item = query.terms[0].item
    if not isinstance(item, str) and best.query_views != {best.view}:
        return 0.0  # a note that finds photos, a picture that finds sounds, or a vector: never measured
    return strength(np.sort(ranking.scores[voting])[::-1], [item] if isinstance(item, str) else [])


def agree(ranking: Ranking, feedback: Feedback) -> Ranking:
    """Re-rank by how well each candidate agrees with the feedback items, in every view that they share."""
    candidates = ranking.candidates
    place = {row.id: i for i, row in enumerate(candidates.rows)}
    first = np.asarray([place[i] for i in feedback.segment_ids], np.intp)
    similarity = agreeing(
        [
            standardise(vectors @ vectors[first].T, route.item_background)
            for vectors, route in zip(candidates.vectors, ranking.routes, strict=True)
        ]
    )
    view_sets = ~np.isnan(candidates.z) @ (1 << np.arange(len(ranking.routes)))
    agreed = agreement(similarity, feedback.weights)
    scores = rerank(ranking.scores, agreed, first, feedback.weights, view_sets, feedback.strength)
    return replace(
        ranking,
        scores=scores,
        order=_order(candidates, scores),
        agreement=Agreement(scores - ranking.scores, first, similarity),
    )


def own_first(ranking: Ranking, own: Sequence[int]) -> Ranking:
    """Put the query's own contents first, with the best score."""
    rows = ranking.candidates.rows
    first = [i for content in own for i in ranking.order if rows[i].content_id == content]
    if not first:
        return ranking
    scores = ranking.scores.copy()
    scores[first] = scores.max()
    return replace(ranking, scores=scores, order=first + [i for i in ranking.order if i not in first])


def _order(candidates: Candidates, scores: NDArray[np.float32]) -> list[int]:
    return best_of_each(scores, [row.content_id for row in candidates.rows], [row.path for row in candidates.rows])
