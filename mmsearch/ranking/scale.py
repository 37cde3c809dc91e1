"""One scale: cosines of different pairs of views, brought to standard deviations from what unrelated items reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR_WEIGHT = 32
"""How many samples the space's own background counts as: what a small library's estimate is drawn towards."""


@dataclass(frozen=True, slots=True)
class Background:
    """Mean and standard deviation of the cosine between a query and unrelated items of one view."""

    mean: float
    std: float


def estimate_background(cosines: NDArray[np.float32], prior: Background) -> Background:
    """Estimate a query's background from its cosines (n,) to a sample of the collection.

    The few related items among the sample would raise both moments, so the centre is the median and the spread is that
    of the lower half, which they don't reach. Below some hundred samples the estimate is drawn to the prior, as if
    `PRIOR_WEIGHT` samples of it had been seen (the posterior mean of a normal with conjugate prior).
    """
    n = len(cosines)
    if n == 0:
        return prior
    median = float(np.median(cosines))
    lower = cosines[cosines <= median] - median
    variance = float(np.mean(lower**2))
    share = n / (n + PRIOR_WEIGHT)
    return Background(
        mean=share * median + (1 - share) * prior.mean,
        std=max(1e-6, (share * variance + (1 - share) * prior.std**2) ** 0.5),
    )


def standardise(cosines: NDArray[np.float32], background: Background) -> NDArray[np.float32]:
    """Return z = (s − μ)/σ."""
    return np.asarray((cosines - background.mean) / background.std, np.float32)
