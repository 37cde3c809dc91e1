"""When the files of a vector index are written: as little as a change needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.followed_indexes import DIM, Source, assert_answers_for, catch_up, names, span
from support.followed_indexes import folder as folder

from mmsearch.vectors import IndexStore, store


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_a_missing_index_is_built(folder: Path) -> None:
    assert IndexStore(folder, DIM).open() is None
    assert IndexStore(folder, DIM).revision() is None
    assert not folder.exists()
    source = catch_up(folder, span(1, 101), 7)
    assert source.fetched == list(range(1, 101))
    assert names(folder) == ["base-000001-000.faiss", "manifest.json"]


def test_an_index_of_nothing_is_built_too(folder: Path) -> None:
    catch_up(folder, span(0, 0), 1)
    assert names(folder) == ["manifest.json"]
    catch_up(folder, span(1, 6), 2)


def test_the_same_revision_touches_no_file(folder: Path) -> None:
    catch_up(folder, span(1, 101), 7)
    before = stamps(folder)
    assert catch_up(folder, span(1, 101), 7).fetched == []
    assert stamps(folder) == before


def test_a_later_revision_with_the_same_ids_rewrites_no_vectors(folder: Path) -> None:
    catch_up(folder, span(1, 101), 7)
    before = stamps(folder)["base-000001-000.faiss"]
    assert catch_up(folder, span(1, 101), 8).fetched == []
    assert stamps(folder)["base-000001-000.faiss"] == before
    assert names(folder) == ["base-000001-000.faiss", "manifest.json"]


def test_a_small_addition_is_a_delta_beside_an_untouched_base(folder: Path) -> None:
    catch_up(folder, span(1, 101), 1)
    before = stamps(folder)["base-000001-000.faiss"]
    assert catch_up(folder, span(1, 106), 2).fetched == [101, 102, 103, 104, 105]
    assert names(folder) == ["base-000001-000.faiss", "delta-000002-000.faiss", "manifest.json"]
    assert stamps(folder)["base-000001-000.faiss"] == before


def test_a_small_deletion_writes_only_the_deleted_ids(folder: Path) -> None:
    catch_up(folder, span(1, 101), 1)
    assert catch_up(folder, span(4, 101), 2).fetched == []
    assert names(folder) == ["base-000001-000.faiss", "deleted-000002.npy", "manifest.json"]
    assert catch_up(folder, span(6, 101), 3).fetched == []
    assert names(folder, "deleted-*") == ["deleted-000003.npy"]


def test_additions_and_deletions_together_past_a_tenth_are_one_rewrite(folder: Path) -> None:
    catch_up(folder, span(1, 101), 1)
    catch_up(folder, span(1, 105), 2)  # 4 pending
    catch_up(folder, span(5, 107), 3)  # 4 + 2 + 4 = 10, not past it
    assert len(names(folder, "delta-*")) == 2
    live = np.union1d(span(5, 50), span(51, 107))
    source = catch_up(folder, live, 4)
    assert source.fetched == live.tolist()
    assert names(folder) == ["base-000004-000.faiss", "manifest.json"]


def test_more_than_a_tenth_at_once_is_one_rewrite(folder: Path) -> None:
    catch_up(folder, span(1, 101), 1)
    catch_up(folder, span(1, 112), 2)
    assert names(folder) == ["base-000002-000.faiss", "manifest.json"]


def test_after_sixteen_deltas_they_are_merged(folder: Path) -> None:
    catch_up(folder, span(1, 401), 1)
    for more in range(1, 17):
        catch_up(folder, span(1, 401 + more), 1 + more)
        assert len(names(folder, "delta-*")) == more
    catch_up(folder, span(1, 418), 18)
    assert names(folder) == ["base-000018-000.faiss", "manifest.json"]


def test_a_large_index_is_several_files_of_bounded_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_ROWS", 30)
    monkeypatch.setattr(store, "_FETCH_ROWS", 7)
    catch_up(folder, span(1, 101), 1)
    assert names(folder, "base-*") == [f"base-000001-{shard:03d}.faiss" for shard in range(4)]
    catch_up(folder, span(3, 104), 2)


def test_everything_may_be_deleted_and_something_added_again(folder: Path) -> None:
    catch_up(folder, span(1, 101), 1)
    catch_up(folder, span(0, 0), 2)
    assert names(folder) == ["manifest.json"]
    catch_up(folder, span(101, 111), 3)


def test_an_id_that_the_catalog_lost_meanwhile_is_left_out(folder: Path) -> None:
    source = Source(span(1, 51))
    index = IndexStore(folder, DIM).catch_up(span(1, 61), 1, source.fetch)
    assert_answers_for(index, span(1, 51))
    catch_up(folder, span(1, 51), 2)


def test_a_reader_keeps_answering_from_the_files_it_has_mapped(folder: Path) -> None:
    catch_up(folder, span(1, 101), 1)
    reader = IndexStore(folder, DIM).open()
    catch_up(folder, span(51, 201), 2)
    assert names(folder) == ["base-000002-000.faiss", "manifest.json"]
    assert_answers_for(reader, span(1, 101))
