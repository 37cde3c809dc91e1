"""FAISS: generations of float16 codes in immutable files, memory-mapped and searched exactly by inner product."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DamagedIndexError, MissingPackageError, one_line
from mmsearch.extras import command, needed_for
from mmsearch.vectors.base import Bitmap, bitmap, top_k

if TYPE_CHECKING:
    import faiss

    from mmsearch.vectors.generation import Generation


def load_faiss() -> Any:  # noqa: ANN401  faiss has no types
    """Return the module faiss: its one door. Raises `MissingPackageError` where it can't be loaded."""
    try:
        with needed_for("an index of FAISS"):
            import faiss  # loaded only when an index is searched or written
    except ImportError as error:  # it is installed, and lacks a library of its own
        raise MissingPackageError(f"FAISS can't be loaded ({one_line(error)}); run: {command('cpu')}") from error
    return faiss


class FaissIndex:
    """The generations of one index without its deleted ids. A mapped index is never changed: FAISS would abort."""

    def __init__(self, dim: int, generations: Sequence[Generation], deleted: NDArray[np.int64]) -> None:
        """Build the index from generations that share no id, and deleted ids that are each in one of them."""
        self.dim = dim
        self._generations = list(generations)
        self._deleted = deleted

    @property
    def generations(self) -> tuple[Generation, ...]:
        """The generations, which still contain the vectors of deleted ids."""
        return tuple(self._generations)

    @cached_property
    def _ids(self) -> NDArray[np.int64]:
        every = np.concatenate([np.empty(0, np.int64), *(generation.ids for generation in self._generations)])
        return np.setdiff1d(every, self._deleted)

    @cached_property
    def _alive(self) -> Bitmap | None:
        return bitmap(self._ids) if len(self._deleted) else None

    @property
    def count(self) -> int:
        """Number of vectors that a search can return."""
        return sum(len(generation.ids) for generation in self._generations) - len(self._deleted)

    def ids(self) -> NDArray[np.int64]:
        """Return the sorted ids of the vectors that a search can return."""
        return self._ids

    def is_intact(self) -> bool:
        """Return whether the index's files are unchanged since they were checked."""
        return all(generation.is_intact() for generation in self._generations)

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ids in the index, (n, dim) float32, as decoded from their float16 codes."""
        self._refuse_changed()
        out = np.zeros((len(ids), self.dim), np.float32)
        for generation in self._generations:
            known = generation.ids
            at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            rows = np.flatnonzero(known[at] == ids)
            if len(rows):
                out[rows] = load_faiss().downcast_index(generation.index.index).reconstruct_batch(at[rows])
        return out

    def _refuse_changed(self) -> None:
        """Raise `DamagedIndexError` if a file has changed: reading beyond its new end would kill the process."""
        if not self.is_intact():
            raise DamagedIndexError("another program has changed an index while it was open; run the same query again")

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best of each query: see `VectorIndex.search`."""
        self._refuse_changed()
        faiss = load_faiss()
        rows = np.ascontiguousarray(queries, np.float32)
        bits = _intersect(allowed, self._alive)
        if bits is not None and not bits.any():
            return top_k(np.empty((len(rows), 0), np.float32), np.empty(0, np.int64), k)
        parameters = None
        if bits is not None:
            selector = faiss.IDSelectorBitmap(bits)  # a bitmap: 6 times faster than a batch of ids at half of 200k
            parameters = faiss.SearchParameters(sel=selector)
        threads = faiss.omp_get_max_threads()
        # FAISS gives each query one thread, but starts a full team even for a single query. On two cores, the waiting
        # team delays NumPy's threads by 20 ms, while the search itself takes 0.2 ms.
        faiss.omp_set_num_threads(max(1, min(threads, len(rows))))
        try:
            results = [
                generation.index.search(rows, min(k, len(generation.ids)), params=parameters)
                for generation in self._generations
                if len(generation.ids)
            ]
        finally:
            faiss.omp_set_num_threads(threads)
        scores = np.concatenate([np.empty((len(rows), 0), np.float32), *(result[0] for result in results)], axis=1)
        ids = np.concatenate([np.empty((len(rows), 0), np.int64), *(result[1] for result in results)], axis=1)
        # FAISS pads with id −1 and the lowest finite float.
        return top_k(np.where(ids < 0, -np.inf, scores).astype(np.float32), ids, k)


def _intersect(first: Bitmap | None, second: Bitmap | None) -> Bitmap | None:
    if first is None or second is None:
        return second if first is None else first
    size = min(len(first), len(second))
    return first[:size] & second[:size]


def index_of(dim: int, codes: NDArray[np.uint8], ids: NDArray[np.int64]) -> faiss.IndexIDMap:
    """Return an index in memory of float16 codes, (n, 2 dim) bytes, under their ids (n,)."""
    faiss = load_faiss()
    quantizer = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(quantizer)
    index.add_sa_codes(codes, ids)
    return index  # type: ignore[no-any-return]  # faiss has no types


def map_index(file: Path) -> faiss.IndexIDMap:
    """Map a file whose structure was verified, since FAISS trusts its header. Raises `DamagedIndexError`."""
    faiss = load_faiss()
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)  # type: ignore[no-any-return]  # faiss has no types
    except RuntimeError as error:
        raise DamagedIndexError(f"{file} can't be read ({one_line(error)})") from error


def codes_of(index: faiss.IndexIDMap) -> memoryview:
    """Return the codes of an index without copying them."""
    faiss = load_faiss()
    codes = faiss.downcast_index(index.index).codes
    return memoryview(faiss.rev_swig_ptr(codes.data(), codes.size()))
