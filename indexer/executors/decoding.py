"""Decodes tasks in the processes of a sandbox and returns their contents in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from indexer.executors.file_costs import FileCosts
from indexer.plan import Task
from mmsearch.errors import MediaError, ReadError
from mmsearch.sandbox.keeper import Job, Needs
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.work import FrontEnds, PreparedContent, Request
from mmsearch.settings import Settings
from mmsearch.spaces import decoding_needs
from mmsearch.types import Failure, Stage

_TASKS_PER_WORKER = 4
"""Tasks in flight for each worker."""

Result: TypeAlias = tuple[Task, PreparedContent | Failure]


class Decoding:
    """Decodes tasks in worker processes, with a limited number of tasks in flight.

    The parts of a long content come in order, interleaved with others. Once `stopped` returns True, no further part is
    begun, but those in flight are finished. Raises `SandboxError` if no process can be kept alive.
    """

    def __init__(self, front_ends: FrontEnds, settings: Settings, stopped: Callable[[], bool]) -> None:
        decoding_needs(front_ends.values())  # so that a damaged tokenizer fails here and not in every worker
        self._needs = Needs.of(front_ends, settings.limits)
        self._sandbox = Sandbox(settings.workers, settings.limits)
        self._max_tasks = settings.workers * _TASKS_PER_WORKER
        self._stopped = stopped
        self._costs = FileCosts(settings.limits)
        self._waiting: deque[tuple[Task, Future[PreparedContent]]] = deque()

    def submit(self, task: Task) -> None:
        """Begin a task. Consume `due` before the next one."""
        job = Job(request_of(task), self._needs, self._needs.limits.decode_s)
        self._waiting.append((task, self._sandbox.submit(job)))

    def due(self) -> Iterator[Result]:
        """Yield decoded contents; if there is no room for another task, wait for some first."""
        while self._waiting and (len(self._waiting) >= self._max_tasks or self._waiting[0][1].done()):
            yield self._finish()

    def drain(self) -> Iterator[Result]:
        """Yield the results of all tasks."""
        while self._waiting:
            yield self._finish()

    def close(self) -> None:
        """End the processes. Unfinished tasks are dropped."""
        self._sandbox.close()

    def _finish(self) -> Result:
        """Wait for the first task and return its result."""
        task, future = self._waiting.popleft()
        result = decoded(task, lambda: self._sandbox.take(future), self._costs)
        if (following := next_part(task, result)) and not self._stopped():
            self.submit(following)
        return task, result


def decode_all(
    tasks: Iterable[Task], front_ends: FrontEnds, settings: Settings, stopped: Callable[[], bool]
) -> Generator[Result, None, None]:
    """Decode tasks and yield their results in order. Once `stopped` returns True, no further task is begun."""
    with closing(Decoding(front_ends, settings, stopped)) as decoding:
        for task in tasks:
            decoding.submit(task)
            yield from decoding.due()
            if stopped():
                break
        yield from decoding.drain()


def request_of(task: Task) -> Request:
    """Return a worker's request for a task."""
    entry = task.entry
    return Request(entry.path, entry.sidecars, task.from_s, stamp=(entry.size_bytes, entry.mtime_ns))


def decoded(task: Task, decode: Callable[[], PreparedContent], costs: FileCosts) -> PreparedContent | Failure:
    """Decode a task; return its content or a failure.

    If a later part of a content fails, an empty last part with the failure is returned, so that earlier parts stay.
    """
    try:
        content = decode()
    except MediaError as error:
        stage = Stage.READ if isinstance(error, ReadError) else Stage.DECODE
        failure = Failure(Path(os.fsdecode(task.entry.path)), stage, str(error))
        if stage is Stage.READ or task.modality is None:
            return failure
        content = PreparedContent(task.modality, (), (failure,))
    return costs.add(task, content)


def next_part(task: Task, result: PreparedContent | Failure) -> Task | None:
    """Return the task of decoding the next part of a content, None if this was the last one."""
    if isinstance(result, Failure) or result.resume_s is None:
        return None
    return replace(task, from_s=result.resume_s, modality=result.modality)
