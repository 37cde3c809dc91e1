"""What an executor is: tasks go in, and vectors or failures come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from indexer.plan import Task
from mmsearch.records import FileFacts, Segment
from mmsearch.settings import Settings
from mmsearch.spaces import Profile
from mmsearch.types import Failure, Modality, View

SegmentVectors: TypeAlias = Mapping[tuple[str, View], NDArray[np.float32]]
"""One vector, (dim,) float32, for each (space name, view) of a segment."""


@dataclass(frozen=True, slots=True)
class EncodedContent:
    """A content, or a part of one, with the vectors of its segments: what is written to the catalog.

    `failures` are of parts of it. `resume_s` is where the next part begins, None where this is the last one. `facts`
    come with the first part.
    """

    modality: Modality
    segments: tuple[Segment[SegmentVectors], ...]
    failures: tuple[Failure, ...] = ()
    resume_s: float | None = None
    facts: FileFacts | None = None


Outcome: TypeAlias = tuple[Task, EncodedContent | Failure]


def is_whole(result: EncodedContent | Failure) -> bool:
    """Return whether nothing more comes of a content."""
    return isinstance(result, Failure) or result.resume_s is None


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a run. `for_encoding` readies its towers, on the device and in the precision of the run.

    It is called once, when there is something to encode, and may take seconds.
    """

    profile: Profile
    for_encoding: Callable[[], Profile]


class Executor(Protocol):
    """Decodes and encodes tasks, in their order. A long content comes in parts, in order, with others in between.

    One thread calls it. Nothing is started before the first task. Outcomes come in batches, to be committed together:
    a run that is killed loses the one that it was about to commit. Raises `SandboxError` where nothing can be decoded,
    and `ModelError` where the towers can't be loaded: neither is a file's fault.
    """

    @property
    def bound(self) -> str:
        """What it waits for most: "decode" or "encode"."""

    def submit(self, task: Task) -> None:
        """Take a task. Call `batches` before the next one."""

    def batches(self) -> Iterator[Sequence[Outcome]]:
        """Yield what has become of tasks: what is ready, and what has to be waited for before there is room again."""

    def drain(self) -> Iterator[Sequence[Outcome]]:
        """Yield what becomes of all tasks that were submitted."""

    def close(self) -> None:
        """End every process. What wasn't yielded is lost."""


MakeExecutor: TypeAlias = Callable[[Model, Settings, Callable[[], bool]], Executor]
"""Makes an executor for a model. When the last argument says that the run was stopped, no further part of a long
content begins."""
