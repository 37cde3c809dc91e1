"""Sandbox: worker processes that decode files and share one memory budget."""

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

_MAX_WAITING_BYTES = 2**26
"""No further file is begun while the results that wait for `take` are larger than this."""


class Sandbox:
    """Up to `workers` processes that decode files; each is started when there is work for it.

    Together they allocate at most `limits.run_bytes` for files: each file has an equal share, and a file that needs
    more waits until others have returned theirs. Safe to use from several threads.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self._max_workers = workers
        self._budget = Budget(limits.run_bytes)
        self._share_bytes = limits.run_bytes // workers
        self._watch = Watch()
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Job, Future[PreparedContent]]] = deque()
        self._keepers: list[Keeper] = []
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._waiting_bytes = 0
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """The ids of the running processes."""
        return [number for keeper in list(self._keepers) if (number := keeper.process_id) is not None]

    def warm(self, modality: Modality | None = None) -> None:
        """Start a first process and let it load the decoders of a modality. Returns at once."""
        with self._changed:
            if not self._keepers and not self._closed:
                self._add_worker(modality)

    def submit(self, job: Job) -> Future[PreparedContent]:
        """Queue a file for decoding and return its future, which must be passed to `take`. Files start in their order.

        The future raises `ReadError` if the file can't be read, `MediaError` if it can't be decoded within its limits,
        and `SandboxError` if no process can be kept alive.
        """
        future: Future[PreparedContent] = Future()
        with self._changed:
            if self._closed:
                raise SandboxError("the decoding processes have been ended")
            self._jobs.append((job, future))
            if len(self._keepers) - self._busy < len(self._jobs) and len(self._keepers) < self._max_workers:
                self._add_worker()
            self._changed.notify()
        return future

    def take(self, future: Future[PreparedContent], wait_s: float | None = None) -> PreparedContent:
        """Wait for a file and return its content. Raises the future's errors, and `TimeoutError` after `wait_s`."""
        content = future.result(wait_s)
        with self._changed:
            self._waiting_bytes -= content.bytes
            self._changed.notify_all()
        return content

    def close(self) -> None:
        """End every process and wait for them. Files that aren't decoded yet are cancelled."""
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
        """Pass jobs to one worker until the sandbox is closed; each worker has such a thread."""
        if sys.platform != "win32":  # the process inherits the mask: only the main thread handles Ctrl-C
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
        except BaseException as error:  # `take` raises it in the caller's thread
            future.set_exception(error)
        else:
            with self._changed:
                self._waiting_bytes += content.bytes
            future.set_result(content)

    def _next(self) -> tuple[Job, Future[PreparedContent]] | None:
        """Wait for a job and return it, None if the sandbox is closed."""
        with self._changed:
            # This can't block the caller for ever: jobs begin in order, so the one it waits for has begun already.
            while not self._closed and (not self._jobs or self._waiting_bytes >= _MAX_WAITING_BYTES):
                self._changed.wait()
            if self._closed:
                return None
            self._busy += 1
            return self._jobs.popleft()
