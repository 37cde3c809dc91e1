"""The sandbox that decodes query files: a program's libraries share one."""

from __future__ import annotations

import atexit
import os
import threading

from mmsearch.sandbox.pool import Sandbox
from mmsearch.settings import Limits, default_workers

_guard = threading.Lock()
_sandboxes: dict[tuple[int, int], Sandbox] = {}
"""Sandboxes by process id and memory budget: a forked process inherits this dictionary but not the threads."""


def shared_sandbox(limits: Limits) -> Sandbox:
    """Return the sandbox for queries within these limits. Its processes are kept for later queries."""
    key = (os.getpid(), limits.run_bytes)
    with _guard:
        if key not in _sandboxes:
            _sandboxes[key] = Sandbox(default_workers(), limits)
            atexit.register(_close, key)
        return _sandboxes[key]


def _close(key: tuple[int, int]) -> None:
    if key[0] == os.getpid():
        _sandboxes[key].close()
