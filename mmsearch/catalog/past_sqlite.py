"""Reads the bytes of a catalog past SQLite, without taking its locks away.

POSIX drops every lock that a process has on a file as soon as the process closes any descriptor of that file (see
https://www.sqlite.org/howtocorrupt.html, section 2.2). SQLite would then lose the lock that tells other processes that
its log is in use; the next one to finish would delete the log, and what is written later would be lost. So a descriptor
that was opened here is kept until this process has no connection to the catalog any more.
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
class _Held:
    connections: int = 0
    opened: io.BufferedReader | None = None


_guard = threading.Lock()
_held: dict[Identity, _Held] = {}


def connected(identity: Identity) -> None:
    """Note that connections to a catalog, by device and inode, are open from now on."""
    with _guard:
        _held.setdefault(identity, _Held()).connections += 1


def disconnected(identity: Identity) -> None:
    """Note that the connections of one `connected` are closed."""
    with _guard:
        held = _held[identity]
        held.connections -= 1
        if not held.connections:
            del _held[identity]
            if held.opened is not None:
                held.opened.close()


def blocks_of(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a catalog, or of its log, in blocks of 1 MiB. Raises `OSError`."""
    opened = _kept(file) if hasattr(os, "pread") else None  # Windows has no such locks
    if opened is not None:
        yield from _read(opened.fileno())
    else:
        with open_regular(file) as once:  # nobody is connected, so there is no lock to lose
            while block := once.read(_BLOCK):
                yield block


def _kept(file: Path) -> io.BufferedReader | None:
    """Return the descriptor that is kept of a catalog that this process is connected to, None without a connection."""
    status = file.stat()
    with _guard:
        held = _held.get((status.st_dev, status.st_ino))
        if held is not None and held.opened is None:
            held.opened = open_regular(file)
        return held.opened if held is not None else None


def _read(descriptor: int) -> Iterator[bytes]:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    at = 0
    while block := os.pread(descriptor, _BLOCK, at):
        yield block
        at += len(block)
