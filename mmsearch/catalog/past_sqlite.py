"""Reads the bytes of a catalog directly, without releasing SQLite's locks.

POSIX releases all locks of a process on a file when the process closes any descriptor of that file (see
https://www.sqlite.org/howtocorrupt.html, section 2.2). SQLite would then lose the lock that marks its log as in use;
the next process to finish would delete the log, and later writes would be lost. So a descriptor that is opened here
stays open until this process has no connection to the catalog any more.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmsearch.files import open_regular

_BLOCK = 2**20

Identity = tuple[int, int]


@dataclass(slots=True)
class _OpenFile:
    connections: int = 0
    opened: io.BufferedReader | None = None


_guard = threading.Lock()
_open_files: dict[Identity, _OpenFile] = {}


def connected(identity: Identity) -> None:
    """Record that connections to a catalog, given by device and inode, are open from now on."""
    with _guard:
        _open_files.setdefault(identity, _OpenFile()).connections += 1


def disconnected(identity: Identity) -> None:
    """Record that the connections of one call of `connected` are closed."""
    with _guard:
        file = _open_files[identity]
        file.connections -= 1
        if not file.connections:
            del _open_files[identity]
            if file.opened is not None:
                file.opened.close()


def blocks_of(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a catalog, or of its log, in blocks of 1 MiB. Raises `OSError`."""
    opened = _kept(file) if hasattr(os, "pread") else None  # Windows has no such locks
    if opened is not None:
        yield from _read(opened.fileno())
    else:
        with open_regular(file) as opened:  # this process has no connection, so there is no lock to lose
            while block := opened.read(_BLOCK):
                yield block


def _kept(file: Path) -> io.BufferedReader | None:
    """Return the lasting descriptor of a catalog, None if this process has no connection to it."""
    status = file.stat()
    with _guard:
        open_file = _open_files.get((status.st_dev, status.st_ino))
        if open_file is not None and open_file.opened is None:
            open_file.opened = open_regular(file)
        return open_file.opened if open_file is not None else None


def _read(descriptor: int) -> Iterator[bytes]:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    at = 0
    while block := os.pread(descriptor, _BLOCK, at):
        yield block
        at += len(block)
