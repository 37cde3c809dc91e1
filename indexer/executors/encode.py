"""Encodes decoded contents, with one batch of inputs for each tower."""

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
    """Return for each content its segments with their vectors, or a failure.

    All inputs of one tower are encoded together. If that raises an error, contents are encoded one by one, so that only
    the faulty one fails. If a later part of a content fails, an empty part with the failure and the start of the next
    part is returned, so that earlier parts stay.
    """
    contents = [content for _, content in decoded]
    try:
        vectors = _encode(profile, contents)
    except (MMSearchError, MemoryError):
        raise  # the tower can't be loaded, which is not the fault of a content
    except Exception as error:
        if len(decoded) == 1:
            return [_failed(*decoded[0], f"can't be encoded: {one_line(error)}")]
        return [outcome for content in decoded for outcome in encode(profile, [content])]
    return [_outcome(task, content, rows) for (task, content), rows in zip(decoded, vectors, strict=True)]


def _encode(profile: Profile, contents: Sequence[PreparedContent]) -> list[list[SegmentVectors]]:
    vectors: list[list[dict[tuple[str, View], NDArray[np.float32]]]] = [[{} for _ in c.segments] for c in contents]
    for space in profile.spaces:
        for view in space.front_ends:
            positions: list[tuple[int, int, int]] = []  # content, segment, first input
            inputs: list[Prepared] = []
            for i, content in enumerate(contents):
                for j, segment in enumerate(content.segments):
                    if prepared := segment.views.get(view, {}).get(space.name):
                        positions.append((i, j, len(inputs)))
                        inputs += prepared
            if not inputs:
                continue
            # Most views have a single input. A shot's vector is the normalised mean over its frames; a subtitled
            # moment's text vector that over its lines.
            sums = np.add.reduceat(space.encode(view, inputs), [first for _, _, first in positions], axis=0)
            for (i, j, _), vector in zip(positions, normalise(sums), strict=True):
                vectors[i][j][space.name, view] = vector
    return [list(segments) for segments in vectors]


def _outcome(task: Task, content: PreparedContent, vectors: Sequence[SegmentVectors]) -> Outcome:
    # A zero vector has no direction, so its cosine with any other is undefined.
    if not all(np.isfinite(vector).all() and vector.any() for segment in vectors for vector in segment.values()):
        return _failed(task, content, "the tower gives no finite vector for it")
    segments = tuple(segment.with_views(views) for segment, views in zip(content.segments, vectors, strict=True))
    return task, EncodedContent(content.modality, segments, content.failures, content.resume_s, content.facts)


def _failed(task: Task, content: PreparedContent, reason: str) -> Outcome:
    failure = Failure(Path(os.fsdecode(task.entry.path)), Stage.ENCODE, reason)
    if not task.from_s:
        return task, failure
    return task, EncodedContent(content.modality, (), (*content.failures, failure), content.resume_s)
