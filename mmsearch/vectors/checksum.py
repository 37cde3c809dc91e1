"""A checksum fast enough to be taken of a whole index whenever one is opened."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

import numpy as np

BLOCK = 2**22
_WORDS = 4093
"""A prime, so that no two sectors of a block that change places are added into the same sums."""
_SHARED_BYTES = 2**26
"""From so many bytes on, several threads share the work."""
_MOST_THREADS = 4


def checksum(*parts: bytes | memoryview) -> int:
    """Return the checksum of some parts of a file, which have to be cut in the same way whenever it is taken.

    Each part is cut into blocks of 4 MiB. Of each of them, rows of 4,093 words of 64 bits are added up, and a CRC-32 is
    taken of the sums and of the words that filled no row; the checksum is the CRC-32 of those. A changed byte changes
    the sum of its column, unless another change in the same column makes up for it exactly. All this takes a third of
    the time of a CRC-32 of every byte, and less where several threads share it.
    """
    blocks = list(_blocks(parts))
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(blocks) * BLOCK // _SHARED_BYTES)
    if threads > 1:
        from concurrent.futures import ThreadPoolExecutor  # small indexes are opened sooner without

        with ThreadPoolExecutor(threads) as pool:
            checks = list(pool.map(block_checksum, blocks))
    else:
        checks = [block_checksum(block) for block in blocks]
    return combined(checks)


def block_checksum(block: bytes | memoryview) -> int:
    """Return the checksum of one block."""
    rows = len(block) // (8 * _WORDS)
    words = np.frombuffer(block, "<u8", rows * _WORDS).reshape(rows, _WORDS)
    check = zlib.crc32(np.add.reduce(words, axis=0).tobytes())
    return zlib.crc32(block[rows * 8 * _WORDS :], check)


def combined(checks: Iterable[int]) -> int:
    """Return the checksum of all blocks together."""
    return zlib.crc32(np.fromiter(checks, "<u4").tobytes())


def _blocks(parts: Iterable[bytes | memoryview]) -> Iterable[memoryview]:
    for part in parts:
        view = memoryview(part).cast("B")
        for at in range(0, len(view), BLOCK):
            yield view[at : at + BLOCK]
