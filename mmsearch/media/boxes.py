"""MP4 files from outside: their outermost boxes."""

from __future__ import annotations

import os
from typing import BinaryIO

_OUTERMOST = frozenset(b"ftyp styp moov moof mdat mfra sidx emsg free skip wide uuid meta".split())


def breaks_off(file: BinaryIO) -> bool:
    """Return whether the last box of an MP4 file ends beyond the end of the file (ISO/IEC 14496-12, 4.2)."""
    size, at = file.seek(0, os.SEEK_END), 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        if head[4:8] not in _OUTERMOST:  # what a camera's maker put behind it
            return False
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: to the end of the file
            return False
        at += length
    return at > size
