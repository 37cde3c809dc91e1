"""One thread that watches any number of deadlines; it sleeps while there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Deadline:
    """A time (`time.monotonic`) at which `act` is called, unless the deadline is removed before."""

    at: float
    act: Callable[[], None]
    passed: bool = False


class Watch:
    """Calls functions at deadlines."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: set[Deadline] = set()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def within(self, seconds: float, act: Callable[[], None]) -> Iterator[Deadline]:
        """Call `act` from another thread, and set `passed`, if the context lasts longer than `seconds`."""
        deadline = Deadline(time.monotonic() + seconds, act)
        with self._changed:
            self._deadlines.add(deadline)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif deadline.at < self._wakes_at:
                self._changed.notify()
        try:
            yield deadline
        finally:
            with self._changed:
                self._deadlines.discard(deadline)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for deadline in [deadline for deadline in self._deadlines if deadline.at <= now]:
                    self._deadlines.discard(deadline)
                    deadline.passed = True
                    deadline.act()
                # Most deadlines are removed before they pass, so the thread wakes only for the earliest one left.
                self._wakes_at = min((deadline.at for deadline in self._deadlines), default=float("inf"))
                self._changed.wait(None if self._wakes_at == float("inf") else max(0.0, self._wakes_at - now))
