"""Sandbox: worker processes that decode files, within a memory that they share."""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from concurrent.futures import Future

from mmsearch.sandbox.budget import Budget
from mmsearch.sandbox.keeper import Job, Keeper, SandboxError
from mmsearch.sandbox.watch import Watch
from mmsearch.sandbox.work import PreparedContent
from mmsearch.settings import Limits
from mmsearch.types import Modality

_HELD_BYTES = 2**26
"""While results that nobody took yet are larger than this, no further file is begun."""


class Sandbox:
    """Up to `workers` processes in which files are decoded, started when there is work for them.

    What all of them allocate for files at a time stays below `limits.run_bytes`: each file has an equal share, and one
    that needs more waits until the others have given theirs back. Any thread may use it.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self._most_workers = workers
        self._budget = Budget(limits.run_bytes)
        self._share_bytes = limits.run_bytes // workers
        self._watch = Watch()
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Job, Future[PreparedContent]]] = deque()
        self._keepers: list[Keeper] = []
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._held_bytes = 0
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """The processes that run now."""
        return [number for keeper in list(self._keepers) if (number := keeper.process_id) is not None]

    def warm(self, modality: Modality | None = None) -> None:
        """Start a process, if there is none yet, and have it load what decodes this kind of file. Returns at once."""
        with self._changed:
            if not self._keepers and not self._closed:
                self._add_worker(modality)

    def submit(self, job: Job) -> Future[PreparedContent]:
        """Decode a file. Files are begun in the order in which they come; pass each future to `take`.

        The future raises `ReadError` where the file can't be read, `MediaError` where it can't be decoded within its
        limits, and `SandboxError` where nothing can.
        """
        future: Future[PreparedContent] = Future()
        with self._changed:
            if self._closed:
                raise SandboxError("the decoding processes have been ended")
            self._jobs.append((job, future))
            if len(self._keepers) - self._busy < len(self._jobs) and len(self._keepers) < self._most_workers:
                self._add_worker()
            self._changed.notify()
        return future

    def take(self, future: Future[PreparedContent], wait_s: float | None = None) -> PreparedContent:
        """Wait for a file and return what is in it; raises what the future does, `TimeoutError` after `wait_s`."""
        content = future.result(wait_s)
        with self._changed:
            self._held_bytes -= content.bytes
            self._changed.notify_all()
        return content

    def close(self) -> None:
        """End every process, and wait for them. What wasn't decoded yet is cancelled."""
        with self._changed:
            self._closed = True
            for _, future in self._jobs:
                future.cancel()
            self._jobs.clear()
            self._changed.notify_all()
        self._budget.close()
        for keeper in self._keepers:
            keeper.close()
        for thread in self._threads:
            thread.join()
        self._watch.close()

    def _add_worker(self, modality: Modality | None = None) -> None:
        keeper = Keeper(self._budget, self._share_bytes, self._watch)
        thread = threading.Thread(target=self._serve, args=(keeper, modality), name="decoding", daemon=True)
        self._keepers.append(keeper)
        self._threads.append(thread)
        thread.start()

    def _serve(self, keeper: Keeper, modality: Modality | None) -> None:
        """Run in a thread for each worker, as long as its process."""
        if sys.platform != "win32":  # which the process inherits: Ctrl-C is for the main thread to answer
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        keeper.warm(modality)
        while (next_job := self._next()) is not None:
            self._do(keeper, *next_job)
            with self._changed:
                self._busy -= 1
        keeper.end()

    def _do(self, keeper: Keeper, job: Job, future: Future[PreparedContent]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            content = keeper.decode(job)
        except BaseException as error:  # it is for the caller, who waits for the future
            future.set_exception(error)
        else:
            with self._changed:
                self._held_bytes += content.bytes
            future.set_result(content)

    def _next(self) -> tuple[Job, Future[PreparedContent]] | None:
        """Wait for a job; None where there will be no more."""
        with self._changed:
            # Jobs begin in their order: the one that is waited for first has begun before any later result is held.
            while not self._closed and (not self._jobs or self._held_bytes >= _HELD_BYTES):
                self._changed.wait()
            if self._closed:
                return None
            self._busy += 1
            return self._jobs.popleft()
