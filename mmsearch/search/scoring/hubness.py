"""Hubness: some items are near to whatever is asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 4
"""How many of the bank's queries an item is compared with: those it is nearest to."""


def hubness(z: NDArray[np.float32], k: int = NEIGHBOURS) -> NDArray[np.float32]:
    """Return (n,): the mean of the k largest of each item's z (bank, n) to a bank of other queries.

    What nearest-neighbour normalisation takes off a score (Chowdhury et al. 2024, arXiv:2410.24114). An empty bank
    knows no hubs.
    """
    if not len(z):
        return np.zeros(z.shape[1], np.float32)
    k = min(k, len(z))
    return np.asarray(np.partition(z, len(z) - k, axis=0)[len(z) - k :].mean(axis=0), np.float32)
