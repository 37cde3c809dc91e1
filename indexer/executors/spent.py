"""What a long file has cost so far: one that takes too much is read no further."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from indexer.plan import Task
from mmsearch.sandbox.work import PreparedContent
from mmsearch.settings import Limits
from mmsearch.types import Failure, Stage


@dataclass(slots=True)
class Spent:
    """Adds up the segments and the time of each content's parts, over one run."""

    limits: Limits
    _parts: dict[bytes, tuple[int, float]] = field(default_factory=dict)

    def add(self, task: Task, content: PreparedContent) -> PreparedContent:
        """Count a part; return it as the last one, with a failure that says how far it reaches, beyond a limit."""
        segments, seconds = self._parts.pop(task.hash, (0, 0.0))
        segments, seconds = segments + len(content.segments), seconds + content.seconds
        if content.resume_s is None:
            return content
        most = self.limits.most_segments(task.entry.size_bytes)
        if segments < most and seconds < self.limits.file_s:
            self._parts[task.hash] = segments, seconds
            return content
        cost = f"{segments:,} segments" if segments >= most else f"{seconds / 60:,.0f} minutes of decoding"
        reason = f"only its first {_length(content.resume_s)} are indexed: they took {cost}; split or convert it"
        failure = Failure(Path(os.fsdecode(task.entry.path)), Stage.DECODE, reason)
        return replace(content, resume_s=None, failures=(*content.failures, failure))


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
