"""Agreement across modalities: what is like the other answers, in all that can be seen and heard of it, rises.

CMA (Morgado, Vasconcelos and Misra 2021, arXiv:2004.12943, section 4) takes as an item's positives those that agree
with it in both modalities. At query time the positives are what the query itself ranks first, which makes it pseudo
relevance feedback over all views of the items. No gain of agreement in retrieval has been published: what it gains
where, and where it loses, is measured in docs/ranking.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

POSITIVES, LEAST = 16, 4
"""How many first answers speak for the others, at most and at least."""
_ONE_IN = 32
_MOST_ALIKE = 8.0
"""Standard deviations; where a collection is all alike but for a few, copies would be hundreds of them alike."""
TEMPERATURE = 0.5
"""Over how many standard deviations of the first stage a positive's weight falls by 1/e."""
STRENGTH = 0.6
"""λ: what a standard deviation of agreement is worth in standard deviations of the first stage."""
CERTAIN = 3.5
"""The mean of the eight best answers to a text, in standard deviations, from which on they need nobody's word."""
NAME_WORDS = 4
"""A longer text describes one thing; a shorter one names a kind, and its answers have something to agree on."""


def how_many(items: int) -> int:
    """Return how many of so many items may be taken for answers: few, for of few items few are of one kind."""
    return min(POSITIVES, items // _ONE_IN)


def positives(scores: Floats, k: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the positions of the first k of scores (n,), best first, and their weights, which sum to 1."""
    first = np.argsort(-scores, kind="stable")[:k]
    weights = np.exp((scores[first] - scores[first].max(initial=-np.inf)) / TEMPERATURE)
    return first, np.asarray(weights / max(float(weights.sum()), 1e-12), np.float32)


def agreeing(similarity: Sequence[Floats], views: Literal["mean", "min", "soft-min"] = "mean") -> Floats:
    """Return ρ (n, positives), how far each item agrees with each positive over the views that both have.

    `similarity` holds for each view (n, positives) on one scale, NaN where either lacks the view. ρ is the mean of
    these, the least (CMA's own), or the soft least; NaN where no view is shared. Likeness counts up to `_MOST_ALIKE`.
    """
    stacked = np.clip(np.stack(similarity), -_MOST_ALIKE, _MOST_ALIKE)
    shared = ~np.isnan(stacked)
    count = shared.sum(axis=0)
    if views == "mean":
        rho = np.where(shared, stacked, 0).sum(axis=0) / np.maximum(count, 1)
    elif views == "min":
        rho = np.where(shared, stacked, np.inf).min(axis=0)
    else:
        rho = -np.log(np.where(shared, np.exp(-np.nan_to_num(stacked)), 0).sum(axis=0) / np.maximum(count, 1) + 1e-9)
    return np.where(count > 0, rho, np.nan).astype(np.float32)


def agreement(rho: Floats, weights: Floats) -> Floats:
    """Return A (n,): Σ w ρ over the positives, of ρ (n, positives); one that shares no view with an item adds nothing.

    A positive votes for itself too: where few carry the weight, there may be one right answer, and it stays first.
    """
    return np.asarray(np.nan_to_num(rho, nan=0.0) @ weights, np.float32)


def rerank(
    scores: Floats, agreed: Floats, first: NDArray[np.intp], weights: Floats, view_sets: NDArray[np.int64], by: float
) -> Floats:
    """Return final = s + λ·(A − what the positives of the same views agree), all (n,); `by` is λ.

    Agreement is large where items have much in common by nature: without taking that off, photos would rise above
    notes, and what has two views would sink below what has one. So the positives of each set of views keep their
    scores on average. Items of views that no positive has are measured by all positives: what agrees with none of them
    falls as far, whatever it is.
    """
    final = np.array(scores, np.float32)
    votes = np.maximum(weights, 1e-12)
    whole = np.average(agreed[first], weights=votes)
    for views in np.unique(view_sets):
        rows, own = view_sets == views, view_sets[first] == views
        centre = np.average(agreed[first][own], weights=votes[own]) if own.any() else whole
        final[rows] += np.float32(by) * (agreed[rows] - np.float32(centre))
    return final


def strength(best: Floats, texts: Sequence[str]) -> float:
    """Return λ for a query by its eight best scores and by what its texts say; no texts where only files ask.

    Neighbours blur what the first stage already knows, and a sentence asks for the one thing that it describes: then
    it is 0. Measured in docs/ranking.md.
    """
    if not texts:
        return STRENGTH
    if any(len(text.split()) > NAME_WORDS for text in texts):
        return 0.0
    return STRENGTH * min(1.0, max(0.0, CERTAIN - float(np.mean(best[:8]))))


def trust(z: Floats) -> Floats:
    """Return w (n,) in [0, 1]: how far the views of an item agree with each other, of their z among unrelated pairs.

    Robust-xID's weight (Morgado, Misra and Vasconcelos 2021, arXiv:2103.15916): a soundtrack that has nothing to do
    with its picture is a poor witness. An item of one view (NaN) has nothing to contradict it.
    """
    return np.asarray(
        [1.0 if math.isnan(v) else 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z.tolist()], np.float32
    )
