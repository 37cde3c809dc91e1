"""Ctrl-C during an index run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mmsearch.cli.streams import warn


@contextmanager
def stop_on_ctrl_c() -> Iterator[threading.Event]:
    """Let the first Ctrl-C ask for an early end, and the second one end at once."""
    stop = threading.Event()

    def ask(_signal: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warn("stopping: what is ready is being committed (Ctrl-C again to stop at once)")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
