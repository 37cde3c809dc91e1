"""How much memory the decoding of one file may take, as decoders ask for it.

A sandbox lends a decoder a share of what all of them may take together. What a file needs is known from its header,
so a decoder reserves it before it allocates it. Outside of a sandbox there is no such limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_WANT = re.compile(r"memory|alloc", re.IGNORECASE)
_lend: Callable[[int], None] | None = None
_share_bytes = 0
_most_bytes = 0


def set_share(share_bytes: int, most_bytes: int, lend: Callable[[int], None]) -> None:
    """Say how much this process may allocate for its file, how much at most, and who lends more.

    `lend` gets the bytes that are needed in all, at most `most_bytes`, and returns when they may be allocated.
    """
    global _lend, _share_bytes, _most_bytes
    _lend, _share_bytes, _most_bytes = lend, share_bytes, most_bytes


def reserve(needed_bytes: int) -> None:
    """Wait until this process may allocate so much for its file.

    More than a file may have is no error yet: it is an estimate, and what is allocated tells.
    """
    global _share_bytes
    wanted = min(needed_bytes, _most_bytes)
    if _lend is not None and wanted > _share_bytes:
        _lend(wanted)
        _share_bytes = wanted


def is_short(error: BaseException) -> bool:
    """Return whether an error comes of a want of memory that a larger share may end.

    Libraries raise it under many names; their own words for it are looked at as well.
    """
    if _lend is None or _share_bytes >= _most_bytes:
        return False
    return isinstance(error, MemoryError) or _WANT.search(str(error)) is not None
