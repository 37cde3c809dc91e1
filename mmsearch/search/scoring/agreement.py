"""Agreement re-ranking: items that look and sound like the best answers rise.

CMA (Morgado, Vasconcelos and Misra 2021, arXiv:2004.12943, section 4) takes as an item's positives those items that
agree with it in both modalities. Here the positives are the query's own first answers, which makes it pseudo-relevance
feedback over all views of the items. No gain of agreement in retrieval has been published; docs/ranking.md measures
where it helps and where it doesn't.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

POSITIVES, LEAST = 16, 4
"""Maximum and minimum number of positives: first answers that are used as feedback."""
_ITEMS_PER_POSITIVE = 32
_MAX_SIMILARITY = 8.0
"""In standard deviations. In a collection of nearly equal items, the similarity of copies would reach hundreds."""
TEMPERATURE = 0.5
"""The number of standard deviations of the first stage over which a positive's weight falls to 1/e."""
STRENGTH = 0.6
"""λ: what a standard deviation of agreement is worth in standard deviations of the first stage."""
CERTAIN = 3.5
"""The mean of the eight best answers to a text, in standard deviations, from which on they need nobody's word."""
NAME_WORDS = 4
"""A longer text describes one thing; a shorter one names a kind, and its answers have something to agree on."""


def how_many(items: int) -> int:
    """Return the number of positives for this many items: small libraries hold few items of any one class."""
    return min(POSITIVES, items // _ITEMS_PER_POSITIVE)


def positives(scores: Floats, k: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the positions of the first k of scores (n,), best first, and their weights, which sum to 1."""
    first = np.argsort(-scores, kind="stable")[:k]
    weights = np.exp((scores[first] - scores[first].max(initial=-np.inf)) / TEMPERATURE)
    return first, np.asarray(weights / max(float(weights.sum()), 1e-12), np.float32)


def agreeing(similarity: Sequence[Floats], views: Literal["mean", "min", "soft-min"] = "mean") -> Floats:
    """Return ρ (n, positives): the agreement of each item with each positive over the views that both have.

    `similarity` has for each view an array (n, positives) of z-scores, NaN if either item lacks the view, clipped to
    ±`_MAX_SIMILARITY`. ρ is their mean, their minimum (as in CMA) or their soft minimum, and NaN if no view is shared.
    """
    stacked = np.clip(np.stack(similarity), -_MAX_SIMILARITY, _MAX_SIMILARITY)
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
    """Return A (n,) = Σ w ρ over the positives, for ρ (n, positives). A positive without a shared view adds nothing.

    A positive counts for itself as well. So if few positives carry most of the weight, there may be a single right
    answer, and it stays first.
    """
    return np.asarray(np.nan_to_num(rho, nan=0.0) @ weights, np.float32)


def rerank(
    scores: Floats, agreed: Floats, first: NDArray[np.intp], weights: Floats, view_sets: NDArray[np.int64], by: float
) -> Floats:
    """Return s + λ·(A − mean A of the positives with the same views), all (n,); `by` is λ.

    Agreement is higher between items of some kinds than of others. Without subtracting the mean, photos would rise
    above notes, and items of two views would sink below those of one. With it, the positives of each set of views keep
    their scores on average. For items with views that no positive has, the mean over all positives is subtracted.
    """
    final = np.array(scores, np.float32)
    positive_weights = np.maximum(weights, 1e-12)
    overall = np.average(agreed[first], weights=positive_weights)
    for views in np.unique(view_sets):
        rows, own = view_sets == views, view_sets[first] == views
        centre = np.average(agreed[first][own], weights=positive_weights[own]) if own.any() else overall
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
    """Return w (n,) in [0, 1]: how well the views of an item agree, from the z-score of their similarity.

    This is the weight of Robust-xID (Morgado, Misra and Vasconcelos 2021, arXiv:2103.15916): a soundtrack that is
    unrelated to its picture is weak evidence. An item with a single view (NaN) has weight 1.
    """
    return np.asarray(
        [1.0 if math.isnan(v) else 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z.tolist()], np.float32
    )
