"""Tasks → decoded contents, in order, from the processes of a sandbox."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from indexer.executors.spent import Spent
from indexer.plan import Task
from mmsearch.errors import MediaError, ReadError
from mmsearch.sandbox.keeper import Job, Needs
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.work import FrontEnds, PreparedContent, Request
from mmsearch.settings import Settings
from mmsearch.spaces import decoding_needs
from mmsearch.types import Failure, Stage

_AHEAD = 4
"""Tasks in flight for each worker."""

Result: TypeAlias = tuple[Task, PreparedContent | Failure]


class Decoding:
    """Decodes tasks in worker processes, with a bounded look-ahead.

    A long content comes in parts, in their order, with those of others in between. When `stopped` says so, no further
    part begins, and those under way still come. Raises `SandboxError` where no process can be kept alive.
    """

    def __init__(self, front_ends: FrontEnds, settings: Settings, stopped: Callable[[], bool]) -> None:
        decoding_needs(front_ends.values())  # a damaged tokenizer is an error here, and not in every worker
        self._needs = Needs.of(front_ends, settings.limits)
        self._sandbox = Sandbox(settings.workers, settings.limits)
        self._most = settings.workers * _AHEAD
        self._stopped = stopped
        self._spent = Spent(settings.limits)
        self._waiting: deque[tuple[Task, Future[PreparedContent]]] = deque()

    def submit(self, task: Task) -> None:
        """Begin a task. Take what is `due` before the next one."""
        job = Job(request_of(task), self._needs, self._needs.limits.decode_s)
        self._waiting.append((task, self._sandbox.submit(job)))

    def due(self) -> Iterator[Result]:
        """Yield what is decoded, and what has to be waited for before there is room for another task."""
        while self._waiting and (len(self._waiting) >= self._most or self._waiting[0][1].done()):
            yield self._finish()

    def drain(self) -> Iterator[Result]:
        """Yield what becomes of all tasks."""
        while self._waiting:
            yield self._finish()

    def close(self) -> None:
        """End the processes; what isn't decoded yet is given up."""
        self._sandbox.close()

    def _finish(self) -> Result:
        """Wait for the first task and return what became of it."""
        task, future = self._waiting.popleft()
        result = decoded(task, lambda: self._sandbox.take(future), self._spent)
        if (following := next_part(task, result)) and not self._stopped():
            self.submit(following)
        return task, result


def decode_all(
    tasks: Iterable[Task], front_ends: FrontEnds, settings: Settings, stopped: Callable[[], bool]
) -> Generator[Result, None, None]:
    """Decode tasks and yield what became of each, in order; when `stopped` says so, no further one begins."""
    with closing(Decoding(front_ends, settings, stopped)) as decoding:
        for task in tasks:
            decoding.submit(task)
            yield from decoding.due()
            if stopped():
                break
        yield from decoding.drain()


def request_of(task: Task) -> Request:
    """Return what a worker is asked to do for a task."""
    entry = task.entry
    return Request(entry.path, entry.sidecars, task.from_s, stamp=(entry.size_bytes, entry.mtime_ns))


def decoded(task: Task, decode: Callable[[], PreparedContent], spent: Spent) -> PreparedContent | Failure:
    """Decode a task; return its content or why there is none. A part that fails after others is an empty last one."""
    try:
        content = decode()
    except MediaError as error:
        stage = Stage.READ if isinstance(error, ReadError) else Stage.DECODE
        failure = Failure(Path(os.fsdecode(task.entry.path)), stage, str(error))
        if stage is Stage.READ or task.modality is None:
            return failure
        content = PreparedContent(task.modality, (), (failure,))
    return spent.add(task, content)


def next_part(task: Task, result: PreparedContent | Failure) -> Task | None:
    """Return the task of decoding the part that comes after this one, None where it was the last."""
    if isinstance(result, Failure) or result.resume_s is None:
        return None
    return replace(task, from_s=result.resume_s, modality=result.modality)
