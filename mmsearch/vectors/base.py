"""The protocol of a vector index: exact inner-product search over ids, with filters as bitmaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Codes = NDArray[np.float16]
Fetch = Callable[[Ids], tuple[Ids, NDArray[np.float32]]]
"""Takes sorted ids; returns those that exist and their vectors (n, dim) float32."""
Bitmap = NDArray[np.uint8]
"""Bit i (of byte i // 8, least significant first) is set if id i may be returned; ids beyond its end may not."""


MOST_ID = 2**32
"""No embedding has an id from here on: the bitmap of them all takes half a gigabyte."""
_DENSE = 32
"""Where there are fewer than so many ids for each one that is allowed, they are marked in an array first."""


class VectorIndex(Protocol):
    """Vectors under ids, searched by inner product; scores are higher-is-better."""

    dim: int

    @property
    def count(self) -> int:
        """Number of vectors that a search can return."""
        ...

    def ids(self) -> NDArray[np.int64]:
        """Return the sorted ids of the vectors that a search can return."""
        ...

    def is_intact(self) -> bool:
        """Return whether the index can still be searched: no other program has changed its files."""
        ...

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best of each query: scores (q, k) float32, best first, and their ids (q, k) int64.

        The search is exact over float16 codes, with or without a filter. If fewer than k vectors are allowed, rows end
        in −inf and −1. Queries (q, dim) need not be normalised.
        """
        ...


def bitmap(ids: NDArray[np.int64]) -> Bitmap:
    """Return the bitmap that allows just these ids, each from 0 to `MOST_ID`."""
    size = int(ids.max(initial=-1)) + 1
    if size <= _DENSE * len(ids):  # four times as fast, at a byte for every id there could be
        allowed = np.zeros(size, np.bool_)
        allowed[ids] = True
        return np.packbits(allowed, bitorder="little")
    bits = np.zeros(((size - 1) >> 3) + 1, np.uint8)
    places = ids >> 3
    for bit in range(8):  # no place comes twice among the ids of one bit, so that plain indexing will do
        mine = places[(ids & 7) == bit]
        bits[mine] |= np.uint8(1 << bit)
    return bits


def finite_codes(ids: Ids, vectors: NDArray[np.float32]) -> tuple[Ids, Codes]:
    """Return ids and float16 codes (n, dim) of vectors.

    Vectors that aren't finite in float16 are left out: their scores would be NaN.
    """
    with np.errstate(over="ignore"):
        codes = np.asarray(vectors).astype("<f2")
    finite = np.isfinite(codes).all(axis=1)
    return (ids, codes) if finite.all() else (ids[finite], codes[finite])


def top_k(scores: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k best columns of each row, best first (equal scores by id), padded with −inf and −1.

    `ids` has one id per column, (n,), or one per score, (q, n). Scores of −inf are not returned.
    """
    ids = np.where(np.isneginf(scores), -1, np.broadcast_to(ids, scores.shape))
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    pad = ((0, 0), (0, max(0, k - scores.shape[1])))
    return (
        np.pad(np.take_along_axis(scores, order, axis=1), pad, constant_values=-np.inf),
        np.pad(np.take_along_axis(ids, order, axis=1), pad, constant_values=-1),
    )
