"""Confidence: whether a hit is better than what unrelated queries find in this very collection."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.search.scoring.scale import Background, standardise

Floats = NDArray[np.float32]

HUB_SHARE = 0.75
"""How much of an item's hubness is taken off its z as evidence."""
FIRST = 5
"""How many first answers speak for each other: what is there mostly comes in kinds."""
_LEAST_SPREAD = 0.05


def evidence(z: Floats, hubs: Floats, vectors: Floats, between: Background, pool: int | None = None) -> Floats:
    """Return (n,): what speaks for each of the items that a query finds, in standard deviations of unrelated items.

    It is half the item's own z (n,) without its hubness (n,), half that of the first `FIRST`, and half of how like each
    other those are, by their unit `vectors` (n, dim) and the background `between` two items. The first are looked for
    among the first `pool` items only (None: all), so that the others don't change what there is to be found.
    """
    own = z - np.float32(HUB_SHARE) * hubs
    first = np.argsort(-own[:pool], kind="stable")[:FIRST]
    alike = standardise(vectors[first] @ vectors[first].T, between)
    m = len(first)
    coherence = float(alike.sum() - np.trace(alike)) / (m * (m - 1)) if m > 1 else 0.0
    return np.asarray((own + own[first].mean() + np.float32(coherence)) / 2, np.float32)


@dataclass(frozen=True, slots=True)
class Reach:
    """How much evidence unrelated queries have for their best answers here: where it lies, and how it spreads."""

    median: float
    spread: float

    def confidence(self, found: float) -> float:
        """Return in [0, 1] the share of unrelated queries whose best answer has less evidence than this."""
        return 0.5 * (1 + math.erf((found - self.median) / self.spread / math.sqrt(2)))


def fit_reach(best: Floats) -> Reach:
    """Fit what the queries of a bank reach at their best, (bank,).

    Some of them have an answer in the collection; so the spread is that of the lower half, which those don't reach.
    """
    median = float(np.median(best))
    lower = best[best <= median] - median
    return Reach(median, max(_LEAST_SPREAD, float(np.mean(lower**2)) ** 0.5))
