"""An index in memory that needs only NumPy: the reference that every other index is compared with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mmsearch.vectors.base import Bitmap, Codes, Fetch, Ids, finite_codes, top_k

_FETCH_ROWS = 2**15
"""Vectors that are read from the catalog at once."""
_WIDENED_ROWS = 2**13
"""Codes that are converted to float32 at once."""
_MAX_SCORES = 2**24
"""Scores that are held at once (64 MB): a larger batch of queries is split."""


class ExactIndex:
    """Ids (n,) and their vectors (n, dim) in blocks, rounded to float16 as in every other index."""

    def __init__(self, dim: int, blocks: Iterable[tuple[Ids, Codes]]) -> None:
        """Build the index from blocks of ids and codes (n, dim); no id may appear twice."""
        self.dim = dim
        self._blocks = list(blocks)
        self._ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in self._blocks)])

    @classmethod
    def of(cls, ids: Ids, vectors: NDArray[np.float32]) -> ExactIndex:
        """Return the index of vectors (n, dim) under ids (n,)."""
        return cls(vectors.shape[1], [(ids, vectors.astype(np.float16))])

    @classmethod
    def read(cls, dim: int, live: Ids, fetch: Fetch) -> ExactIndex:
        """Return the index of the sorted `live` ids. Vectors that aren't finite are left out."""
        parts = (live[at : at + _FETCH_ROWS] for at in range(0, len(live), _FETCH_ROWS))
        return cls(dim, [finite_codes(*fetch(part)) for part in parts])

    @property
    def count(self) -> int:
        """Number of vectors that a search can return."""
        return len(self._ids)

    def ids(self) -> Ids:
        """Return the sorted ids of the vectors that a search can return."""
        return np.sort(self._ids)

    def is_intact(self) -> bool:
        """Return True: the index has no files that another program could change."""
        return True

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return the k best of each query: see `VectorIndex.search`."""
        rows = np.asarray(queries, np.float32)
        forbidden = None if allowed is None else ~_allows(allowed, self._ids)
        batch = max(1, _MAX_SCORES // max(1, self.count))
        results = [top_k(np.empty((0, 0), np.float32), np.empty(0, np.int64), k)]
        for start in range(0, len(rows), batch):
            scores = self._scores(rows[start : start + batch])
            if forbidden is not None:
                scores[:, forbidden] = -np.inf
            results += [_best(row, self._ids, k) for row in scores]
        return np.concatenate([result[0] for result in results]), np.concatenate([result[1] for result in results])

    def _scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.empty((len(queries), self.count), np.float32)
        done = 0
        for _, codes in self._blocks:
            for start in range(0, len(codes), _WIDENED_ROWS):
                part = codes[start : start + _WIDENED_ROWS].astype(np.float32)
                np.matmul(queries, part.T, out=scores[:, done : done + len(part)])
                done += len(part)
        return scores


def _allows(allowed: Bitmap, ids: Ids) -> NDArray[np.bool_]:
    """Return for each id, (n,), whether a bitmap allows it."""
    byte_numbers = np.minimum(ids >> 3, len(allowed))
    bits = np.append(allowed, np.uint8(0))[byte_numbers] >> (ids & 7).astype(np.uint8)
    return np.asarray(bits & 1, np.bool_)


def _best(scores: NDArray[np.float32], ids: Ids, k: int) -> tuple[NDArray[np.float32], Ids]:
    """Return the k best of one query's scores (n,) as rows (1, k).

    A partition first discards the scores below the k-th best, so that few are sorted.
    """
    if 4 * k < len(scores):
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= threshold)
        scores, ids = scores[chosen], ids[chosen]
    return top_k(scores[None], ids, k)
