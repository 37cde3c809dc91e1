"""The processes that decode: how they start, what they do, and what becomes of the pool when one of them dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from pebble import ProcessPool

from indexer.plan import Task
from indexer.scan import mtime_ns
from mmsearch.errors import ReadError, why
from mmsearch.media import DecodeOptions, decode, silence_decoders
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import FrontEnd, Prepared, decoding_needs
from mmsearch.types import Failure, Modality, View

FrontEnds = Mapping[tuple[str, View], FrontEnd]
_TASKS_PER_WORKER = 5_000
"""A worker is replaced after so many, in case a decoder leaks."""
_LOOK_S = 1.0
"""How often a waiting main process looks whether the pool still lives."""


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """A segment whose payloads went through the front ends: what each space's tower takes, by (space name, view)."""

    start_s: float | None
    end_s: float | None
    text: str | None
    silent: bool
    inputs: Mapping[tuple[str, View], tuple[Prepared, ...]]


@dataclass(frozen=True, slots=True)
class PreparedContent:
    """A decoded content, or a part of one, ready to be encoded. `resume_s` is where the next part begins, if any.

    `seconds` is how long decoding and preparing it took.
    """

    modality: Modality
    segments: tuple[PreparedSegment, ...]
    failures: tuple[Failure, ...]
    resume_s: float | None = None
    seconds: float = 0.0

    @property
    def bytes(self) -> int:
        """How much memory it takes until it is encoded."""
        return sum(p.nbytes for segment in self.segments for prepared in segment.inputs.values() for p in prepared)


class Crew:
    """The pool of decoding processes; broken, it is replaced by a new one on `renew`."""

    def __init__(self, front_ends: FrontEnds, settings: Settings) -> None:
        decoding_needs(front_ends.values())  # a damaged tokenizer is said here, and not by every worker
        self._front_ends = front_ends
        self._settings = settings
        self._pool = self._make()

    def _make(self) -> ProcessPool:
        self._context = _WorkerContext()
        return ProcessPool(
            max_workers=self._settings.workers,
            max_tasks=_TASKS_PER_WORKER,
            initializer=_start_worker,
            initargs=[self._front_ends, self._settings.limits],
            context=self._context,
        )

    def submit(self, task: Task) -> Future[PreparedContent]:
        """Hand a task to the next free worker. Raises `BrokenProcessPool`."""
        try:
            future: Future[PreparedContent] = self._pool.schedule(
                _work, args=[task], timeout=self._settings.limits.decode_s
            )
        except (RuntimeError, OSError) as error:  # pebble's word for a broken pool; a process that can't be started
            raise BrokenProcessPool(str(error)) from error
        return future

    def result(self, future: Future[PreparedContent]) -> PreparedContent:
        """Wait for a task; raises what it raised, `TimeoutError` for its time-out, `BrokenProcessPool`."""
        while True:
            try:
                return future.result(timeout=_LOOK_S)
            except TimeoutError:
                if future.done():
                    raise
                if not self._pool.active:  # pebble leaves the futures of a broken pool unresolved
                    raise BrokenProcessPool("the pool is broken") from None

    def renew(self) -> None:
        """Start over with new processes."""
        self.stop()
        self._pool = self._make()

    def stop(self) -> None:
        """End every process."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._context.end()


# What runs in a worker process

_front_ends: FrontEnds = {}
_options: DecodeOptions | None = None


def _start_worker(front_ends: FrontEnds, limits: Limits) -> None:
    global _front_ends, _options
    _front_ends, _options = front_ends, DecodeOptions(limits, *decoding_needs(front_ends.values()))
    silence_decoders()
    warnings.simplefilter("ignore")  # a decoder's warnings about a file have no reader here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    if sys.platform != "win32":
        import resource

        with suppress(ValueError, OSError):  # macOS knows the limit and refuses to set it
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            bound = limits.worker_bytes if hard == resource.RLIM_INFINITY else min(limits.worker_bytes, hard)
            resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(task: Task) -> PreparedContent:
    assert _options is not None
    began = time.monotonic()
    decoded = decode(task.entry.path, task.entry.sidecars, _options, task.from_s)
    try:
        after = os.stat(task.entry.path)  # noqa: PTH116  paths are bytes here
    except OSError as error:
        raise ReadError(why(error, "check the disk")) from None
    if (after.st_size, mtime_ns(after)) != (task.entry.size_bytes, task.entry.mtime_ns):
        raise ReadError("it changed while it was read; run 'mmsearch index' again")
    segments = tuple(
        PreparedSegment(
            segment.start_s,
            segment.end_s,
            segment.text,
            segment.silent,
            {
                (space, view): tuple(end(payload) for payload in segment.views[view])
                for (space, view), end in _front_ends.items()
                if view in segment.views
            },
        )
        for segment in decoded.segments
    )
    seconds = time.monotonic() - began
    return PreparedContent(decoded.modality, segments, decoded.failures, decoded.resume_s, seconds)


# How a worker process is started

_starting = threading.Lock()
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Each worker has a core. Where memory is limited, OpenBLAS may get no second thread, and waits for it for ever."""


class _Worker(SpawnProcess):
    """A spawned process that doesn't import the user's script, and that Ctrl-C doesn't reach while it starts.

    A plain spawned process runs `__main__` again, so a script that indexes at its top level would start itself over
    and over; a forked one would copy onnxruntime's threads half-way through their work.
    """

    def start(self) -> None:
        with _starting:
            script = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if sys.platform != "win32" else set()
            before = {name: os.environ.get(name) for name in _ONE_THREAD}
            os.environ |= dict.fromkeys(_ONE_THREAD, "1")
            try:
                super().start()
            finally:
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
                if sys.platform != "win32":
                    signal.pthread_sigmask(signal.SIG_SETMASK, masked)
                sys.modules["__main__"] = script


class _WorkerContext(SpawnContext):
    """Makes workers, and keeps what they were given until they have ended.

    The pool drops its locks before it ends its workers; one that is just starting would look for them in vain, and say
    so on the terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.workers: list[_Worker] = []
        self._locks: list[object] = []

    def Process(self, *arguments: Any, **options: Any) -> _Worker:  # type: ignore[override]  # noqa: ANN401
        self.workers = [worker for worker in self.workers if worker.is_alive() or worker.pid is None]
        self.workers.append(_Worker(*arguments, **options))
        return self.workers[-1]

    def RLock(self) -> Any:  # noqa: ANN401
        lock = super().RLock()
        self._locks.append(lock)
        return lock

    def end(self) -> None:
        """Kill the workers that are left, and wait for them."""
        for worker in self.workers:
            if worker.pid is not None and worker.is_alive():
                worker.kill()
                worker.join()
        self.workers.clear()
        self._locks.clear()  # now they may go, and take their semaphores with them
