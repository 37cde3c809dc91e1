"""The executor of index runs: worker processes decode, and this process encodes in batches."""

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
"""A batch ends with the content that reaches one of these limits. This bounds memory, and what a killed run loses."""


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
        """The slower of the two steps: "decode" or "encode"."""
        return "decode" if self._decode_s > self._encode_s else "encode"

    def submit(self, task: Task) -> None:
        """Add a task. The first one starts the workers, and the towers are loaded while they decode."""
        if self._decoding is None:
            self._decoding = Decoding(self._model.profile.front_ends, self._settings, self._stopped)
        self._decoding.submit(task)
        if self._encoding is None:
            self._encoding = self._model.for_encoding()

    def batches(self) -> Iterator[Sequence[Outcome]]:
        """Yield finished outcomes; if there is no room for another task, wait for some first."""
        if self._decoding is not None:
            yield from self._encoded(self._decoding.due())

    def drain(self) -> Iterator[Sequence[Outcome]]:
        """Yield the outcomes of all submitted tasks."""
        if self._decoding is not None:
            yield from self._encoded(self._decoding.drain())
            if self._batch.results:
                yield self._encode()

    def close(self) -> None:
        """End the workers. Outcomes that weren't yielded are lost."""
        if self._decoding is not None:
            self._decoding.close()

    def _encoded(self, results: Iterable[Result]) -> Iterator[Sequence[Outcome]]:
        """Encode decoded contents in batches. The time in which the caller writes a batch counts as encoding."""
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
        """Encode the current batch and begin a new one."""
        assert self._encoding is not None
        batch, self._batch = self._batch.results, _Batch(self._settings.batch)
        failed: list[Outcome] = [(task, result) for task, result in batch if isinstance(result, Failure)]
        decoded = [(task, result) for task, result in batch if isinstance(result, PreparedContent)]
        return [*failed, *encode(self._encoding, decoded)]


class _Batch:
    """Results that are encoded together: up to `max_results`, fewer if they are large or a part of a long content."""

    def __init__(self, max_results: int) -> None:
        self._max_results = max_results
        self.results: list[Result] = []
        self._segments, self._bytes, self._has_part = 0, 0, False

    def add(self, result: Result) -> None:
        self.results.append(result)
        content = result[1]
        if isinstance(content, PreparedContent):
            self._segments += len(content.segments)
            self._bytes += content.bytes
            # A part of a long content is committed at once, so that a killed run needn't decode it again.
            self._has_part |= content.resume_s is not None

    @property
    def is_full(self) -> bool:
        full = len(self.results) >= self._max_results or self._segments >= _BATCH_SEGMENTS
        return full or self._bytes >= _BATCH_BYTES or self._has_part
