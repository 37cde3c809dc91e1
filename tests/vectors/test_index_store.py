"""The files of a vector index: when they are written, what survives a crash, and what is never trusted."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.shelf import Shelf, open_shelf

from mmsearch.errors import LibraryError
from mmsearch.spaces import Profile
from mmsearch.types import View
from mmsearch.vectors import FaissIndex, IndexStore, VectorIndex, store
from mmsearch.vectors.generation import write_generation
from mmsearch.vectors.manifest import FORMAT

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]
DIM = 16
TABLE: Rows = np.random.default_rng(0).standard_normal((500, DIM)).astype(np.float16).astype(np.float32)
QUERIES: Rows = np.random.default_rng(1).standard_normal((5, DIM)).astype(np.float32)


@dataclass
class Source:
    """Stands for the catalog: the vector of every id, live ids, and which were asked for."""

    live: Ids
    fetched: list[int] = field(default_factory=list)

    def vectors(self, ids: Ids) -> Rows:
        return TABLE[ids]

    def fetch(self, ids: Ids) -> tuple[Ids, Rows]:
        self.fetched += ids.tolist()
        there = ids[np.isin(ids, self.live)]
        return there, self.vectors(there)


def span(start: int, stop: int) -> Ids:
    return np.arange(start, stop, dtype=np.int64)


def assert_answers_for(index: VectorIndex | None, live: Ids) -> None:
    """The index finds every live id, and nothing else, in the order of a plain search."""
    assert index is not None
    np.testing.assert_array_equal(index.ids(), live)
    assert index.count == len(live)
    expected = QUERIES @ Source(live).vectors(live).T
    scores, found = index.search(QUERIES, len(live) + 3)
    np.testing.assert_array_equal(found[:, : len(live)], live[np.argsort(-expected, axis=1)])
    np.testing.assert_allclose(scores[:, : len(live)], -np.sort(-expected, axis=1), atol=1e-5)
    assert (found[:, len(live) :] == -1).all()


def names(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(file.name for file in folder.glob(pattern))


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "indexes" / "visual"


def catch_up(folder: Path, live: Ids, revision: int) -> Source:
    source = Source(live)
    index = IndexStore(folder, DIM).catch_up(live, revision, source.fetch)
    assert_answers_for(index, live)
    assert_answers_for(IndexStore(folder, DIM).open(), live)
    assert IndexStore(folder, DIM).revision() == revision
    return source


# When files are written


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


# What is never trusted


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


def make_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def put_another_index(file: Path) -> None:
    write_generation(file, DIM + 8, [(span(1, 4), np.ones((3, DIM + 8), np.float32))])


@pytest.fixture
def mixed(folder: Path) -> Path:
    """An index of a base, a delta and deleted ids, for 4 to 104."""
    catch_up(folder, span(1, 101), 1)
    catch_up(folder, span(1, 105), 2)
    catch_up(folder, span(4, 105), 3)
    assert [name.split("-")[0] for name in names(folder)] == ["base", "deleted", "delta", "manifest.json"]
    return folder


@pytest.mark.parametrize("kind", ["base-*", "delta-*", "deleted-*"])
@pytest.mark.parametrize(
    "damage",
    [cut_short, flip_a_byte, lengthen, empty, remove, make_a_folder, put_another_index],
    ids=lambda d: d.__name__,
)
@pytest.mark.parametrize("revision", [3, 4])
def test_a_damaged_file_is_noticed_and_the_index_rebuilt(
    mixed: Path, kind: str, damage: Callable[[Path], None], revision: int
) -> None:
    (file,) = mixed.glob(kind)
    damage(file)
    assert IndexStore(mixed, DIM).open() is None
    if file.is_dir():
        file.rmdir()
    assert catch_up(mixed, span(4, 108), revision).fetched == list(range(4, 108))
    assert [name.split("-")[0] for name in names(mixed)] == ["base", "manifest.json"]


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\x00\xff garbage",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"3",
        b'"x"',
        b'{"format": 1, "dim": 16}',
        b'{"format": 1, "dim": 16, "revision": 3, "serial": 3, "generations": [1], "deleted": null}',
        b'{"format": 1, "dim": 16, "revision": 3, "serial": 3, "generations": [{"name": "x"}], "deleted": null}',
        b'{"format": 1, "dim": 16, "revision": "x", "serial": 3, "generations": [], "deleted": null}',
    ],
)
def test_a_garbage_manifest_is_noticed_and_the_index_rebuilt(mixed: Path, manifest: bytes) -> None:
    (mixed / "manifest.json").write_bytes(manifest)
    assert IndexStore(mixed, DIM).open() is None
    assert IndexStore(mixed, DIM).revision() is None
    catch_up(mixed, span(4, 108), 3)


@pytest.mark.parametrize(
    ("key", "value"), [("name", 5), ("name", None), ("count", 99), ("count", "x"), ("check", 0), ("check", None)]
)
def test_a_manifest_that_says_something_else_of_a_file_is_noticed(mixed: Path, key: str, value: object) -> None:
    fields = json.loads((mixed / "manifest.json").read_text("utf-8"))
    fields["generations"][0][key] = value
    (mixed / "manifest.json").write_text(json.dumps(fields), "utf-8")
    assert IndexStore(mixed, DIM).open() is None
    catch_up(mixed, span(4, 108), 3)


def test_a_manifest_of_another_format_or_dimension_is_not_used(mixed: Path) -> None:
    assert IndexStore(mixed, DIM + 8).open() is None
    assert IndexStore(mixed, DIM + 8).revision() is None
    fields = json.loads((mixed / "manifest.json").read_text("utf-8"))
    (mixed / "manifest.json").write_text(json.dumps({**fields, "format": FORMAT + 1}), "utf-8")
    assert IndexStore(mixed, DIM).open() is None
    catch_up(mixed, span(4, 108), 3)


def test_a_rebuilt_index_never_takes_the_name_of_a_file_that_someone_may_have_mapped(mixed: Path) -> None:
    reader, before = IndexStore(mixed, DIM).open(), names(mixed, "*.faiss")
    (mixed / "manifest.json").unlink()
    catch_up(mixed, span(50, 200), 4)
    (base,) = names(mixed, "*.faiss")
    assert base not in before
    assert_answers_for(reader, span(4, 105))


# Crashes

CHANGES = {
    "first build": (None, span(1, 101)),
    "delta and deletions": (span(1, 101), span(3, 106)),
    "rewrite": (span(1, 101), span(41, 181)),
    "everything deleted": (span(1, 101), span(0, 0)),
}


class PowerCut(OSError):
    """The process stops here."""


def fail_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Stop at the n-th fsync, rename, FAISS file (half written), or removal."""
    steps = itertools.count(1)
    real_fsync, real_replace, real_unlink, real_write = os.fsync, Path.replace, Path.unlink, write_generation

    def reached() -> bool:
        return next(steps) == step

    def fsync(descriptor: int) -> None:
        if reached():
            raise PowerCut("fsync")
        real_fsync(descriptor)

    def replace(self: Path, target: str | Path) -> Path:
        if reached():
            raise PowerCut("replace")
        return real_replace(self, target)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if reached():
            raise PowerCut("unlink")
        real_unlink(self, missing_ok)

    def write(file: Path, dim: int, parts: Iterator[tuple[Ids, Rows]]) -> tuple[int, int]:
        written = real_write(file, dim, parts)
        if reached():
            cut_short(file)
            raise PowerCut("write")
        return written

    patch.setattr(os, "fsync", fsync)
    patch.setattr(Path, "replace", replace)
    patch.setattr(Path, "unlink", unlink)
    patch.setattr(store, "write_generation", write)


