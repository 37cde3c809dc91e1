"""The lock of a library: one process writes, any number of others read.

It is a lock of the operating system on `write.lock`, which ends with the process that holds it. While it is held, the
file names the holder, so that a waiting process can report it. A foreign file of that name is never written.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmsearch.errors import LibraryError, LockedError, unwritable

LOCK = "write.lock"
LOCK_WAIT_S = 2.0
"""How long a writer waits for a query that updates an index, or for an unknown holder."""
_LONG_WAIT_S = 0.3
"""How long it waits for other commands, such as an index run: these may take minutes, so the caller is told early."""
BRIEF = "query"
"""The command of a holder that finishes soon."""
_POLL_S = 0.02
_RECORD_BYTES = 512
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that writes to a library, as it describes itself."""

    pid: int
    host: str
    command: str
    since: float

    def __str__(self) -> str:
        began = datetime.fromtimestamp(self.since).astimezone()
        since = f"{began:%H:%M}" if time.time() - self.since < 86_400 else f"{began:%Y-%m-%d %H:%M}"
        host = f" on {self.host}" if self.host != _host() else ""
        command = f"mmsearch {self.command}".rstrip()
        return f"PID {self.pid}{host} ({command}, since {since})"


def identity_of(folder: Path) -> Identity | None:
    """Return the identity of a folder, which doesn't depend on its name; None if it doesn't exist."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def write_lock(
    folder: Path, wait_s: float = LOCK_WAIT_S, *, command: str = "", identity: Identity | None = None
) -> Iterator[None]:
    """Hold a library's lock. `command` is the name that waiting processes report.

    Raises `LockedError` if another process holds it, `LibraryError` if it can't be locked at all, or if the folder no
    longer has the given `identity` because it was moved or replaced.
    """
    moved = LibraryError(f"{folder} was moved or deleted while it was open; open the library again")
    if identity is not None and identity_of(folder) != identity:
        raise moved
    file = folder / LOCK
    try:
        descriptor = _open(file)
    except OSError as error:
        message = f"{folder} can't be locked for writing ({error.strerror}); make it writable"
        raise unwritable(error, message) from error
    try:
        _acquire(descriptor, folder, wait_s)
        if identity is not None and (identity_of(folder) != identity or not _is_at(descriptor, file)):
            raise moved
        written = _write_holder(descriptor, Holder(os.getpid(), _host(), command, time.time()))
        try:
            yield
        finally:
            if written:
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)
            _unlock(descriptor)
    finally:
        os.close(descriptor)


def holder_of(folder: Path) -> Holder | None:
    """Return the process that holds a library's lock by the content of the file, None if that isn't valid."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | _FLAGS)
    except OSError:
        return None
    try:
        return _read_holder(descriptor) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def _open(file: Path) -> int:
    """Open the lock file for reading and writing, without truncating it. Raises `LibraryError` if it is a link."""
    refused = LibraryError(f"{file} is a link, or no regular file; remove it and run the same command again")
    if file.is_symlink():  # Windows has no O_NOFOLLOW
        raise refused
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO):
            raise refused from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refused
    return descriptor


def _acquire(descriptor: int, folder: Path, wait_s: float) -> None:
    began = time.monotonic()
    while not _try_lock(descriptor, folder):
        waited, holder = time.monotonic() - began, _read_holder(descriptor)
        if waited >= (wait_s if holder is None or holder.command == BRIEF else min(wait_s, _LONG_WAIT_S)):
            raise LockedError(
                f"{holder or 'another process'} is writing to {folder}; wait until it has finished, then run this again"
            )
        time.sleep(_POLL_S)


def _try_lock(descriptor: int, folder: Path) -> bool:
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _NO_LOCKS:
            raise LibraryError(
                f"the file system of {folder} doesn't support locks ({error.strerror}), so two processes could write "
                "at once; keep the library on another disk, or mount this one with locks"
            ) from error
        message = f"{folder} can't be locked for writing ({error.strerror}); make it writable"
        raise unwritable(error, message) from error
    return True


if os.name == "nt":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.lstat())
    except OSError:
        return False


# The holder's record. It begins at the second byte: the first one is locked, and unreadable to others on Windows.


def _write_holder(descriptor: int, holder: Holder) -> bool:
    """Write the holder into the lock file; return whether it was written. Other content isn't changed."""
    record = {"pid": holder.pid, "host": holder.host, "command": holder.command, "since": holder.since}
    try:
        status = os.fstat(descriptor)
        if status.st_nlink > 1 or (status.st_size and _read_holder(descriptor) is None):
            return False
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"\n" + json.dumps(record).encode())
    except OSError:  # the disk is full; the lock works without a record
        return False
    return True


def _read_holder(descriptor: int) -> Holder | None:
    try:
        os.lseek(descriptor, 1, os.SEEK_SET)
        fields = json.loads(os.read(descriptor, _RECORD_BYTES))
        pid, host, command, since = fields["pid"], fields["host"], fields["command"], fields["since"]
        credible = (
            isinstance(pid, int)
            and isinstance(since, float)
            and 0 <= since < 2**33
            and re.fullmatch(r"[\w.-]{1,64}", host)
            and re.fullmatch(r"[a-z ]{0,20}", command)
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Holder(pid, host, command, since) if credible else None


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())[:64] or "unknown"
