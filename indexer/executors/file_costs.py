"""Limits the cost of a long file: beyond a number of segments or a decoding time, the rest isn't read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from indexer.plan import Task
from mmsearch.sandbox.work import PreparedContent
from mmsearch.settings import Limits
from mmsearch.types import Failure, Stage


@dataclass(slots=True)
class FileCosts:
    """Adds up the segments and the decoding time of each content's parts during a run."""

    limits: Limits
    _parts: dict[bytes, tuple[int, float]] = field(default_factory=dict)

    def add(self, task: Task, content: PreparedContent) -> PreparedContent:
        """Count a part and return it. Beyond a limit, it becomes the last part, with a failure that says why."""
        segments, seconds = self._parts.pop(task.hash, (0, 0.0))
        segments, seconds = segments + len(content.segments), seconds + content.seconds
        if content.resume_s is None:
            return content
        max_segments = self.limits.most_segments(task.entry.size_bytes)
        if segments < max_segments and seconds < self.limits.file_s:
            self._parts[task.hash] = segments, seconds
            return content
        cost = f"{segments:,} segments" if segments >= max_segments else f"{seconds / 60:,.0f} minutes of decoding"
        reason = f"only its first {_length(content.resume_s)} are indexed: they took {cost}; split or convert it"
        failure = Failure(Path(os.fsdecode(task.entry.path)), Stage.DECODE, reason)
        return replace(content, resume_s=None, failures=(*content.failures, failure))


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
