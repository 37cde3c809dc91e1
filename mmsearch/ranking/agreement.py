"""Agreement re-ranking: cross-modal agreement (CMA) at query time.

AVID-CMA (Morgado, Vasconcelos, Misra 2021) calls two instances positives of each other where they agree in both views:
ρ_ij = min(v_i·v_j, a_i·a_j). Here the first answers are each other's neighbours, and what agrees with the others in
every view that both have rises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K")


def agreement(similarity: Mapping[K, NDArray[np.float32]], neighbours: int) -> NDArray[np.float32]:
    """Return A (n,): the mean of ρ_ij over the first `neighbours` candidates without i, candidates ranked best first.

    `similarity` holds for each view the (n, n) similarities on one scale, NaN where either candidate lacks the view.
    ρ_ij is the least over the views that i and j share. A is NaN for what shares no view with any of them.
    """
    stacked = np.stack(list(similarity.values()))
    shared = ~np.isnan(stacked)
    rho = np.where(shared.any(axis=0), np.where(shared, stacked, np.inf).min(axis=0), np.nan)
    np.fill_diagonal(rho, np.nan)
    first = rho[:, :neighbours]
    counts = (~np.isnan(first)).sum(axis=1)
    sums = np.nansum(first, axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def rerank(
    scores: NDArray[np.float32],
    agreed: NDArray[np.float32],
    trust: NDArray[np.float32],
    view_sets: NDArray[np.int64],
    strength: float,
) -> NDArray[np.float32]:
    """Return final = z + λ·w·(A − mean of A over candidates with the same views), all (n,).

    Without that mean, items of two views would sink below items of one: the mean of a minimum is lower. `trust` is w
    in [0, 1]: how far an item's own views agree, 0 where it has but one.
    """
    centred = np.zeros_like(scores)
    for views in np.unique(view_sets):
        rows = (view_sets == views) & ~np.isnan(agreed)
        if rows.any():
            centred[rows] = agreed[rows] - agreed[rows].mean()
    return scores + np.float32(strength) * trust * centred
