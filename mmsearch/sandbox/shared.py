"""The sandbox in which a program decodes the files that it asks with: one for all its libraries."""

from __future__ import annotations

import atexit
import os
import threading

from mmsearch.sandbox.pool import Sandbox
from mmsearch.settings import Limits, default_workers

_guard = threading.Lock()
_sandboxes: dict[tuple[int, int], Sandbox] = {}
"""By process and by how much memory there is: a forked process has a copy of this, and none of the threads."""


def shared_sandbox(limits: Limits) -> Sandbox:
    """Return the sandbox for queries within these limits; its processes stay for the next one."""
    key = (os.getpid(), limits.run_bytes)
    with _guard:
        if key not in _sandboxes:
            _sandboxes[key] = Sandbox(default_workers(), limits)
            atexit.register(_close, key)
        return _sandboxes[key]


def _close(key: tuple[int, int]) -> None:
    if key[0] == os.getpid():
        _sandboxes[key].close()
