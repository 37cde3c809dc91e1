"""Files of a library that are no regular files, no archive, or on a disk that nobody can write: one line, no hang."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.damaged_libraries import base as base
from support.damaged_libraries import folder as folder
from support.damaged_libraries import index, query, refused
from support.damaged_libraries import no_hang as no_hang

import mmsearch
from mmsearch import LibraryError
from mmsearch.folder import CATALOG
from mmsearch.search import calibration
from mmsearch.types import View


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """Lay a library on a disk that is mounted to be read."""
    mount = ["mount", "--bind", str(folder), str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a folder, where the system lets it")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_library_on_a_disk_that_nobody_can_write_answers_and_says_what_it_can_not_do(read_only: Path) -> None:
    with mmsearch.open(read_only) as library:
        assert library.query("a drum and a candle")
        assert library.status().segments
        for act in (lambda: library.index(exclude=["*"]), lambda: library.forget("x")):
            with pytest.raises(LibraryError, match=r"can't be locked for writing.*make it writable"):
                act()


def pipe(place: Path) -> None:
    os.mkfifo(place)


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def a_socket(place: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as opened:
        opened.bind(os.path.relpath(place))


def a_folder(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine")


odd = pytest.mark.parametrize("make", [pipe, device, a_socket, a_folder], ids=lambda make: make.__name__)
posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices as POSIX systems have them")


@posix
@odd
@pytest.mark.parametrize("name", [CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", f"{CATALOG}-journal"])
def test_a_catalog_that_is_no_regular_file_is_one_line(
    folder: Path, make: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # a socket's path is short
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    refused(folder, "isn't a regular file; move it away")


@posix
@odd
def test_a_lock_that_is_no_regular_file_is_one_line_and_queries_answer(
    folder: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "write.lock").unlink(missing_ok=True)
    make(folder / "write.lock")
    assert len(query(folder)) == 10
    refused(folder, r"write\.lock is a link, or no regular file; remove it", index)


@posix
@odd
def test_a_measurement_that_is_no_regular_file_is_not_used_and_an_index_run_names_it(
    folder: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (bank,) = folder.glob("indexes/1/*/visual.bank.npz")
    monkeypatch.chdir(bank.parent)
    bank.unlink()
    make(bank)
    hits = query(folder)
    assert len(hits) == 10
    assert {hit.confidence for hit in hits if hit.view is View.VISUAL} <= {None}
    refused(folder, r"visual\.bank\.npz is a link, or not mmsearch's own; remove it", index)


def npz(**arrays: object) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("vectors.npy", "w") as packed:
        for _ in range(96):
            packed.write(bytes(2**22))
    return content.getvalue()


def in_archive(array: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("format.npy", array)
    return content.getvalue()


ONES = np.ones((512, 64), np.float16)
ODD_BANKS = {
    "empty": b"",
    "bomb": bomb(),
    "no numbers": npz(format=3, vectors=ONES, stds=ONES[:, 0]),
    "of another dimension": npz(format=3, vectors=ONES[:, :8], stds=ONES[:, 0], numbers=np.ones(5)),
    "of nothing": npz(format=3, vectors=ONES[:0], stds=ONES[:0, 0], numbers=np.ones(5)),
    "not finite": npz(format=3, vectors=ONES * np.nan, stds=ONES[:, 0], numbers=np.ones(5)),
    "without spread": npz(format=3, vectors=ONES, stds=ONES[:, 0] * 0, numbers=np.ones(5)),
    "of text": npz(format=3, vectors=np.asarray(["x"]), stds=ONES[:, 0], numbers=np.ones(5)),
    "flat": npz(format=3, vectors=ONES.ravel(), stds=ONES[:, 0], numbers=np.ones(5)),
    "of a header that Python can't parse": in_archive(b"\x93NUMPY\x01\x00\x29\x23" + b"-" * 9_000 + b"\n"),
    "of another format": npz(format=np.ones(3), vectors=ONES, stds=ONES[:, 0], numbers=np.ones(5)),
}


@pytest.mark.parametrize("name", sorted(ODD_BANKS))
def test_a_damaged_measurement_is_not_used_and_made_again(folder: Path, name: str) -> None:
    (bank,) = folder.glob("indexes/1/*/visual.bank.npz")
    whole = bank.read_bytes()
    bank.write_bytes(ODD_BANKS[name])
    assert calibration._asked(bank, len(name), 64) is None
    assert len(query(folder)) == 10
    index(folder)
    assert bank.read_bytes() == whole
