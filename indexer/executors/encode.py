"""Decoded contents → vectors, in batches that are homogeneous for each tower."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from indexer.executors.base import EncodedContent, Outcome, SegmentVectors
from indexer.plan import Task
from mmsearch.errors import MMSearchError, one_line
from mmsearch.sandbox.work import PreparedContent
from mmsearch.spaces import Prepared, Profile, normalise
from mmsearch.types import Failure, Stage, View

Decoded: TypeAlias = tuple[Task, PreparedContent]


def encode(profile: Profile, decoded: Sequence[Decoded]) -> list[Outcome]:
    """Return for each content its segments with their vectors, or why it can't be encoded.

    All inputs of one tower go through it together; where that fails, content by content, so that one spoils no other.
    Of a part that isn't the first, the failure alone is returned with the place where the next part begins: what came
    before it is kept.
    """
    contents = [content for _, content in decoded]
    try:
        vectors = _encode(profile, contents)
    except (MMSearchError, MemoryError):
        raise  # a tower that can't be loaded is no content's fault
    except Exception as error:
        if len(decoded) == 1:
            return [_failed(*decoded[0], f"can't be encoded: {one_line(error)}")]
        return [outcome for one in decoded for outcome in encode(profile, [one])]
    return [_outcome(task, content, own) for (task, content), own in zip(decoded, vectors, strict=True)]


def _encode(profile: Profile, contents: Sequence[PreparedContent]) -> list[list[SegmentVectors]]:
    vectors: list[list[dict[tuple[str, View], NDArray[np.float32]]]] = [[{} for _ in c.segments] for c in contents]
    for space in profile.spaces:
        for view in space.front_ends:
            where: list[tuple[int, int, int]] = []
            inputs: list[Prepared] = []
            for i, content in enumerate(contents):
                for j, segment in enumerate(content.segments):
                    if prepared := segment.views.get(view, {}).get(space.name):
                        where.append((i, j, len(inputs)))
                        inputs += prepared
            if not inputs:
                continue
            # A shot is the normalised mean of its frames, a moment that of its lines; most views have but one input.
            sums = np.add.reduceat(space.encode(view, inputs), [first for _, _, first in where], axis=0)
            for (i, j, _), vector in zip(where, normalise(sums), strict=True):
                vectors[i][j][space.name, view] = vector
    return [list(segments) for segments in vectors]


def _outcome(task: Task, content: PreparedContent, vectors: Sequence[SegmentVectors]) -> Outcome:
    # What is all zeros after it was normalised has no direction, and so no cosine with anything.
    if not all(np.isfinite(vector).all() and vector.any() for segment in vectors for vector in segment.values()):
        return _failed(task, content, "the tower gives no finite vector for it")
    segments = tuple(segment.with_views(own) for segment, own in zip(content.segments, vectors, strict=True))
    return task, EncodedContent(content.modality, segments, content.failures, content.resume_s, content.facts)


def _failed(task: Task, content: PreparedContent, reason: str) -> Outcome:
    failure = Failure(Path(os.fsdecode(task.entry.path)), Stage.ENCODE, reason)
    if not task.from_s:
        return task, failure
    return task, EncodedContent(content.modality, (), (*content.failures, failure), content.resume_s)
