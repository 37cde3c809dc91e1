"""A memory budget that several threads share: each waits for its part, first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class BudgetClosedError(Exception):
    """The budget was closed, so waiting for memory is pointless."""


class Budget:
    """A number of bytes that is lent in parts, in the order of requests: small ones don't overtake a large one."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def part(self, wanted_bytes: int) -> Iterator[Part]:
        """Lend `wanted_bytes`, at most the whole budget, while the context lasts. Raises `BudgetClosedError`."""
        part = Part(self)
        part.resize(wanted_bytes)
        try:
            yield part
        finally:
            self._give(part.bytes)

    def close(self) -> None:
        """Make all waiting threads raise `BudgetClosedError`."""
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
    """The bytes that one thread has borrowed from a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole budget, so that no other thread holds any."""
        return self.bytes == self._budget.total_bytes

    def resize(self, wanted_bytes: int) -> None:
        """Give back the part and wait for one of `wanted_bytes`. Raises `BudgetClosedError`.

        Two threads that kept their parts while waiting for more would wait for each other for ever.
        """
        wanted = min(wanted_bytes, self._budget.total_bytes)
        self._budget._give(self.bytes)
        self.bytes = 0
        self._budget._take(wanted)
        self.bytes = wanted
