"""Files that nobody vouches for: what is read of them, and what is ever removed."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mmsearch.files import (
    IrregularFileError,
    Layout,
    OversizedFileError,
    find_foreign,
    is_real_folder,
    open_regular,
    read_bounded,
    remove_own,
    remove_temporary,
    size_of,
    unpack_array,
    unpack_arrays,
    write_whole,
)

posix = pytest.mark.skipif(os.name == "nt", reason="links and pipes as POSIX systems have them")
LAYOUT = Layout(re.compile(r"own\.\w+"), {re.compile(r"\d+"): Layout(re.compile(r"own\.\w+|\.own\.\w+\.\d+"))})


# Reading


@posix
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_opened_and_none_blocks(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    for follow in (True, False):
        with pytest.raises(OSError, match="x") as caught:
            open_regular(tmp_path / "x", follow_links=follow)
        assert isinstance(caught.value, IrregularFileError | IsADirectoryError)


@posix
def test_a_link_is_followed_only_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_bounded(tmp_path / "link", 100) == b"content"
    with pytest.raises(IrregularFileError):
        read_bounded(tmp_path / "link", 100, follow_links=False)


def test_a_file_is_read_up_to_its_bound_and_no_further(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OversizedFileError, match="more than 4 bytes"):
        read_bounded(tmp_path / "file", 4)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 4)


ARRAYS = {
    "numbers": np.arange(12, dtype=np.int64).reshape(3, 4),
    "by column": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "one": np.float64(2.5),
    "none": np.empty((0, 5), np.float16),
    "words": np.asarray(["a", "bc"]),
}


def packed(**arrays: object) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def test_arrays_come_back_as_they_were_packed() -> None:
    content = packed(**ARRAYS)
    unpacked = unpack_arrays(content, Path("x.npz"), 10_000)
    assert unpacked.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(unpacked[name], array)
        assert unpacked[name].dtype == np.asarray(array).dtype


def test_an_archive_that_unpacks_to_more_than_its_bound_is_refused_whatever_it_says_of_itself() -> None:
    content = packed(zeros=np.zeros(10**6))
    assert len(content) < 20_000
    with pytest.raises(OversizedFileError):
        unpack_arrays(content, Path("x.npz"), 10**6)
    lying = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = archive.infolist()[0].file_size.to_bytes(4, "little")
    at = lying.rfind(size)
    lying[at : at + 4] = (100).to_bytes(4, "little")
    with pytest.raises((OversizedFileError, ValueError)):
        unpack_arrays(bytes(lying), Path("x.npz"), 10**6)


@pytest.mark.parametrize("seed", range(200))
def test_a_garbled_archive_is_a_value_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    content = np.frombuffer(packed(**ARRAYS), np.uint8).copy()
    content[random.integers(0, len(content), 8)] = random.integers(0, 256, 8)
    with suppress(ValueError, OversizedFileError):
        unpack_arrays(content[: random.integers(1, len(content) + 1)].tobytes(), Path("x.npz"), 10**6)


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x93NUMPY",
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(4)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", bytes(4)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(5)),
        npy("__import__('os')", bytes(4)),
        npy("-" * 9_000 + "1"),  # a MemoryError of Python's own parser
        npy("{'descr': '|S0', 'fortran_order': False, 'shape': (1208925819614629174706176,), }"),
        npy("{'descr': '|S0', 'fortran_order': False, 'shape': (5,), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }", bytes(4)),
        npy("{'descr': ',,,', 'fortran_order': False, 'shape': (1,), }", bytes(4)),
        npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }", bytes(3)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 999999999999999999, 999999999999999999), }"),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", bytes(4)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9, " * 2_000 + "), }", bytes(4)),
        b"\x93NUMPY\x09\x00\x01\x00\n",
    ],
)
def test_an_array_that_is_not_what_its_header_says_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_array(raw)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_whose_packed_bytes_are_spoilt_is_a_value_error(method: int) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("a.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4000,), }", bytes(4_000)))
    spoilt = bytearray(content.getvalue())
    begin = spoilt.index(b"a.npy") + len(b"a.npy")
    for at in range(begin + 4, begin + 30):
        spoilt[at] ^= 0xFF
    with pytest.raises(ValueError):
        unpack_arrays(bytes(spoilt), Path("x.npz"), 10**6)


# Writing


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "file", b"first")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", b"second")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"first")]


@posix
def test_writing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "file").symlink_to("mine")
    (tmp_path / f".file.{os.getpid()}").symlink_to("mine")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "file").read_bytes() == b"new"


# Removing


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def left(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}


def test_only_names_of_the_layout_are_removed(tmp_path: Path) -> None:
    put(tmp_path, "own.a", "own.b", "mine", "1/own.a", "1/mine", "2/own.a", "x/own.a", "1/1/own.a")
    removed = remove_own(tmp_path, tmp_path, LAYOUT, lambda name: name != "own.b")
    assert left(tmp_path) == {"own.b", "mine", "1/mine", "x/own.a", "1/1/own.a"}
    assert not (tmp_path / "2").exists()
    assert set(removed) == {tmp_path / name for name in ("own.a", "1/own.a", "2/own.a", "2")}


@posix
def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    put(tmp_path / "home", "own.a", "1/own.a")
    root = tmp_path / "root"
    root.mkdir()
    (root / "1").symlink_to(tmp_path / "home")
    (root / "own.a").symlink_to(tmp_path / "home" / "own.a")
    assert remove_own(root, root, LAYOUT, lambda _: True) == []
    assert remove_own(root / "1", root, LAYOUT, lambda _: True) == []
    remove_temporary(root, root, LAYOUT)
    assert left(tmp_path / "home") == {"own.a", "1/own.a"}
    assert {entry.name for entry in root.iterdir()} == {"1", "own.a"}


@posix
def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "fast", "own.a")
    (tmp_path / "root").symlink_to("fast")
    remove_own(tmp_path / "root", tmp_path / "root", LAYOUT, lambda _: True)
    assert left(tmp_path / "fast") == set()


def test_what_is_half_written_is_removed_at_every_depth(tmp_path: Path) -> None:
    put(tmp_path, "own.a", "own.tmp", "1/own.b", "1/.own.b.77", "1/.mine.77", "x/.own.b.77")
    remove_temporary(tmp_path, tmp_path, LAYOUT)
    assert left(tmp_path) == {"own.a", "1/own.b", "1/.mine.77", "x/.own.b.77"}


@posix
def test_what_is_foreign_is_found_on_the_way_and_in_the_place_of_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "1/own.a", "1/mine")
    assert find_foreign(root / "1", root, LAYOUT) is None
    assert find_foreign(root / "2", root, LAYOUT) is None  # nothing is there
    assert find_foreign(root / "x", root, LAYOUT) is None
    (root / "1" / "note").symlink_to("own.a")
    assert find_foreign(root / "1", root, LAYOUT) is None  # no name of the layout
    (root / "1" / "own.b").symlink_to("own.a")
    assert find_foreign(root / "1", root, LAYOUT) == root / "1" / "own.b"
    (root / "3").symlink_to("1")
    assert find_foreign(root / "3", root, LAYOUT) == root / "3"
    os.mkfifo(root / "own.c")
    assert find_foreign(root, root, LAYOUT) == root / "own.c"


@posix
def test_a_real_folder_is_one_that_no_link_leads_to(tmp_path: Path) -> None:
    put(tmp_path, "root/1/own.a")
    (tmp_path / "root" / "2").symlink_to("1")
    (tmp_path / "by").symlink_to("root")
    assert is_real_folder(tmp_path / "root" / "1", tmp_path / "root")
    assert is_real_folder(tmp_path / "by" / "1", tmp_path / "by")
    assert is_real_folder(tmp_path / "by", tmp_path / "by")
    assert not is_real_folder(tmp_path / "root" / "2", tmp_path / "root")
    assert not is_real_folder(tmp_path / "root" / "9", tmp_path / "root")


@posix
def test_the_size_of_a_folder_is_that_of_its_own_files(tmp_path: Path) -> None:
    put(tmp_path, "root/a", "root/1/b", "home/c")
    (tmp_path / "root" / "2").symlink_to(tmp_path / "home")
    (tmp_path / "root" / "c").symlink_to(tmp_path / "home" / "c")
    os.mkfifo(tmp_path / "root" / "pipe")
    assert size_of(tmp_path / "root") == 2
