"""FAISS: generations of float16 codes in immutable files, memory-mapped and searched exactly by inner product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import LibraryError, one_line
from mmsearch.vectors.base import Bitmap, bitmap, top_k

if TYPE_CHECKING:
    import faiss


def load_faiss() -> Any:  # noqa: ANN401  faiss has no types
    """Return the module faiss: its one door. Raises `LibraryError` where it can't be loaded."""
    try:
        import faiss  # loaded only when an index is searched or written
    except ImportError as error:
        raise LibraryError(f"FAISS can't be loaded ({error}); run 'pip install faiss-cpu'") from error
    return faiss


class FaissIndex:
    """Generations of one index, less the deleted ids. Nothing here ever changes a mapped index: FAISS would abort."""

    def __init__(self, dim: int, generations: Sequence[faiss.IndexIDMap], deleted: NDArray[np.int64]) -> None:
        self.dim = dim
        self._generations = list(generations)
        self._deleted = deleted

    @cached_property
    def _generation_ids(self) -> list[NDArray[np.int64]]:
        return [np.asarray(load_faiss().vector_to_array(index.id_map)) for index in self._generations]

    @cached_property
    def _ids(self) -> NDArray[np.int64]:
        every = np.concatenate([np.empty(0, np.int64), *self._generation_ids])
        return np.setdiff1d(every, self._deleted)

    @cached_property
    def _alive(self) -> Bitmap | None:
        return bitmap(self._ids) if len(self._deleted) else None

    @property
    def count(self) -> int:
        """How many vectors can be found."""
        return sum(index.ntotal for index in self._generations) - len(self._deleted)

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of the vectors that can be found, sorted."""
        return self._ids

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ids that can be found, (n, dim) float32, as their codes have them."""
        out = np.zeros((len(ids), self.dim), np.float32)
        for index, known in zip(self._generations, self._generation_ids, strict=True):
            order = np.argsort(known)
            at = np.searchsorted(known, ids, sorter=order)
            held = np.take(order, at, mode="clip")
            mine = np.flatnonzero(known[held] == ids) if len(known) else np.empty(0, np.int64)
            if len(mine):
                out[mine] = load_faiss().downcast_index(index.index).reconstruct_batch(held[mine])
        return out

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best of each query: see `VectorIndex.search`."""
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
        # FAISS gives each query a thread, and one query a team all the same: on two cores, a team that waits takes
        # NumPy's threads 20 ms where searching takes 0.2.
        faiss.omp_set_num_threads(max(1, min(threads, len(rows))))
        try:
            found = [
                index.search(rows, min(k, index.ntotal), params=parameters)
                for index in self._generations
                if index.ntotal
            ]
        finally:
            faiss.omp_set_num_threads(threads)
        scores = np.concatenate([np.empty((len(rows), 0), np.float32), *(part[0] for part in found)], axis=1)
        ids = np.concatenate([np.empty((len(rows), 0), np.int64), *(part[1] for part in found)], axis=1)
        # FAISS pads with id −1 and the lowest float there is.
        return top_k(np.where(ids < 0, -np.inf, scores).astype(np.float32), ids, k)


def _intersect(one: Bitmap | None, other: Bitmap | None) -> Bitmap | None:
    if one is None or other is None:
        return other if one is None else one
    size = min(len(one), len(other))
    return one[:size] & other[:size]


def write_generation(file: Path, dim: int, parts: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> int:
    """Write ids (n,) and vectors (n, dim) as float16 codes into a FAISS file; return how many there are."""
    faiss = load_faiss()
    codes = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexIDMap(codes)
    for ids, vectors in parts:
        index.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids, np.int64))
    try:
        faiss.write_index(index, str(file))
    except RuntimeError as error:
        raise LibraryError(
            f"{file} can't be written; free some space and run 'mmsearch index' again ({one_line(error)})"
        ) from error
    return int(index.ntotal)


def map_generation(file: Path, dim: int, count: int) -> faiss.IndexIDMap:
    """Map a file that `write_generation` wrote. Raises `LibraryError` where it isn't what it should be."""
    faiss = load_faiss()
    try:
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise LibraryError(f"{file} can't be read ({one_line(error)})") from error
    if not isinstance(index, faiss.IndexIDMap) or index.d != dim or index.ntotal != count:
        raise LibraryError(f"{file} holds another index")
    return index  # type: ignore[no-any-return]  # narrowed by isinstance of a module that is Any
