"""The protocol of an executor: it takes tasks and yields vectors or failures."""

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
    """A content, or a part of one, with the vectors of its segments, ready to be written to the catalog.

    `failures` concern parts of the content. `resume_s` is where the next part begins, None for the last one. `facts`
    come with the first part.
    """

    modality: Modality
    segments: tuple[Segment[SegmentVectors], ...]
    failures: tuple[Failure, ...] = ()
    resume_s: float | None = None
    facts: FileFacts | None = None


Outcome: TypeAlias = tuple[Task, EncodedContent | Failure]


def is_whole(result: EncodedContent | Failure) -> bool:
    """Return whether a result is the last one of its content."""
    return isinstance(result, Failure) or result.resume_s is None


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a run. `for_encoding` loads its towers on the device and in the precision of the run.

    It is called once, when the first task arrives, and may take seconds.
    """

    profile: Profile
    for_encoding: Callable[[], Profile]


class Executor(Protocol):
    """Decodes and encodes tasks in their order. The parts of a long content come in order, interleaved with others.

    One thread calls it. Nothing starts before the first task. Outcomes come in batches that are committed together, so
    a killed run loses at most one batch. Raises `SandboxError` if no process can decode, and `ModelError` if the towers
    can't be loaded: neither is the fault of a file.
    """

    @property
    def bound(self) -> str:
        """The slower of the two steps: "decode" or "encode"."""

    def submit(self, task: Task) -> None:
        """Add a task. Call `batches` before the next one."""

    def batches(self) -> Iterator[Sequence[Outcome]]:
        """Yield finished outcomes; if there is no room for another task, wait for some first."""

    def drain(self) -> Iterator[Sequence[Outcome]]:
        """Yield the outcomes of all submitted tasks."""

    def close(self) -> None:
        """End every process. Outcomes that weren't yielded are lost."""


MakeExecutor: TypeAlias = Callable[[Model, Settings, Callable[[], bool]], Executor]
"""Makes an executor for a model. The last argument returns whether the run was stopped; then no further part of a long
content is decoded."""
