"""An executor without other processes: for tests, and for small runs over files that can be trusted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from indexer.executors.base import Model, Outcome
from indexer.executors.decoding import decoded, next_part, request_of
from indexer.executors.encode import encode
from indexer.executors.spent import Spent
from indexer.plan import Task
from mmsearch.errors import MediaError
from mmsearch.sandbox.work import PreparedContent, Work, undecodable
from mmsearch.settings import Settings
from mmsearch.spaces import Profile


class InlineExecutor:
    """Decodes and encodes one content after the other in this process, which a hostile file can crash or fill."""

    def __init__(self, model: Model, settings: Settings, stopped: Callable[[], bool]) -> None:
        self._model = model
        self._limits = settings.limits
        self._stopped = stopped
        self._tasks: deque[Task] = deque()
        self._spent = Spent(settings.limits)
        self._ready: tuple[Work, Profile] | None = None

    @property
    def bound(self) -> str:
        """What it waits for most; it doesn't tell the two apart."""
        return "decode"

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._tasks.append(task)

    def batches(self) -> Iterator[Sequence[Outcome]]:
        """Yield what becomes of the tasks, each part of a content by itself."""
        while self._tasks:
            if self._ready is None:
                self._ready = Work(self._model.profile.front_ends, self._limits), self._model.for_encoding()
            work, profile = self._ready
            task = self._tasks.popleft()
            result = decoded(task, partial(_prepare, work, task), self._spent)
            if (following := next_part(task, result)) and not self._stopped():
                self._tasks.append(following)
            yield encode(profile, [(task, result)]) if isinstance(result, PreparedContent) else [(task, result)]

    def drain(self) -> Iterator[Sequence[Outcome]]:
        """Yield what becomes of all tasks that were submitted."""
        yield from self.batches()

    def close(self) -> None:
        """End nothing: it has no processes."""


def _prepare(work: Work, task: Task) -> PreparedContent:
    """Decode a task; whatever a decoder raises is its file's failure."""
    try:
        return work.prepare(request_of(task))
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(undecodable(error)) from error
