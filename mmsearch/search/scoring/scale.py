"""One scale: cosines of different pairs of views, brought to standard deviations from what unrelated items reach."""

from __future__ import annotations

from collections.abc import Sequence
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


def fuse(
    z: NDArray[np.float32], together: Sequence[bool], handicaps: Sequence[float] | NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return one score (n,) for what each view says, z (n, views), NaN where an item lacks a view.

    Any view may answer, and evidence of several adds up: log Σ e^z, which is the z of an item of one view, and all but
    the larger where one is far ahead. `handicaps` are taken off first. Where a query asks several views with evidence
    of their own (a clip, or a picture and a sound), an item that has all of these is judged by them `together`: Σz/√m,
    which for unrelated items has the spread of one z (Stouffer's method), so that items of one view and of several can
    be ranked in one list.
    """
    several = np.asarray(together, np.bool_)
    parts = z - np.asarray(handicaps if handicaps is not None else np.zeros(z.shape[1]), np.float32)
    if several.sum() > 1:
        joint = z[:, several].sum(axis=1, keepdims=True) / np.sqrt(several.sum())  # NaN where one is missing
        alone = np.where(np.isnan(joint), parts[:, several], np.nan)
        parts = np.concatenate([parts[:, ~several], alone, joint], axis=1)
    parts = np.where(np.isnan(parts), -np.inf, parts)
    best = parts.max(axis=1, keepdims=True)
    return np.asarray((best + np.log(np.exp(parts - best).sum(axis=1, keepdims=True)))[:, 0], np.float32)
