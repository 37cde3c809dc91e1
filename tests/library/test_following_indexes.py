"""The indexes that a library hands out follow its catalog, whoever else writes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.followed_indexes import flip_a_byte, names
from support.shelf import Shelf, open_shelf

from mmsearch.errors import LibraryError
from mmsearch.spaces import Profile
from mmsearch.types import View
from mmsearch.vectors import FaissIndex


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with open_shelf(tmp_path) as opened:
        yield opened


def test_an_index_follows_its_catalog(shelf: Shelf) -> None:
    assert shelf.found() == []
    shelf.add("a", "b", "c")
    assert shelf.found() == shelf.live() == [1, 2, 3]
    shelf.take("b")
    assert shelf.found() == shelf.live() == [1, 3]
    shelf.add("d")
    assert shelf.found() == shelf.live() == [1, 3, 4]


def test_an_index_of_the_same_revision_is_opened_once(shelf: Shelf) -> None:
    shelf.add("a")
    assert shelf.indexes.get(shelf.space, View.VISUAL) is shelf.indexes.get(shelf.space, View.VISUAL)
    assert isinstance(shelf.indexes.get(shelf.space, View.VISUAL), FaissIndex)


def test_while_another_process_writes_the_last_finished_index_answers_and_catches_up_after(shelf: Shelf) -> None:
    shelf.add("a", "b")
    assert shelf.found() == [1, 2]
    shelf.lock.held = True
    shelf.add("c")
    assert shelf.found() == [1, 2]
    assert [int(at) for at in shelf.another().get(shelf.space, View.VISUAL).ids()] == [1, 2]
    assert shelf.stale() == [True]
    shelf.lock.held = False
    assert shelf.found() == shelf.live() == [1, 2, 3]
    assert shelf.stale() == [False]


def test_while_another_process_writes_the_first_index_it_is_made_in_memory(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.lock.held = True
    shelf.add("a", "b")
    assert shelf.found() == [1, 2]
    shelf.add("c")
    assert shelf.found() == [1, 2]  # it isn't made anew for every query
    monkeypatch.setattr("mmsearch.indexes.STALE_S", 0.0)
    assert shelf.found() == [1, 2, 3]
    assert not shelf.folder.exists()
    query = shelf.catalog.vectors(np.asarray([3]), shelf.space.dim)[1]
    assert shelf.indexes.get(shelf.space, View.VISUAL).search(query, 1)[1].tolist() == [[3]]


def test_an_open_reader_sees_what_another_has_caught_up(shelf: Shelf) -> None:
    shelf.add("a")
    assert shelf.found() == [1]
    shelf.add("b")
    shelf.another().catch_up(Profile("hashing", (shelf.space,)))
    shelf.lock.held = True  # it has to read, and can't write
    assert shelf.found() == [1, 2]


def test_catching_up_a_profile_writes_every_view(shelf: Shelf) -> None:
    shelf.add("a")
    shelf.indexes.catch_up(Profile("hashing", (shelf.space,)))
    (folder,) = (shelf.folder / "1").iterdir()
    assert folder.name.startswith("hashing-")
    assert names(folder) == ["audio", "text", "visual"]
    assert all((folder / view / "manifest.json").is_file() for view in View)


def test_status_counts_the_catalogs_vectors_and_changes_nothing(shelf: Shelf) -> None:
    profile = Profile("hashing", (shelf.space,))
    assert shelf.indexes.status(profile) == ()
    shelf.add("a", "b")
    (line,) = shelf.indexes.status(profile)
    assert (line.space, line.view, line.kind, line.count, line.stale) == ("hashing", View.VISUAL, "flat-fp16", 2, True)
    assert not shelf.folder.exists()


def test_a_damaged_index_is_rebuilt_when_it_is_asked(shelf: Shelf) -> None:
    shelf.add("a", "b")
    assert shelf.found() == [1, 2]
    (file,) = shelf.folder.rglob("base-*")
    flip_a_byte(file)
    assert [int(at) for at in shelf.another().get(shelf.space, View.VISUAL).ids()] == [1, 2]
    assert isinstance(shelf.another().get(shelf.space, View.VISUAL), FaissIndex)


def test_where_no_index_can_be_written_queries_still_answer_and_a_run_says_why(shelf: Shelf) -> None:
    shelf.add("a", "b")
    shelf.folder.write_bytes(b"a file where the folder should be")
    assert shelf.found() == [1, 2]
    with pytest.raises(LibraryError, match="catalog is intact") as caught:
        shelf.indexes.catch_up(Profile("hashing", (shelf.space,)))
    assert "\n" not in str(caught.value)
    assert str(shelf.folder) in str(caught.value)
