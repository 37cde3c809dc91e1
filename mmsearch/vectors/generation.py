"""The file of one generation: float16 codes and ids in FAISS's layout, checked before FAISS reads it.

FAISS trusts the header of a file, and reads beyond the file's end if the header is wrong. So every byte is verified
first: the header and the lengths follow from the manifest's dimension and count, and codes and ids must have the
checksum that they were written with.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import DamagedIndexError
from mmsearch.files import open_new, open_regular
from mmsearch.vectors.base import MOST_ID, finite_codes
from mmsearch.vectors.checksum import BLOCK, block_checksum, checksum, combined
from mmsearch.vectors.faiss_index import codes_of, index_of, map_index

IN_MEMORY_BYTES = 2**23
"""A file up to this size is read into memory, where no other program can truncate it; a larger one is mapped."""
_HEADER = struct.Struct("<4siqqq?i4siqqq?iiifQQQQ")
_COUNT = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Generation:
    """An open generation: its sorted ids (n,), and the FAISS index over its codes.

    `descriptor` is the open mapped file, None if it was read into memory; `stamp` is its size and mtime when checked.
    """

    ids: NDArray[np.int64]
    index: Any  # a faiss.IndexIDMap
    descriptor: int | None = None
    stamp: tuple[int, int] = (0, 0)

    def is_intact(self) -> bool:
        """Return whether the mapped file has the size and mtime that it had when it was checked."""
        return self.descriptor is None or _stamp(self.descriptor) == self.stamp


def write_generation(
    file: Path, dim: int, parts: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> tuple[int, int]:
    """Write ascending ids (n,) and vectors (n, dim), as float16, into a new file and sync it.

    Returns the number of vectors and the file's checksum. Vectors that aren't finite in float16 are left out. Raises
    `OSError`, and then leaves no file.
    """
    written = [np.empty(0, np.int64)]
    try:
        with open_new(file) as opened:
            opened.write(bytes(_HEADER.size))  # the header is written last, when the number of vectors is known
            for fetched_ids, vectors in parts:
                ids, codes = finite_codes(fetched_ids, vectors)
                written.append(ids)
                opened.write(np.ascontiguousarray(codes).data)
            every = np.concatenate(written)
            opened.write(_COUNT.pack(len(every)) + every.astype("<i8").tobytes())
            opened.seek(0)
            opened.write(_header(dim, len(every)))
            opened.flush()
            os.fsync(opened.fileno())
            check = _check_of(opened, dim, len(every))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return len(every), check


def open_generation(file: Path, dim: int, count: int, check: int) -> Generation:
    """Open a file that `write_generation` wrote, and check every byte of it.

    Raises `OSError` or `DamagedIndexError` if the file has changed since.
    """
    with open_regular(file, follow_links=False) as opened:
        ends = _Ends.read(opened, file, dim, count)
        if ends.file_size <= IN_MEMORY_BYTES:
            opened.seek(_HEADER.size)
            codes = opened.read(2 * dim * count)
            if len(codes) != 2 * dim * count or ends.checksum(memoryview(codes)) != check:
                raise DamagedIndexError(f"{file} is damaged")
            return Generation(ends.ids, index_of(dim, np.frombuffer(codes, np.uint8).reshape(count, -1), ends.ids))
        stamp = _stamp(opened.fileno())
        index = map_index(file)
        mapped = file.stat()
        if not os.path.samestat(mapped, os.fstat(opened.fileno())) or index.ntotal != count or index.d != dim:
            raise DamagedIndexError(f"{file} was changed while it was opened")
        if ends.checksum(codes_of(index)) != check:
            raise DamagedIndexError(f"{file} is damaged")
        generation = Generation(ends.ids, index, os.dup(opened.fileno()), stamp)
    assert generation.descriptor is not None
    weakref.finalize(generation, os.close, generation.descriptor)
    return generation


@dataclass(frozen=True, slots=True)
class _Ends:
    """The bytes before and after the codes of a file; everything is verified except the checksum."""

    head: bytes
    tail: bytes
    ids: NDArray[np.int64]
    file_size: int

    @staticmethod
    def read(opened: BinaryIO, file: Path, dim: int, count: int) -> _Ends:
        size = os.fstat(opened.fileno()).st_size
        if size != _size(dim, count):
            raise DamagedIndexError(f"{file} is damaged: its size has changed since it was written")
        head = opened.read(_HEADER.size)
        if head != _header(dim, count):
            raise DamagedIndexError(f"{file} is damaged or belongs to another index")
        opened.seek(_HEADER.size + 2 * dim * count)
        tail = opened.read(_COUNT.size + 8 * count)
        if len(tail) != _COUNT.size + 8 * count or tail[: _COUNT.size] != _COUNT.pack(count):
            raise DamagedIndexError(f"{file} is damaged or belongs to another index")
        ids = np.frombuffer(tail, np.uint8, 8 * count, _COUNT.size).copy().view("<i8").astype(np.int64, copy=False)
        if count and (ids[0] < 0 or ids[-1] >= MOST_ID or (np.diff(ids) <= 0).any()):
            raise DamagedIndexError(f"{file} is damaged: it holds invalid ids")
        return _Ends(head, tail, ids, size)

    def checksum(self, codes: memoryview) -> int:
        return checksum(self.head, codes, self.tail)


def _check_of(opened: BinaryIO, dim: int, count: int) -> int:
    """Return the checksum of a finished file by reading it back: `checksum` of its three parts."""
    opened.seek(0)
    checks = []
    for length in (_HEADER.size, 2 * dim * count, _COUNT.size + 8 * count):
        for at in range(0, length, BLOCK):
            checks.append(block_checksum(opened.read(min(BLOCK, length - at))))
    return combined(checks)


def _header(dim: int, count: int) -> bytes:
    """Return the header of a FAISS file of `count` float16 codes that are compared by inner product."""
    shape = (count, 2**20, 2**20, True, 0)
    half = 4  # ScalarQuantizer.QT_fp16
    return _HEADER.pack(b"IxMp", dim, *shape, b"IxSQ", dim, *shape, half, 0, 0.0, dim, 2 * dim, 0, 2 * dim * count)


def _size(dim: int, count: int) -> int:
    return _HEADER.size + 2 * dim * count + _COUNT.size + 8 * count


def _stamp(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns
