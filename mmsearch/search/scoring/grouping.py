"""Many segments, one hit a content; many near-identical contents, one hit shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_of_each(scores: NDArray[np.float32], groups: Sequence[int], ties: Sequence[bytes]) -> list[int]:
    """Return the index of the best score of each group, best first; equal scores in the order of `ties`."""
    best: dict[int, int] = {}
    for i in sorted(range(len(groups)), key=lambda i: (-float(scores[i]), ties[i], i)):
        best.setdefault(groups[i], i)
    return list(best.values())


def near_duplicates(
    views: Sequence[NDArray[np.float32]], kinds: NDArray[Any], thresholds: Sequence[float]
) -> NDArray[np.bool_]:
    """Mark each ranked item that is the same as an unmarked one before it: of its kind, and alike in all they share.

    `views` holds unit vectors (n, dim) for each view, rows of NaN where an item lacks it. Two items are alike if in
    every view that both have their cosine reaches that view's threshold; items that share no view aren't.
    """
    cosines = np.stack([vectors @ vectors.T for vectors in views])
    shared = ~np.isnan(cosines)
    alike = (~shared | (cosines >= np.asarray(thresholds)[:, None, None])).all(axis=0)
    alike &= shared.any(axis=0) & (kinds[:, None] == kinds[None, :])
    marked = np.zeros(len(kinds), np.bool_)
    for i in range(1, len(kinds)):
        marked[i] = bool(np.any(alike[i, :i] & ~marked[:i]))
    return marked
