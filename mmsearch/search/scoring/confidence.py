"""Confidence: the probability that a hit is better than what unrelated queries find in the same library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.search.scoring.scale import Background, standardise

Floats = NDArray[np.float32]

HUB_SHARE = 0.75
"""The share of an item's hubness that is subtracted from its z-score."""
FIRST = 5
"""Number of first answers whose coherence counts: if a class is in the library, it mostly has several items."""
_LEAST_SPREAD = 0.05


def evidence(z: Floats, hubs: Floats, vectors: Floats, between: Background, pool: int | None = None) -> Floats:
    """Return the evidence (n,) that each found item is relevant, in standard deviations of unrelated items.

    It is half the sum of three terms: the item's z-score less its hubness, both (n,); the mean of this over the `FIRST`
    best items; and the coherence of these, their mean similarity by unit `vectors` (n, dim), standardised by the score
    distribution `between` two items. The best items are chosen among the first `pool` only (None: all), so that items
    that were added later don't change the result.
    """
    adjusted = z - np.float32(HUB_SHARE) * hubs
    first = np.argsort(-adjusted[:pool], kind="stable")[:FIRST]
    similarity = standardise(vectors[first] @ vectors[first].T, between)
    m = len(first)
    coherence = float(similarity.sum() - np.trace(similarity)) / (m * (m - 1)) if m > 1 else 0.0
    return np.asarray((adjusted + adjusted[first].mean() + np.float32(coherence)) / 2, np.float32)


@dataclass(frozen=True, slots=True)
class Reach:
    """The distribution of the evidence that unrelated queries have for their best answers in a library."""

    median: float
    spread: float

    def confidence(self, found: float) -> float:
        """Return the share, in [0, 1], of unrelated queries whose best answer has less evidence than this."""
        return 0.5 * (1 + math.erf((found - self.median) / self.spread / math.sqrt(2)))


def fit_reach(best: Floats) -> Reach:
    """Fit the distribution of the evidence for the best answers of the query bank, (bank,).

    Some of these queries have an answer in the library, which raises the upper half; so the lower half gives the
    spread.
    """
    median = float(np.median(best))
    lower = best[best <= median] - median
    return Reach(median, max(_LEAST_SPREAD, float(np.mean(lower**2)) ** 0.5))
