"""What every vector index promises, against a plain search in NumPy over the same float16 codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.vectors import Bitmap, ExactIndex, IndexStore, VectorIndex, bitmap
from mmsearch.vectors.base import top_k
from mmsearch.vectors.faiss_index import load_faiss

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]
Make = Callable[[Ids, Rows], VectorIndex]

DIM = 24


def rows(n: int, seed: int, dim: int = DIM) -> Rows:
    drawn = np.random.default_rng(seed).standard_normal((n, dim))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def some_ids(n: int) -> Ids:
    return np.sort(np.random.default_rng(5).choice(4 * n + 1, n, replace=False)).astype(np.int64)


def fetch_from(ids: Ids, vectors: Rows) -> Callable[[Ids], tuple[Ids, Rows]]:
    place = {int(at): row for row, at in enumerate(ids)}
    return lambda asked: (asked, vectors[[place[int(at)] for at in asked]].reshape(len(asked), vectors.shape[1]))


def in_memory(ids: Ids, vectors: Rows, folder: Path, patch: pytest.MonkeyPatch) -> VectorIndex:
    return ExactIndex.of(ids, vectors)


def one_generation(ids: Ids, vectors: Rows, folder: Path, patch: pytest.MonkeyPatch) -> VectorIndex:
    return IndexStore(folder, vectors.shape[1]).catch_up(ids, 1, fetch_from(ids, vectors))


def several_generations(ids: Ids, vectors: Rows, folder: Path, patch: pytest.MonkeyPatch) -> VectorIndex:
    """Base files, two deltas, and deleted ids in each of them, whose vectors would win every search."""
    patch.setattr("mmsearch.vectors.store.SHARD_ROWS", 20)
    patch.setattr("mmsearch.vectors.store.MERGE_SHARE", 1000.0)
    dim = vectors.shape[1]
    ghosts = np.setdiff1d(np.concatenate([[0, 1, 2], ids + 1]), ids)
    every = np.union1d(ids, ghosts)
    loud = 10 * rows(len(every), 77, dim)
    loud[np.searchsorted(every, ids)] = vectors
    fetch = fetch_from(every, loud)
    store = IndexStore(folder, dim)
    store.catch_up(np.union1d(ids[::3], ghosts[::3]), 1, fetch)
    store.catch_up(np.union1d(np.union1d(ids[::3], ids[1::3]), np.union1d(ghosts[::3], ghosts[1::3])), 2, fetch)
    store.catch_up(np.union1d(ids, ghosts[1::3]), 3, fetch)
    index = store.catch_up(ids, 4, fetch)
    assert len(list(folder.glob("delta-*"))) >= 1
    assert len(list(folder.glob("deleted-*"))) == 1
    reopened = store.open()
    assert reopened is not None
    assert reopened.count == index.count
    return reopened


@pytest.fixture(params=[in_memory, one_generation, several_generations], ids=lambda made: made.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda ids, vectors: request.param(ids, vectors, tmp_path / "index", monkeypatch)


def plain_search(ids: Ids, vectors: Rows, queries: Rows, k: int, only: Ids | None = None) -> tuple[Rows, Ids]:
    codes = vectors.astype(np.float16).astype(np.float64)
    found = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf)
    for q, query in enumerate(queries.astype(np.float64)):
        mine = [(float(-(code @ query)), int(at)) for at, code in zip(ids, codes, strict=True)]
        best = sorted(pair for pair in mine if only is None or pair[1] in only)[:k]
        found[q, : len(best)] = [at for _, at in best]
        scores[q, : len(best)] = [-score for score, _ in best]
    return scores.astype(np.float32), found


def assert_finds(
    index: VectorIndex, ids: Ids, vectors: Rows, queries: Rows, k: int, allowed: Bitmap | None = None
) -> None:
    bits = None if allowed is None else np.flatnonzero(np.unpackbits(allowed, bitorder="little"))
    expected_scores, expected_ids = plain_search(ids, vectors, queries, k, bits)
    scores, found = index.search(queries, k, allowed)
    assert (scores.dtype, found.dtype) == (np.dtype(np.float32), np.dtype(np.int64))
    assert scores.shape == found.shape == (len(queries), k)
    np.testing.assert_array_equal(found, expected_ids)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


@pytest.mark.parametrize("asked", [1, 7])
@pytest.mark.parametrize("k", [1, 10])
def test_search_finds_what_a_plain_search_finds(make: Make, asked: int, k: int) -> None:
    ids, vectors = some_ids(150), rows(150, 1)
    assert_finds(make(ids, vectors), ids, vectors, rows(asked, 2), k)


def test_more_than_there_is_ends_in_minus_infinity_and_minus_one(make: Make) -> None:
    ids, vectors = some_ids(30), rows(30, 1)
    index = make(ids, vectors)
    assert_finds(index, ids, vectors, rows(7, 2), 45)
    scores, found = index.search(rows(1, 2), 45)
    assert np.isneginf(scores[0, 30:]).all()
    assert (found[0, 30:] == -1).all()
    assert set(found[0, :30].tolist()) == set(ids.tolist())


@pytest.mark.parametrize("scale", [1e-3, 5.0, -1.0])
def test_a_query_need_not_be_of_unit_length(make: Make, scale: float) -> None:
    ids, vectors = some_ids(60), rows(60, 1)
    assert_finds(make(ids, vectors), ids, vectors, np.float32(scale) * rows(3, 2), 10)


def test_vectors_need_not_be_of_unit_length(make: Make) -> None:
    ids, vectors = some_ids(60), rows(60, 1) * np.linspace(0.2, 3, 60, dtype=np.float32)[:, None]
    assert_finds(make(ids, vectors), ids, vectors, rows(3, 2), 10)


@pytest.mark.parametrize("dim", [1, 13, 64])
def test_vectors_may_be_of_any_dimension(make: Make, dim: int) -> None:
    ids = some_ids(12)
    # Rounded, as they come from the catalog: FAISS rounds ties another way where 8 doesn't divide the dimension.
    vectors = (rows(12, 1, dim) * np.linspace(0.5, 1, 12)[:, None]).astype(np.float16).astype(np.float32)
    index = make(ids, vectors)
    assert index.dim == dim
    assert_finds(index, ids, vectors, rows(2, 2, dim), 12)


def test_queries_may_be_a_slice_of_something_larger(make: Make) -> None:
    ids, vectors = some_ids(40), rows(40, 1)
    wide = rows(8, 2, 2 * DIM)
    before = wide.copy()
    assert_finds(make(ids, vectors), ids, vectors, wide[::2, ::2], 5)
    np.testing.assert_array_equal(wide, before)


def test_no_queries_give_no_rows(make: Make) -> None:
    scores, found = make(some_ids(9), rows(9, 1)).search(np.empty((0, DIM), np.float32), 4)
    assert scores.shape == found.shape == (0, 4)


@pytest.mark.parametrize("asked", [1, 7])
def test_a_filter_lets_only_the_allowed_ids_through(make: Make, asked: int) -> None:
    ids, vectors = some_ids(120), rows(120, 1)
    index = make(ids, vectors)
    for allowed in (ids[::2], ids[:5], ids[-1:], ids):
        assert_finds(index, ids, vectors, rows(asked, 2), 10, bitmap(allowed))


def test_a_filter_of_ids_that_arent_there_lets_nothing_through(make: Make) -> None:
    ids, vectors = some_ids(50), rows(50, 1)
    index = make(ids, vectors)
    others = np.setdiff1d(np.arange(ids.max() + 50), ids)
    for allowed in (bitmap(others), np.zeros(100, np.uint8), np.zeros(0, np.uint8), bitmap(others[-3:])):
        scores, found = index.search(rows(7, 2), 3, allowed)
        assert np.isneginf(scores).all()
        assert (found == -1).all()
        assert scores.shape == found.shape == (7, 3)


def test_a_filter_may_be_shorter_or_longer_than_the_ids_reach(make: Make) -> None:
    ids, vectors = some_ids(80), rows(80, 1)
    index = make(ids, vectors)
    every = bitmap(np.arange(ids.max() + 1))
    for shorter in (every[:1], every[: len(every) // 2], every[:-1]):
        assert_finds(index, ids, vectors, rows(3, 2), 10, shorter)
    assert_finds(index, ids, vectors, rows(3, 2), 10, np.pad(every, (0, 1000), constant_values=255))


def test_ids_may_lie_far_apart(make: Make) -> None:
    ids, vectors = np.asarray([3, 10**6, 10**7], np.int64), rows(3, 1)
    index = make(ids, vectors)
    assert_finds(index, ids, vectors, rows(7, 2), 5)
    assert_finds(index, ids, vectors, rows(7, 2), 2, bitmap(ids[1:]))
    assert_finds(index, ids, vectors, rows(7, 2), 2, bitmap(ids[:2]))


def test_it_says_what_can_be_found(make: Make) -> None:
    ids, vectors = some_ids(70), rows(70, 1)
    index = make(ids, vectors)
    assert index.count == 70
    np.testing.assert_array_equal(index.ids(), ids)
    assert index.ids().dtype == np.int64


def test_an_empty_index_finds_nothing(make: Make) -> None:
    index = make(np.empty(0, np.int64), np.empty((0, DIM), np.float32))
    assert index.count == 0
    assert index.ids().tolist() == []
    for allowed in (None, bitmap(np.asarray([1, 5])), np.zeros(0, np.uint8)):
        scores, found = index.search(rows(7, 2), 3, allowed)
        assert np.isneginf(scores).all()
        assert (found == -1).all()
        assert scores.shape == found.shape == (7, 3)


def test_equal_vectors_come_in_the_order_of_their_ids(make: Make) -> None:
    ids, vectors = some_ids(30), np.repeat(rows(3, 1), 10, axis=0)
    assert_finds(make(ids, vectors), ids, vectors, rows(2, 2), 30)


def test_negative_scores_are_results_and_not_padding(make: Make) -> None:
    ids, vectors = some_ids(5), -np.abs(rows(5, 1))
    scores, found = make(ids, vectors).search(np.ones((1, DIM), np.float32), 5)
    assert (scores < 0).all()
    assert sorted(found[0].tolist()) == ids.tolist()


# The parts


def test_searching_leaves_the_threads_of_faiss_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = one_generation(some_ids(5), rows(5, 1), tmp_path, monkeypatch)
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        for asked in (1, 2, 7):
            index.search(rows(asked, 2), 3)
            assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_a_bitmap_allows_just_its_ids() -> None:
    assert bitmap(np.asarray([0, 3, 9])).tolist() == [0b1001, 0b10]
    assert bitmap(np.empty(0, np.int64)).tolist() == []


def test_top_k_takes_ids_for_the_columns_or_for_every_score() -> None:
    scores = np.asarray([[0.5, -np.inf, 0.9], [0.1, 0.1, -0.2]], np.float32)
    found = top_k(scores, np.asarray([7, 8, 9]), 4)
    np.testing.assert_array_equal(found[1], [[9, 7, -1, -1], [7, 8, 9, -1]])
    np.testing.assert_array_equal(
        found[0], np.asarray([[0.9, 0.5, -np.inf, -np.inf], [0.1, 0.1, -0.2, -np.inf]], np.float32)
    )
    own = top_k(scores, np.asarray([[1, 2, 3], [9, 8, 7]]), 2)
    np.testing.assert_array_equal(own[1], [[3, 1], [8, 9]])
