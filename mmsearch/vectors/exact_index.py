"""An index in memory, in NumPy: for what no file holds yet, and the measure of every other index."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mmsearch.vectors.base import Bitmap, Codes, Fetch, Ids, finite_codes, top_k

_FETCHED = 2**15
_BLOCK_ROWS = 2**16
"""Rows of one block in memory: what is copied when something in it is deleted, or added to the last one."""
_WIDENED_ROWS = 2**13
_SCORES = 2**24
"""Most scores at once (64 MB): more queries are answered in turn."""


class ExactIndex:
    """Ids (n,) and their vectors (n, dim), rounded to float16 as every index's are, in blocks."""

    def __init__(self, dim: int, blocks: Iterable[tuple[Ids, Codes]]) -> None:
        """Take blocks of ids, none of them twice, and codes (n, dim)."""
        self.dim = dim
        self._blocks = list(blocks)
        self._ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in self._blocks)])

    @classmethod
    def of(cls, ids: Ids, vectors: NDArray[np.float32]) -> ExactIndex:
        """Return the index of vectors (n, dim) under ids (n,)."""
        return cls(vectors.shape[1], [(ids, vectors.astype(np.float16))])

    def following(self, live: Ids, fetch: Fetch) -> ExactIndex:
        """Return the index of the sorted `live` ids: what this one holds of them isn't fetched again.

        `fetch` gives those of some sorted ids that exist, and their vectors. Vectors that aren't finite are left out.
        """
        blocks = [_without_dead(ids, codes, live) for ids, codes in self._blocks]
        blocks = [(ids, codes) for ids, codes in blocks if len(ids)]
        new = np.setdiff1d(live, self._ids)
        for start in range(0, len(new), _FETCHED):
            there, vectors = fetch(new[start : start + _FETCHED])
            _append(blocks, *finite_codes(there, vectors))
        return ExactIndex(self.dim, blocks)

    @property
    def count(self) -> int:
        """How many vectors can be found."""
        return len(self._ids)

    def ids(self) -> Ids:
        """Return the ids of the vectors that can be found, sorted."""
        return np.sort(self._ids)

    def is_intact(self) -> bool:
        """Return whether it can still be searched: always."""
        return True

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return the k best of each query: see `VectorIndex.search`."""
        rows = np.asarray(queries, np.float32)
        forbidden = None if allowed is None else ~_allows(allowed, self._ids)
        at_once = max(1, _SCORES // max(1, self.count))
        found = [top_k(np.empty((0, 0), np.float32), np.empty(0, np.int64), k)]
        for start in range(0, len(rows), at_once):
            scores = self._scores(rows[start : start + at_once])
            if forbidden is not None:
                scores[:, forbidden] = -np.inf
            found += [_best(row, self._ids, k) for row in scores]
        return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def _scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.empty((len(queries), self.count), np.float32)
        done = 0
        for _, codes in self._blocks:
            for start in range(0, len(codes), _WIDENED_ROWS):
                part = codes[start : start + _WIDENED_ROWS].astype(np.float32)
                np.matmul(queries, part.T, out=scores[:, done : done + len(part)])
                done += len(part)
        return scores


def _without_dead(ids: Ids, codes: Codes, live: Ids) -> tuple[Ids, Codes]:
    alive = np.isin(ids, live)
    return (ids, codes) if alive.all() else (ids[alive], codes[alive])


def _append(blocks: list[tuple[Ids, Codes]], ids: Ids, codes: Codes) -> None:
    """Add rows to the last block while it is small: else every refresh would leave one more behind."""
    if blocks and len(blocks[-1][0]) + len(ids) <= _BLOCK_ROWS:
        last_ids, last_codes = blocks.pop()
        ids, codes = np.concatenate([last_ids, ids]), np.concatenate([last_codes, codes])
    blocks.append((ids, codes))


def _allows(allowed: Bitmap, ids: Ids) -> NDArray[np.bool_]:
    """Return (n,) which of these ids a bitmap allows."""
    places = np.minimum(ids >> 3, len(allowed))
    bits = np.append(allowed, np.uint8(0))[places] >> (ids & 7).astype(np.uint8)
    return np.asarray(bits & 1, np.bool_)


def _best(scores: NDArray[np.float32], ids: Ids, k: int) -> tuple[NDArray[np.float32], Ids]:
    """Return (1, k) of one query's scores (n,): only what may be among the best is sorted."""
    if 4 * k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= least)
        scores, ids = scores[chosen], ids[chosen]
    return top_k(scores[None], ids, k)
