"""Tasks → decoded contents, in order, from the processes of a sandbox."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from indexer.plan import Task
from indexer.spent import Spent
from mmsearch.errors import MediaError, ReadError
from mmsearch.sandbox.keeper import Job, Needs
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.work import FrontEnds, PreparedContent, Request
from mmsearch.settings import Settings
from mmsearch.spaces import decoding_needs
from mmsearch.types import Failure, Stage

_AHEAD = 4
"""Tasks in flight for each worker."""

Outcome = tuple[Task, PreparedContent | Failure]


def decode_all(
    tasks: Iterable[Task],
    front_ends: FrontEnds,
    settings: Settings,
    stopped: Callable[[], bool],
) -> Generator[Outcome, None, None]:
    """Decode tasks in worker processes and yield what became of each, in order, with a bounded look-ahead.

    A long content is yielded in parts, in their order, with those of others in between. When `stopped` says so, no
    further task or part begins, and those under way are still yielded. Raises `SandboxError` where
    no process can be kept alive, which is no file's fault.
    """
    decoding_needs(front_ends.values())  # a damaged tokenizer is said here, and not by every worker
    sandbox = Sandbox(settings.workers, settings.limits)
    decoding = _Decoding(sandbox, Needs.of(front_ends, settings.limits), stopped)
    try:
        for task in tasks:
            decoding.begin(task)
            while decoding.waiting and (len(decoding.waiting) >= settings.workers * _AHEAD or decoding.is_ready()):
                yield decoding.finish()
            if stopped():
                break
        while decoding.waiting:
            yield decoding.finish()
    finally:
        sandbox.close()


@dataclass(slots=True)
class _Decoding:
    """The tasks under way, in order."""

    sandbox: Sandbox
    needs: Needs
    stopped: Callable[[], bool]
    waiting: deque[tuple[Task, Future[PreparedContent]]] = field(default_factory=deque)
    spent: Spent = field(init=False)

    def __post_init__(self) -> None:
        self.spent = Spent(self.needs.limits)

    def is_ready(self) -> bool:
        return self.waiting[0][1].done()

    def begin(self, task: Task) -> None:
        entry = task.entry
        request = Request(entry.path, entry.sidecars, task.from_s, stamp=(entry.size_bytes, entry.mtime_ns))
        job = Job(request, self.needs, self.needs.limits.decode_s)
        self.waiting.append((task, self.sandbox.submit(job)))

    def finish(self) -> Outcome:
        """Wait for the first task and return what became of it."""
        task, future = self.waiting.popleft()
        outcome = self._outcome(task, future)
        if isinstance(outcome, Failure) and outcome.stage is Stage.DECODE and task.modality is not None:
            outcome = PreparedContent(task.modality, (), (outcome,))  # what came before it is kept, and is all
        if isinstance(outcome, PreparedContent):
            outcome = self.spent.add(task, outcome)
            if outcome.resume_s is not None and not self.stopped():
                self.begin(replace(task, from_s=outcome.resume_s, modality=outcome.modality))
        return task, outcome

    def _outcome(self, task: Task, future: Future[PreparedContent]) -> PreparedContent | Failure:
        try:
            return self.sandbox.take(future)
        except MediaError as error:
            stage = Stage.READ if isinstance(error, ReadError) else Stage.DECODE
            return Failure(Path(os.fsdecode(task.entry.path)), stage, str(error))
