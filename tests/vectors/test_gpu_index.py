"""The index on a GPU answers as the one on the CPU. Where there is no GPU, a stand-in for it rounds as one does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.vectors import FaissIndex, GpuIndex, IndexStore, bitmap, has_gpu
from mmsearch.vectors.gpu_index import MAX_K, ToGpu

if TYPE_CHECKING:
    import faiss

DIM = 32


class HalfGpu:
    """Searches as a GPU does: in float16 throughout, so that what lies close together changes places."""

    def __init__(self, index: faiss.Index) -> None:
        self.rows = np.zeros((0, index.d), np.float16)
        self.index = index
        self.asked: list[int] = []

    def add(self, rows: NDArray[np.float32]) -> None:
        self.rows = np.concatenate([self.rows, rows.astype(np.float16)])

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert k <= MAX_K
        self.asked.append(k)
        scores = (queries.astype(np.float16) @ self.rows.T).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), order.astype(np.int64)


def unit(count: int, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture
def index(tmp_path: Path) -> FaissIndex:
    """Two generations, less some deleted ids."""
    vectors = unit(3_000)
    known = np.arange(3_000, dtype=np.int64) * 3 + 5

    def fetch(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return ids, vectors[(ids - 5) // 3]

    store = IndexStore(tmp_path / "index", DIM)
    store.catch_up(known[:2_900], 1, fetch)
    return store.catch_up(np.delete(known, [3, 700, 2_899]), 2, fetch)


def test_the_vectors_of_any_ids_are_those_of_the_codes(index: FaissIndex) -> None:
    ids = index.ids()[[2_900, 0, 17, 2_901, 5]]
    expected = unit(3_000)[(ids - 5) // 3].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(index.vectors(ids), expected)


@pytest.mark.parametrize("to_gpu", [HalfGpu, None], ids=["stand-in", "gpu"])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_ids_equal_the_cpus_and_scores_are_within_a_thousandth(index: FaissIndex, to_gpu: ToGpu | None, k: int) -> None:
    if to_gpu is None and not has_gpu():
        pytest.skip("there is no GPU")
    queries = unit(40, seed=1)
    expected, wanted = index.search(queries, k)
    scores, ids = GpuIndex(index, to_gpu).search(queries, k)
    np.testing.assert_array_equal(ids, wanted)
    np.testing.assert_allclose(scores, expected, atol=1e-3)


def test_a_filter_and_a_long_answer_are_the_cpus(index: FaissIndex) -> None:
    seen: list[HalfGpu] = []

    def to_gpu(copy: faiss.Index) -> HalfGpu:
        seen.append(HalfGpu(copy))
        return seen[0]

    resident = GpuIndex(index, to_gpu)
    allowed = bitmap(index.ids()[::7])
    for k, bits in ((10, allowed), (MAX_K, None), (4_000, None)):
        np.testing.assert_array_equal(resident.search(unit(3, 2), k, bits)[1], index.search(unit(3, 2), k, bits)[1])
    assert seen[0].asked == []


def test_an_index_without_vectors_answers_nothing(tmp_path: Path) -> None:
    none = np.empty(0, np.int64)
    empty = IndexStore(tmp_path, DIM).catch_up(none, 1, lambda ids: (ids, np.zeros((0, DIM), np.float32)))
    assert GpuIndex(empty, HalfGpu).search(unit(2), 3)[1].tolist() == [[-1] * 3] * 2


def test_many_vectors_are_clustered_and_most_of_the_best_are_found(index: FaissIndex) -> None:
    resident = GpuIndex(index, lambda copy: copy, ivf_rows=1_000)
    queries = unit(40, seed=1)
    wanted = index.search(queries, 10)[1]
    scores, ids = resident.search(queries, 10)
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids.tolist(), wanted.tolist(), strict=True)])
    assert found >= 0.75
    vectors = index.vectors(ids.reshape(-1)).reshape(*ids.shape, DIM)
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, vectors), atol=1e-5)
