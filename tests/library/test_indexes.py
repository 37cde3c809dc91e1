"""What indexes a library hands out while something else happens: a writer at work, a rebuild, damage, a crafted id."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.shelf import Shelf, open_shelf

from mmsearch.spaces import Profile
from mmsearch.types import View
from mmsearch.vectors import FaissIndex, IndexStore, generation
from mmsearch.vectors.base import Fetch

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with open_shelf(tmp_path) as opened:
        yield opened


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:130] + bytes([content[130] ^ 1]) + content[131:])


def opened_files(patch: pytest.MonkeyPatch) -> list[str]:
    """Note the files of indexes that are opened from now on."""
    names: list[str] = []
    real = generation.open_generation

    def noting(file: Path, dim: int, count: int, check: int) -> generation.Generation:
        names.append(file.name)
        return real(file, dim, count, check)

    patch.setattr("mmsearch.vectors.store.open_generation", noting)
    return names


def test_while_another_process_writes_an_index_that_stays_the_same_is_not_opened_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add("a", "b")
    index = shelf.indexes.get(shelf.space, View.VISUAL)
    opened = opened_files(monkeypatch)
    shelf.lock.held = True
    for name in "cdefg":
        shelf.add(name)
        assert shelf.indexes.get(shelf.space, View.VISUAL) is index
    assert opened == []
    shelf.lock.held = False
    shelf.another().catch_up(Profile("hashing", (shelf.space,)))
    opened.clear()
    shelf.lock.held = True
    shelf.add("h")
    assert shelf.found() == list(range(1, 8))
    assert shelf.found() == list(range(1, 8))
    assert len(opened) == 1


def test_before_the_first_index_only_what_is_new_is_read_from_the_catalog(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    real = shelf.catalog.vectors

    def vectors(ids: Ids, dim: int) -> tuple[Ids, Rows]:
        asked.append(ids.tolist())
        return real(ids, dim)

    monkeypatch.setattr(shelf.catalog, "vectors", vectors)
    monkeypatch.setattr("mmsearch.indexes.STALE_S", 0.0)
    shelf.lock.held = True
    shelf.add("a", "b")
    assert shelf.found() == [1, 2]
    shelf.add("c")
    shelf.take("a")
    assert shelf.found() == [2, 3]
    assert shelf.found() == [2, 3]
    assert asked == [[1, 2], [3]]
    shelf.lock.held = False
    shelf.indexes.get(shelf.space, View.VISUAL)
    assert len(list(shelf.folder.rglob("base-*"))) == 1


def test_an_index_that_goes_while_another_process_rebuilds_it_still_answers(shelf: Shelf) -> None:
    shelf.add("a", "b")
    index = shelf.indexes.get(shelf.space, View.VISUAL)
    shelf.lock.held = True
    shelf.add("c")
    for file in shelf.folder.rglob("*.*"):
        file.unlink()
    assert shelf.indexes.get(shelf.space, View.VISUAL) is index


def test_while_one_index_is_rebuilt_the_others_answer(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add("a")
    for view in (View.VISUAL, View.AUDIO):
        shelf.indexes.get(shelf.space, view)
    shelf.add("b")
    rebuilding, go_on = threading.Event(), threading.Event()
    real = IndexStore.catch_up

    def catch_up(one: IndexStore, live: Ids, revision: int, fetch: Fetch) -> FaissIndex:
        if len(live):  # the visual one
            rebuilding.set()
            assert go_on.wait(60)
        return real(one, live, revision, fetch)

    monkeypatch.setattr(IndexStore, "catch_up", catch_up)
    with ThreadPoolExecutor(1) as pool:
        visual = pool.submit(shelf.found)
        try:
            assert rebuilding.wait(60)
            with ThreadPoolExecutor(1) as other:
                assert other.submit(shelf.indexes.get, shelf.space, View.AUDIO).result(60).count == 0
        finally:
            go_on.set()
        assert visual.result(60) == [1, 2]


@pytest.mark.parametrize("locked", [False, True], ids=["rebuilt", "answered from memory"])
def test_an_index_cut_short_while_it_is_open_costs_no_answer(
    shelf: Shelf, locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsearch.vectors.generation.IN_MEMORY_BYTES", 0)
    shelf.add("a", "b")
    query = shelf.catalog.vectors(np.asarray([2]), shelf.space.dim)[1]
    assert shelf.indexes.get(shelf.space, View.VISUAL).search(query, 1)[1].tolist() == [[2]]
    (file,) = shelf.folder.rglob("base-*")
    os.truncate(file, 0)
    shelf.lock.held = locked
    index = shelf.indexes.get(shelf.space, View.VISUAL)
    assert index.search(query, 1)[1].tolist() == [[2]]
    assert file.exists() is locked  # it was rebuilt under another name, or is left to who holds the lock


def test_an_embedding_with_an_id_that_no_catalog_gives_is_not_indexed(shelf: Shelf) -> None:
    shelf.add("a", "b", "c")
    with sqlite3.connect(shelf.catalog._database.file) as connection:
        connection.execute("UPDATE embedding SET id = -7 WHERE id = 1")
        connection.execute(f"UPDATE embedding SET id = {2**61} WHERE id = 3")
    connection.close()
    assert shelf.found() == [2]


def test_the_indexes_of_a_profile_are_verified_and_forgotten_together(shelf: Shelf) -> None:
    profile = Profile("hashing", (shelf.space,))
    shelf.add("a", "b")
    assert shelf.indexes.verify(profile) == []
    shelf.indexes.catch_up(profile)
    assert shelf.indexes.verify(profile) == []
    (file,) = shelf.folder.rglob("base-*")
    damage(file)
    assert shelf.indexes.verify(profile) == [f"{file} is damaged"]
    shelf.indexes.discard(profile)
    assert list(shelf.folder.rglob("manifest.json")) == []
    assert shelf.found() == [1, 2]
    assert shelf.indexes.verify(profile) == []


def test_an_index_run_rebuilds_what_is_damaged_though_nothing_else_changed(shelf: Shelf) -> None:
    profile = Profile("hashing", (shelf.space,))
    shelf.add("a", "b")
    shelf.indexes.catch_up(profile)
    (file,) = shelf.folder.rglob("base-*")
    damage(file)
    shelf.another().catch_up(profile)
    assert shelf.indexes.verify(profile) == []


def test_an_index_of_another_catalog_answers_no_thread_while_it_is_replaced(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add("a")
    before = shelf.indexes.get(shelf.space, View.VISUAL)
    shelf.add("b")
    monkeypatch.setattr(shelf.catalog, "had_revision", lambda _: False)  # the catalog was restored from a copy
    place = shelf.indexes._slot(shelf.space, View.VISUAL)
    with ThreadPoolExecutor(1) as threads:
        with place.guard:  # another thread is at it
            waiting = threads.submit(shelf.indexes.get, shelf.space, View.VISUAL)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(60) is not before
