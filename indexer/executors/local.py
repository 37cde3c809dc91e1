"""The executor of index runs: worker processes decode, and this process encodes, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from indexer.executors.base import Model, Outcome
from indexer.executors.decoding import Decoding, Result
from indexer.executors.encode import encode
from indexer.plan import Task
from mmsearch.sandbox.work import PreparedContent
from mmsearch.settings import Settings
from mmsearch.spaces import Profile
from mmsearch.types import Failure

_BATCH_SEGMENTS = 4_096
_BATCH_BYTES = 16 * 2**20
"""A batch ends with the content that brings it here: this bounds what a kill loses, and what memory holds."""


class LocalExecutor:
    """Decodes in a sandbox and encodes in this process."""

    def __init__(self, model: Model, settings: Settings, stopped: Callable[[], bool]) -> None:
        self._model = model
        self._settings = settings
        self._stopped = stopped
        self._decoding: Decoding | None = None
        self._encoding: Profile | None = None
        self._batch = _Batch(settings.batch)
        self._decode_s = 0.0
        self._encode_s = 0.0

    @property
    def bound(self) -> str:
        """What it waits for most: "decode" or "encode"."""
        return "decode" if self._decode_s > self._encode_s else "encode"

    def submit(self, task: Task) -> None:
        """Take a task; the first one starts the workers and readies the towers meanwhile."""
        if self._decoding is None:
            self._decoding = Decoding(self._model.profile.front_ends, self._settings, self._stopped)
        self._decoding.submit(task)
        if self._encoding is None:
            self._encoding = self._model.for_encoding()

    def batches(self) -> Iterator[Sequence[Outcome]]:
        """Yield what has become of tasks: what is ready, and what has to be waited for before there is room again."""
        if self._decoding is not None:
            yield from self._encoded(self._decoding.due())

    def drain(self) -> Iterator[Sequence[Outcome]]:
        """Yield what becomes of all tasks that were submitted."""
        if self._decoding is not None:
            yield from self._encoded(self._decoding.drain())
            if self._batch.results:
                yield self._encode()

    def close(self) -> None:
        """End the workers. What wasn't yielded is lost."""
        if self._decoding is not None:
            self._decoding.close()

    def _encoded(self, results: Iterable[Result]) -> Iterator[Sequence[Outcome]]:
        """Encode what was decoded, a batch at a time; the time that its reader takes to write it counts as encoding."""
        began = time.monotonic()
        for result in results:
            self._batch.add(result)
            if self._batch.is_full:
                decoded = time.monotonic()
                self._decode_s += decoded - began
                yield self._encode()
                began = time.monotonic()
                self._encode_s += began - decoded
        self._decode_s += time.monotonic() - began

    def _encode(self) -> Sequence[Outcome]:
        """Encode the batch, and begin the next one."""
        assert self._encoding is not None
        batch, self._batch = self._batch.results, _Batch(self._settings.batch)
        failed: list[Outcome] = [(task, result) for task, result in batch if isinstance(result, Failure)]
        decoded = [(task, result) for task, result in batch if isinstance(result, PreparedContent)]
        return [*failed, *encode(self._encoding, decoded)]


class _Batch:
    """What is to be encoded together: so many contents, or fewer where they are large or a part of a long one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.results: list[Result] = []
        self._segments, self._bytes, self._in_part = 0, 0, False

    def add(self, result: Result) -> None:
        self.results.append(result)
        content = result[1]
        if isinstance(content, PreparedContent):
            self._segments += len(content.segments)
            self._bytes += content.bytes
            self._in_part |= content.resume_s is not None  # what is decoded of a long file isn't decoded again

    @property
    def is_full(self) -> bool:
        full = len(self.results) >= self._most or self._segments >= _BATCH_SEGMENTS
        return full or self._bytes >= _BATCH_BYTES or self._in_part
