"""Files of a vector index that were damaged, or leave a crash half written, are never trusted."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.followed_indexes import DIM, Ids, Rows, Source, assert_answers_for, catch_up, flip_a_byte, names, span
from support.followed_indexes import folder as folder

from mmsearch.vectors import IndexStore, store
from mmsearch.vectors.generation import write_generation
from mmsearch.vectors.manifest import FORMAT


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


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
