"""An index that is resident on a GPU, beside the one in files: for a Library that answers many queries.

The GPU only proposes. Its float16 arithmetic may swap two that lie within 1e-3, so it is asked for some more than are
wanted, and those are scored anew from the codes on the CPU: ids and scores are the ones that the CPU would give. What a
GPU can't do, filters and very long answers, goes to the CPU at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.vectors.base import Bitmap, top_k
from mmsearch.vectors.faiss_index import FaissIndex, load_faiss

MOST = 2048
"""The longest answer that FAISS gives on a GPU."""
SPARE = 64
"""How many more than are wanted the GPU is asked for."""
IVF_ROWS = 8_000_000
"""From so many vectors on they are clustered, and a query looks at some clusters only: no longer exact."""
PROBES = 64
_BLOCK = 2**18
_TRAINED = 2**20

ToGpu = Callable[[Any], Any]
"""An index of FAISS on the CPU → the same on a device."""


class GpuIndex:
    """A copy of a `FaissIndex` on a device. `to_gpu` takes it there; that of FAISS by default."""

    def __init__(self, index: FaissIndex, to_gpu: ToGpu | None = None, ivf_rows: int = IVF_ROWS) -> None:
        """Copy the index: some seconds for millions of vectors. Raises `RuntimeError` where the device has no room."""
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
            step = max(1, len(self._ids) // _TRAINED)
            copy.train(index.vectors(self._ids[::step]))
        else:
            copy = faiss.IndexFlatIP(self.dim)
        self._copy = (to_gpu or _to_first_gpu)(copy)
        for start in range(0, len(self._ids), _BLOCK):
            self._copy.add(index.vectors(self._ids[start : start + _BLOCK]))

    @property
    def count(self) -> int:
        """How many vectors can be found."""
        return len(self._ids)

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of the vectors that can be found, sorted."""
        return self._ids

    def is_intact(self) -> bool:
        """Return whether the files of the index that it is a copy of are as they were."""
        return self._exact.is_intact()

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Bitmap | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best of each query: see `VectorIndex.search`."""
        wanted = min(k + SPARE, len(self._ids))
        if allowed is not None or wanted > MOST or not wanted:
            return self._exact.search(queries, k, allowed)
        rows = np.ascontiguousarray(queries, np.float32)
        with self._guard:  # a GPU's resources serve one thread at a time
            _, places = self._copy.search(rows, wanted)
        found = np.unique(places[places >= 0])  # of a batch, each vector is read once
        ids, vectors = self._ids[found], self._exact.vectors(self._ids[found])
        at = np.searchsorted(found, np.maximum(places, 0))
        scores = np.einsum("qd,qkd->qk", rows, vectors[at], dtype=np.float32)
        return top_k(np.where(places < 0, -np.inf, scores).astype(np.float32), ids[at], k)


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
    copy.resources = resources  # Python must not let go of them before the index
    return copy
