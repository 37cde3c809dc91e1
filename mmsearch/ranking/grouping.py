"""Many segments, one hit a content; many near-identical contents, one hit shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_of_each(scores: NDArray[np.float32], groups: Sequence[int], ties: Sequence[bytes]) -> list[int]:
    """Return the index of the best score of each group, best first; equal scores in the order of `ties`."""
    best: dict[int, int] = {}
    for i in sorted(range(len(groups)), key=lambda i: (-float(scores[i]), ties[i], i)):
        best.setdefault(groups[i], i)
    return list(best.values())


def near_duplicates(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Mark each row (n, dim) of ranked unit vectors that is closer than `threshold` to an unmarked row before it.

    Rows of zeros, for what has no such view, are near nothing.
    """
    marked = np.zeros(len(vectors), np.bool_)
    cosines = vectors @ vectors.T
    for i in range(1, len(vectors)):
        marked[i] = bool(np.any(cosines[i, :i][~marked[:i]] >= threshold))
    return marked
