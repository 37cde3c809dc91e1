"""Decoding in worker processes: a file that crashes, hangs or eats memory costs itself and nothing else."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from indexer.plan import Task
from mmsearch.errors import MediaError
from mmsearch.media import DecodeOptions, decode
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import FrontEnd, Prepared, Profile, decoding_needs
from mmsearch.types import Failure, Modality, Stage, View

FrontEnds = Mapping[tuple[str, View], FrontEnd]
_AHEAD = 8
"""Tasks in flight for each worker."""
_TASKS_PER_WORKER = 5_000
"""A worker is replaced after so many, in case a decoder leaks."""


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """A segment whose payloads went through the front ends: what each space's tower takes, by (space name, view)."""

    start_s: float | None
    end_s: float | None
    text: str | None
    inputs: Mapping[tuple[str, View], Prepared]


@dataclass(frozen=True, slots=True)
class PreparedContent:
    """A decoded content, ready to be encoded."""

    modality: Modality
    segments: tuple[PreparedSegment, ...]
    failures: tuple[Failure, ...]


Outcome = tuple[Task, PreparedContent | Failure]


def decode_all(
    tasks: Iterable[Task],
    profile: Profile,
    settings: Settings,
    stopped: Callable[[], bool],
) -> Iterator[Outcome]:
    """Decode tasks in worker processes and yield what became of each, in order, with a bounded look-ahead.

    When `stopped` says so, no further task begins, and those under way are still yielded.
    """
    front_ends = {(space.name, view): end for space in profile.spaces for view, end in space.front_ends.items()}
    pool = ProcessPool(
        max_workers=settings.workers,
        max_tasks=_TASKS_PER_WORKER,
        initializer=_start_worker,
        initargs=[front_ends, settings.limits],
        context=_WorkerContext(),
    )
    waiting: deque[tuple[Task, Future[PreparedContent]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.schedule(_work, args=[task], timeout=settings.limits.decode_s)))
            while len(waiting) >= settings.workers * _AHEAD or (waiting and waiting[0][1].done()):
                yield _collect(*waiting.popleft(), settings.limits)
            if stopped():
                break
        while waiting:
            yield _collect(*waiting.popleft(), settings.limits)
        pool.close()  # type: ignore[no-untyped-call]
    finally:
        if pool.active:
            pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _collect(task: Task, future: Future[PreparedContent], limits: Limits) -> Outcome:
    try:
        return task, future.result()
    except MediaError as error:
        reason = str(error)
    except TimeoutError:
        reason = f"decoding took more than {limits.decode_s:.0f} s; convert or shorten the file"
    except ProcessExpired as error:
        reason = f"the decoder crashed (exit code {error.exitcode}); the file is damaged or hostile"
    except MemoryError:
        reason = f"decoding needs more than {limits.worker_bytes / 2**30:.0f} GB; save the file smaller"
    except Exception as error:  # whatever a decoder raises on a hostile file is that file's failure
        reason = f"can't be decoded: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return task, Failure(Path(os.fsdecode(task.entry.path)), Stage.DECODE, reason)


# What runs in a worker process

_front_ends: FrontEnds = {}
_options: DecodeOptions | None = None


def _start_worker(front_ends: FrontEnds, limits: Limits) -> None:
    global _front_ends, _options
    _front_ends, _options = front_ends, DecodeOptions(limits, *decoding_needs(front_ends.values()))
    warnings.simplefilter("ignore")  # a decoder's warnings about a file have no reader here
    if sys.platform != "win32":
        import resource

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bound = limits.worker_bytes if hard == resource.RLIM_INFINITY else min(limits.worker_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(task: Task) -> PreparedContent:
    assert _options is not None
    before = os.stat(task.entry.path)  # noqa: PTH116  paths are bytes here
    decoded = decode(task.entry.path, task.entry.sidecars, _options)
    if (before.st_size, before.st_mtime_ns) != (task.entry.size_bytes, task.entry.mtime_ns):
        raise MediaError("it changed while it was read; run 'mmsearch index' again")
    segments = tuple(
        PreparedSegment(
            segment.start_s,
            segment.end_s,
            segment.text,
            {
                (space, view): end(segment.views[view])
                for (space, view), end in _front_ends.items()
                if view in segment.views
            },
        )
        for segment in decoded.segments
    )
    return PreparedContent(decoded.modality, segments, decoded.failures)


# How a worker process is started

_starting = threading.Lock()


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
            try:
                super().start()
            finally:
                if sys.platform != "win32":
                    signal.pthread_sigmask(signal.SIG_SETMASK, masked)
                sys.modules["__main__"] = script


class _WorkerContext(SpawnContext):
    Process = _Worker
