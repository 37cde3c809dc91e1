"""Indexes whose files are changed while they are open, and indexes that are in memory alone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.small_indexes import DIM, TABLE, Ids, Rows, fetch, one, span
from support.small_indexes import mixed as mixed

from mmsearch.errors import DamagedIndexError
from mmsearch.vectors import ExactIndex, FaissIndex, IndexStore, VectorIndex, bitmap, follow, generation, in_memory
from mmsearch.vectors.faiss_index import codes_of

NOTHING = FaissIndex(DIM, [], np.empty(0, np.int64))


def open_mapped(folder: Path, patch: pytest.MonkeyPatch) -> FaissIndex:
    patch.setattr(generation, "IN_MEMORY_BYTES", 0)
    index = IndexStore(folder, DIM).open()
    assert index is not None
    return index


def test_an_index_cut_short_while_it_is_mapped_is_refused_and_not_searched(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = open_mapped(mixed, monkeypatch)
    assert index.is_intact()
    os.truncate(one(mixed, "base-*"), 0)
    assert not index.is_intact()
    for call in (lambda: index.search(TABLE[:1], 3), lambda: index.vectors(span(5, 9))):
        with pytest.raises(DamagedIndexError, match="run the same query again"):
            call()


def test_a_small_index_is_not_mapped_so_that_nobody_can_cut_it_short(mixed: Path) -> None:
    index = IndexStore(mixed, DIM).open()
    assert index is not None
    expected = index.search(TABLE[:3], 20)
    os.truncate(one(mixed, "base-*"), 0)
    assert index.is_intact()
    np.testing.assert_array_equal(index.search(TABLE[:3], 20)[1], expected[1])


def test_a_removed_file_is_still_searched_by_who_has_it_mapped(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = open_mapped(mixed, monkeypatch)
    expected = index.search(TABLE[:3], 20)[1]
    for file in mixed.iterdir():
        file.unlink()
    assert index.is_intact()
    np.testing.assert_array_equal(index.search(TABLE[:3], 20)[1], expected)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_opening_again_and_again_leaves_no_descriptor_behind(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_mapped(mixed, monkeypatch)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        open_mapped(mixed, monkeypatch)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_is_written_to_the_terminal_about_damage(mixed: Path) -> None:
    """In a process of its own: FAISS writes past Python's streams."""
    code = (
        "import sys, pathlib, numpy as np\n"
        "from mmsearch.vectors import IndexStore, generation\n"
        "generation.IN_MEMORY_BYTES = 0\n"
        f"folder = pathlib.Path({str(mixed)!r})\n"
        "for file in sorted(folder.iterdir()):\n"
        "    content = file.read_bytes()\n"
        "    for at in range(0, len(content), max(1, len(content) // 40)):\n"
        "        file.write_bytes(content[:at])\n"
        f"        assert IndexStore(folder, {DIM}).open() is None\n"
        "    file.write_bytes(content)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_index_in_memory_fetches_only_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "_ROWS", 70)
    asked: list[int] = []

    def noting(ids: Ids) -> tuple[Ids, Rows]:
        asked.extend(ids.tolist())
        return fetch(ids)

    index = NOTHING
    for live, lacking in (
        (span(0, 0), []),
        (span(1, 301), span(1, 301)),
        (np.union1d(span(50, 301), span(400, 450)), span(400, 450)),
        (span(60, 70), []),
        (np.union1d(span(60, 70), span(900, 905)), span(900, 905)),
        (span(40, 70), span(40, 70)),  # deleted ids are back, perhaps with other vectors
    ):
        asked.clear()
        index = follow(index, live, noting)
        assert asked == list(lacking)
        np.testing.assert_array_equal(index.ids(), live)
        assert index.count == len(live)
        follow(index, live, noting)
        assert asked == list(lacking)


@pytest.mark.parametrize("kind", ["growing", "exact"])
def test_an_index_in_memory_answers_as_a_plain_search_in_any_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "_ROWS", 70)
    for name, size in (("_FETCH_ROWS", 70), ("_WIDENED_ROWS", 33), ("_MAX_SCORES", 1_500)):
        monkeypatch.setattr(f"mmsearch.vectors.exact_index.{name}", size)
    live = np.setdiff1d(span(1, 700), span(100, 140))
    index: VectorIndex = ExactIndex.read(DIM, live, fetch)
    if kind == "growing":
        index = follow(follow(NOTHING, np.union1d(span(1, 300), span(800, 900)), fetch), live, fetch)
    queries = np.random.default_rng(8).standard_normal((7, DIM)).astype(np.float32)
    for k, chosen in itertools.product((1, 10, 1_000), (live, live[::3])):
        expected = queries @ TABLE[chosen].T
        scores, ids = index.search(queries, k, bitmap(chosen))
        many = min(k, len(chosen))
        np.testing.assert_array_equal(ids[:, :many], chosen[np.argsort(-expected, axis=1)][:, :many])
        np.testing.assert_allclose(scores[:, :many], -np.sort(-expected, axis=1)[:, :many], atol=1e-5)
        assert (ids[:, many:] == -1).all()
        assert np.isneginf(scores[:, many:]).all()


def test_an_index_in_memory_takes_two_bytes_a_number_in_few_generations() -> None:
    index = NOTHING
    for end in range(100, 3_100, 100):
        index = follow(index, span(0, end), fetch)
    (alone,) = index.generations
    assert len(codes_of(alone.index)) == 3_000 * DIM * 2
