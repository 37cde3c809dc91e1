"""Decoding in worker processes: a file that crashes, hangs or eats memory costs itself and nothing else."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

from pebble import ProcessExpired

from indexer.plan import Task
from indexer.spent import Spent
from indexer.workers import Crew, FrontEnds, PreparedContent
from mmsearch.errors import MediaError, MMSearchError, ReadError, one_line
from mmsearch.settings import Limits, Settings
from mmsearch.types import Failure, Stage

_AHEAD = 4
"""Tasks in flight for each worker."""
_KILLED = -9
_BREAKS = 3
"""How often in a row, without any result, the pool may break before the run gives up."""

Outcome = tuple[Task, PreparedContent | Failure]


def decode_all(
    tasks: Iterable[Task],
    front_ends: FrontEnds,
    settings: Settings,
    stopped: Callable[[], bool],
) -> Generator[Outcome, None, None]:
    """Decode tasks in worker processes and yield what became of each, in order, with a bounded look-ahead.

    A long content is yielded in parts, in their order, with those of others in between. When `stopped` says so, no
    further task or part begins, and those under way are still yielded. Raises `MMSearchError` where
    no process can be kept alive, which is no file's fault.
    """
    decoding = _Decoding(Crew(front_ends, settings), settings.limits, stopped)
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
        decoding.crew.stop()


@dataclass(slots=True)
class _Decoding:
    """The tasks under way, in order; a broken pool is replaced and its tasks are begun again."""

    crew: Crew
    limits: Limits
    stopped: Callable[[], bool]
    waiting: deque[tuple[Task, Future[PreparedContent]]] = field(default_factory=deque)
    breaks: int = 0
    killed: set[bytes] = field(default_factory=set)
    spent: Spent = field(init=False)

    def __post_init__(self) -> None:
        self.spent = Spent(self.limits)

    def is_ready(self) -> bool:
        return self.waiting[0][1].done()

    def begin(self, task: Task) -> None:
        try:
            self.waiting.append((task, self.crew.submit(task)))
        except BrokenProcessPool as error:
            self._recover([*(waiting for waiting, _ in self.waiting), task], error)

    def finish(self) -> Outcome:
        """Wait for the first task and return what became of it."""
        while True:
            task, future = self.waiting[0]
            try:
                outcome = self._outcome(task, future)
            except BrokenProcessPool as error:
                self._recover([waiting for waiting, _ in self.waiting], error)
                continue
            self.waiting.popleft()
            self.breaks = 0
            if outcome is None:
                self._begin_again(task)
                continue
            if isinstance(outcome, Failure) and outcome.stage is Stage.DECODE and task.modality is not None:
                outcome = PreparedContent(task.modality, (), (outcome,))  # what came before it is kept, and is all
            if isinstance(outcome, PreparedContent):
                outcome = self.spent.add(task, outcome)
                if outcome.resume_s is not None and not self.stopped():
                    self.begin(replace(task, from_s=outcome.resume_s, modality=outcome.modality))
            return task, outcome

    def _begin_again(self, task: Task) -> None:
        try:
            self.waiting.appendleft((task, self.crew.submit(task)))
        except BrokenProcessPool as error:
            self._recover([task, *(waiting for waiting, _ in self.waiting)], error)

    def _recover(self, tasks: list[Task], error: BrokenProcessPool) -> None:
        """Start new processes and begin the tasks again. Raises `MMSearchError` where that keeps failing."""
        while True:
            self.breaks += 1
            if self.breaks >= _BREAKS:
                reason = " ".join(str(error).split()) or "they die at once"
                raise MMSearchError(
                    f"the decoding processes can't be kept alive ({reason}); free some memory, or use --workers 1"
                ) from error
            self.crew.renew()
            self.waiting.clear()
            try:
                self.waiting.extend((task, self.crew.submit(task)) for task in tasks)
            except BrokenProcessPool as again:
                error = again
            else:
                return

    def _outcome(self, task: Task, future: Future[PreparedContent]) -> PreparedContent | Failure | None:
        """Return what became of a task; None for one that was killed from outside and gets a second try."""
        try:
            return self.crew.result(future)
        except BrokenProcessPool:
            raise
        except ReadError as error:
            return Failure(Path(os.fsdecode(task.entry.path)), Stage.READ, str(error))
        except MediaError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"decoding took more than {self.limits.decode_s:.0f} s; convert or shorten the file"
        except ProcessExpired as error:
            if error.exitcode == _KILLED and task.hash not in self.killed:
                self.killed.add(task.hash)
                return None
            reason = f"the decoder crashed (exit code {error.exitcode}); the file is damaged or hostile"
            if error.exitcode == _KILLED:
                reason = "the decoder was killed twice, most likely for want of memory; free some and use --retry"
        except MemoryError:
            reason = f"decoding needs more than {self.limits.worker_bytes / 2**30:.0f} GB; save the file smaller"
        except Exception as error:  # whatever a decoder raises on a hostile file is that file's failure
            reason = f"can't be decoded: {type(error).__name__}: {one_line(error)}"
        return Failure(Path(os.fsdecode(task.entry.path)), Stage.DECODE, reason)
