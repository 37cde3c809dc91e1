"""Memory limits for decoders: a decoder reserves the memory of a file before it allocates it.

A sandbox lends each decoder a share of the memory of all. The need of a file is estimated from its header. Outside of
a sandbox there is no limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MEMORY_ERROR = re.compile(r"memory|alloc", re.IGNORECASE)
_lend: Callable[[int], None] | None = None
_share_bytes = 0
_max_bytes = 0


def set_share(share_bytes: int, max_bytes: int, lend: Callable[[int], None]) -> None:
    """Set the memory that this process may allocate for its file, and the function that lends more.

    `lend` is called with the total number of bytes needed, at most `max_bytes`, and returns when they may be allocated.
    """
    global _lend, _share_bytes, _max_bytes
    _lend, _share_bytes, _max_bytes = lend, share_bytes, max_bytes


def reserve(needed_bytes: int) -> None:
    """Wait until this process may allocate `needed_bytes` for its file, or the maximum if that is less.

    A need above the maximum is no error here, since it is only an estimate; the allocation itself may still succeed.
    """
    global _share_bytes
    wanted = min(needed_bytes, _max_bytes)
    if _lend is not None and wanted > _share_bytes:
        _lend(wanted)
        _share_bytes = wanted


def is_short(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, and a larger share might help.

    Libraries raise such errors under many types, so their messages are searched as well.
    """
    if _lend is None or _share_bytes >= _max_bytes:
        return False
    return isinstance(error, MemoryError) or _MEMORY_ERROR.search(str(error)) is not None
