"""The lock of a library: one process writes, any number read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsearch.errors import LibraryError, LockedError

LOCK_WAIT_S = 2.0
"""How long a writer waits: a query that catches an index up is done sooner, an index run isn't."""


@contextmanager
def write_lock(folder: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold a library's lock. Raises `LockedError` while another process does, `LibraryError` where nobody can."""
    from filelock import FileLock, Timeout  # only writers pay for it

    lock = FileLock(folder / "write.lock")
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise LockedError(
            f"another process is writing to {folder}; wait until it has finished, then run this again"
        ) from None
    except (OSError, NotImplementedError) as error:  # filelock knows file systems that can't lock
        reason = getattr(error, "strerror", None) or error
        raise LibraryError(f"{folder} can't be locked for writing ({reason}); make it writable") from error
    try:
        yield
    finally:
        lock.release()
