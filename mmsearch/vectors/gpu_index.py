"""A copy of an index on a GPU, for a `Library` that answers many queries.

The GPU only proposes candidates. Its float16 arithmetic may swap two whose scores differ by less than 1e-3, so it
returns more than are wanted, and the CPU scores these again from the codes: ids and scores are those of a CPU search.
Searches with a filter or a very large k run on the CPU alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.vectors.base import Bitmap, top_k
from mmsearch.vectors.faiss_index import FaissIndex, load_faiss

MAX_K = 2048
"""The largest k that FAISS supports on a GPU."""
SPARE = 64
"""Number of candidates that the GPU returns beyond k."""
IVF_ROWS = 8_000_000
"""From this many vectors on, they are clustered and a query searches only some clusters: it is no longer exact."""
PROBES = 64
"""Number of clusters that a query searches."""
_COPY_ROWS = 2**18
"""Vectors that are copied to the device at once."""
_TRAINING_ROWS = 2**20
"""Number of vectors from which the clusters are learned."""

ToGpu = Callable[[Any], Any]
"""Takes a FAISS index on the CPU; returns the same index on a device."""


class GpuIndex:
    """A copy of a `FaissIndex` on a device. `to_gpu` moves it there, by default to the first GPU."""

    def __init__(self, index: FaissIndex, to_gpu: ToGpu | None = None, ivf_rows: int = IVF_ROWS) -> None:
        """Copy the index: some seconds for millions of vectors. Raises `RuntimeError` if the device lacks memory."""
        self.dim = index.dim
        self._exact = index
        self._guard = threading.Lock()
        self._ids = index.ids()
        faiss = load_faiss()
        metric, half = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_fp16
        if len(self._ids) >= ivf_rows:
            lists = int(4 * len(self._ids) ** 0.5)
            quantiser = faiss.IndexFlatIP(self.dim)
            copy = faiss.IndexIVFScalarQuantizer(quantiser, self.dim, lists, half, metric, False)
            copy.nprobe = min(PROBES, lists)
            step = max(1, len(self._ids) // _TRAINING_ROWS)
            copy.train(index.vectors(self._ids[::step]))
        else:
            copy = faiss.IndexFlatIP(self.dim)
        self._copy = (to_gpu or _to_first_gpu)(copy)
        for start in range(0, len(self._ids), _COPY_ROWS):
            self._copy.add(index.vectors(self._ids[start : start + _COPY_ROWS]))

    @property
    def count(self) -> int:
        """Number of vectors that a search can return."""
        return len(self._ids)

    def ids(self) -> NDArray[np.int64]:
        """Return the sorted ids of the vectors that a search can return."""
        return self._ids

    def is_intact(self) -> bool:
        """Return whether the files of the copied index are unchanged."""
        return self._exact.is_intact()

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best of each query: see `VectorIndex.search`."""
        depth = min(k + SPARE, len(self._ids))
        if allowed is not None or depth > MAX_K or not depth:
            return self._exact.search(queries, k, allowed)
        rows = np.ascontiguousarray(queries, np.float32)
        with self._guard:  # a GPU's resources serve one thread at a time
            _, positions = self._copy.search(rows, depth)
        candidates = np.unique(positions[positions >= 0])  # a vector that several queries share is read once
        ids, vectors = self._ids[candidates], self._exact.vectors(self._ids[candidates])
        at = np.searchsorted(candidates, np.maximum(positions, 0))
        scores = np.einsum("qd,qkd->qk", rows, vectors[at], dtype=np.float32)
        return top_k(np.where(positions < 0, -np.inf, scores).astype(np.float32), ids[at], k)


def has_gpu() -> bool:
    """Return whether FAISS sees a GPU."""
    faiss = load_faiss()
    return hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0


def _to_first_gpu(index: Any) -> Any:  # noqa: ANN401  faiss has no types
    faiss = load_faiss()
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    resources = faiss.StandardGpuResources()
    copy = faiss.index_cpu_to_gpu(resources, 0, index, options)
    copy.resources = resources  # keeps them alive as long as the index
    return copy