@pytest.mark.parametrize("change", CHANGES)
def test_a_crash_at_any_step_leaves_the_old_index_or_the_new(folder: Path, change: str) -> None:
    old, new = CHANGES[change]
    for step in itertools.count(1):
        place = folder / str(step)
        if old is not None:
            catch_up(place, old, 1)
        with pytest.MonkeyPatch.context() as patch:
            fail_at(step, patch)
            try:
                IndexStore(place, DIM).catch_up(new, 2, Source(new).fetch)
            except PowerCut:
                crashed = True
            else:
                crashed = False
        left = IndexStore(place, DIM).open()
        match IndexStore(place, DIM).revision():
            case None:
                assert old is None
                assert left is None
            case 1:
                assert old is not None
                assert_answers_for(left, old)
            case 2:
                assert_answers_for(left, new)
        catch_up(place, new, 2)
        catch_up(place, new, 3)
        assert names(place, "*.tmp") == []
        if not crashed:
            break
    assert step > 4, "too few steps were tried"


def test_leftovers_of_a_crash_are_removed_by_the_next_change(mixed: Path) -> None:
    for leftover in (
        "base-000004-000.faiss.tmp",
        "manifest.json.tmp",
        "deleted-000004.npy.tmp",
        "base-000009-000.faiss",
    ):
        (mixed / leftover).write_bytes(b"half")
    catch_up(mixed, span(4, 106), 4)
    assert names(mixed, "*.tmp") == []
    assert "base-000009-000.faiss" not in names(mixed)


# The indexes of a library


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
    with pytest.raises(LibraryError, match="catalog is whole") as caught:
        shelf.indexes.catch_up(Profile("hashing", (shelf.space,)))
    assert "\n" not in str(caught.value)
    assert str(shelf.folder) in str(caught.value)
