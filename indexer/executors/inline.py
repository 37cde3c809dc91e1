"""An executor that needs no other process, for tests and for small runs over trusted files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from indexer.executors.base import Model, Outcome
from indexer.executors.decoding import decoded, next_part, request_of
from indexer.executors.encode import encode
from indexer.executors.file_costs import FileCosts
from indexer.plan import Task
from mmsearch.errors import MediaError
from mmsearch.sandbox.work import PreparedContent, Work, undecodable
from mmsearch.settings import Settings
from mmsearch.spaces import Profile


class InlineExecutor:
    """Decodes and encodes contents one by one in this process. A hostile file can crash it or exhaust its memory."""

    def __init__(self, model: Model, settings: Settings, stopped: Callable[[], bool]) -> None:
        self._model = model
        self._limits = settings.limits
        self._stopped = stopped
        self._tasks: deque[Task] = deque()
        self._costs = FileCosts(settings.limits)
        self._ready: tuple[Work, Profile] | None = None

    @property
    def bound(self) -> str:
        """Always "decode": this executor doesn't measure its steps."""
        return "decode"

    def submit(self, task: Task) -> None:
        """Add a task."""
        self._tasks.append(task)

    def batches(self) -> Iterator[Sequence[Outcome]]:
        """Yield the outcomes of the tasks, each part of a content by itself."""
        while self._tasks:
            if self._ready is None:
                self._ready = Work(self._model.profile.front_ends, self._limits), self._model.for_encoding()
            work, profile = self._ready
            task = self._tasks.popleft()
            result = decoded(task, partial(_prepare, work, task), self._costs)
            if (following := next_part(task, result)) and not self._stopped():
                self._tasks.append(following)
            yield encode(profile, [(task, result)]) if isinstance(result, PreparedContent) else [(task, result)]

    def drain(self) -> Iterator[Sequence[Outcome]]:
        """Yield the outcomes of all submitted tasks."""
        yield from self.batches()

    def close(self) -> None:
        """Do nothing: there are no processes to end."""


def _prepare(work: Work, task: Task) -> PreparedContent:
    """Decode a task. Raises `MediaError` for any error of a decoder."""
    try:
        return work.prepare(request_of(task))
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(undecodable(error)) from error
