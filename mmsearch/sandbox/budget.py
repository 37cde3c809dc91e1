"""Memory that several threads share: each waits for its part, in the order in which they ask."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class BudgetClosedError(Exception):
    """There is nothing to wait for any more."""


class Budget:
    """So many bytes, lent in parts. Who asks for much isn't passed by those who ask for little after it."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def part(self, wanted_bytes: int) -> Iterator[Part]:
        """Lend so many bytes, at most all, while the context lasts. Raises `BudgetClosedError`."""
        part = Part(self)
        part.resize(wanted_bytes)
        try:
            yield part
        finally:
            self._give(part.bytes)

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, wanted: int) -> None:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not self._closed and (self._waiting[0] is not ticket or self._free < wanted):
                    self._changed.wait()
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            if self._closed:
                raise BudgetClosedError
            self._free -= wanted

    def _give(self, returned: int) -> None:
        with self._changed:
            self._free += returned
            self._changed.notify_all()


class Part:
    """What is lent of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is, so that nobody else holds any."""
        return self.bytes == self._budget.total_bytes

    def resize(self, wanted_bytes: int) -> None:
        """Give back what is held and wait for so many bytes. Raises `BudgetClosedError`.

        Two that hold a part and want more would wait for each other for ever, so nothing is held while waiting.
        """
        wanted = min(wanted_bytes, self._budget.total_bytes)
        self._budget._give(self.bytes)
        self.bytes = 0
        self._budget._take(wanted)
        self.bytes = wanted
