"""An index in memory, in NumPy: for what no file holds yet, and the measure of every other index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.vectors.base import Bitmap, top_k


class ExactIndex:
    """Sorted ids (n,) and their vectors (n, dim), rounded to float16 as every index's are."""

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.dim = vectors.shape[1]
        self._ids = ids
        self._vectors = vectors.astype(np.float16).astype(np.float32)

    @property
    def count(self) -> int:
        """How many vectors can be found."""
        return len(self._ids)

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of the vectors that can be found, sorted."""
        return self._ids

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best of each query: see `VectorIndex.search`."""
        scores = np.asarray(queries, np.float32) @ self._vectors.T
        if allowed is not None:
            bits = np.unpackbits(allowed, bitorder="little").astype(np.bool_)
            bits = np.pad(bits, (0, max(0, int(self._ids.max(initial=-1)) + 1 - len(bits))))
            scores = np.where(bits[self._ids], scores, -np.inf)
        return top_k(scores, self._ids, k)
