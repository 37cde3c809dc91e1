"""Brings cosines of different pairs of views to one scale: z-scores against the scores of unrelated items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR_WEIGHT = 32
"""The number of samples that the space's own score distribution counts as, for the estimates of small libraries."""


@dataclass(frozen=True, slots=True)
class Background:
    """A score distribution: mean and standard deviation of the cosine between a query and unrelated items of a view."""

    mean: float
    std: float


def estimate_background(cosines: NDArray[np.float32], prior: Background) -> Background:
    """Estimate a query's score distribution from its cosines (n,) to a sample of the library.

    The few related items in the sample would raise mean and variance. So the median is used as the mean, and the spread
    of the lower half, which contains no related items. The estimate is shrunk towards the prior, which counts as
    `PRIOR_WEIGHT` samples (the posterior mean of a normal with conjugate prior).
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


def fuse(
    z: NDArray[np.float32], together: Sequence[bool], handicaps: Sequence[float] | NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return one score (n,) from the z-scores (n, views) of the views; NaN where an item lacks a view.

    The views are combined by log Σ e^z: for a single view this is its z, and if one view is far ahead, nearly that
    view's z. `handicaps` are subtracted first. If a query has its own evidence for several views (a clip, or a picture
    and a sound), marked in `together`, items that have all of these views get the joint score Σz/√m instead. For
    unrelated items, this has the spread of a single z (Stouffer's method), so that items with one view and with several
    can be ranked in one list.
    """
    several = np.asarray(together, np.bool_)
    parts = z - np.asarray(handicaps if handicaps is not None else np.zeros(z.shape[1]), np.float32)
    if several.sum() > 1:
        joint = z[:, several].sum(axis=1, keepdims=True) / np.sqrt(several.sum())  # NaN if an item lacks one of them
        alone = np.where(np.isnan(joint), parts[:, several], np.nan)
        parts = np.concatenate([parts[:, ~several], alone, joint], axis=1)
    parts = np.where(np.isnan(parts), -np.inf, parts)
    best = parts.max(axis=1, keepdims=True)
    return np.asarray((best + np.log(np.exp(parts - best).sum(axis=1, keepdims=True)))[:, 0], np.float32)
