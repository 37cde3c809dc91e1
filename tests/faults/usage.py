"""How much memory this process and its children take together, and what a process holds open."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self

from support.processes import has_begun

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_LOOK_S = 0.1


def resident(pid: int | str = "self") -> int:
    """Return the bytes that a process has in memory; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  it is counted, not walked


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for known in found:
        try:
            tasks = Path(f"/proc/{known}/task").iterdir()
            found += [int(child) for task in tasks for child in (task / "children").read_text("ascii").split()]
        except OSError:
            continue
    return found


class Peak:
    """Watches this process and its children while it is open; `bytes` is the most that they took together."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            own, *others = family(os.getpid())
            self.bytes = max(self.bytes, resident(own) + sum(map(resident, filter(has_begun, others))))
