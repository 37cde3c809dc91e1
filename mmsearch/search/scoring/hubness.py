"""Hubness: some items are close to nearly every query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 4
"""Number of queries of the bank, those nearest to an item, over which its hubness is averaged."""


def hubness(z: NDArray[np.float32], k: int = NEIGHBOURS) -> NDArray[np.float32]:
    """Return the hubness (n,): the mean of the k largest z-scores, of (bank, n), of each item for the bank's queries.

    Nearest-neighbour normalisation subtracts this from a score (Chowdhury et al. 2024, arXiv:2410.24114). For an empty
    bank it is 0.
    """
    if not len(z):
        return np.zeros(z.shape[1], np.float32)
    k = min(k, len(z))
    return np.asarray(np.partition(z, len(z) - k, axis=0)[len(z) - k :].mean(axis=0), np.float32)
