"""Decoded contents → vectors, in batches that are homogeneous for each tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import MMSearchError, one_line
from mmsearch.sandbox.work import PreparedContent
from mmsearch.spaces import Prepared, Profile, normalise
from mmsearch.types import View

SegmentVectors = Mapping[tuple[str, View], NDArray[np.float32]]
"""One vector, (dim,) float32, for each (space name, view) of a segment."""


def encode(profile: Profile, contents: Sequence[PreparedContent]) -> list[list[SegmentVectors] | str]:
    """Return for each content the vectors of its segments, or in one line why it can't be encoded.

    All inputs of one tower go through it together; where that fails, content by content, so that one spoils no other.
    """
    try:
        return list(_encode(profile, contents))
    except (MMSearchError, MemoryError):
        raise  # a tower that can't be loaded is no content's fault
    except Exception as error:
        if len(contents) == 1:
            return [f"can't be encoded: {one_line(error)}"]
        return [outcome for content in contents for outcome in encode(profile, [content])]


def _encode(profile: Profile, contents: Sequence[PreparedContent]) -> list[list[SegmentVectors] | str]:
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
    return [_checked(segments) for segments in vectors]


def _checked(segments: list[dict[tuple[str, View], NDArray[np.float32]]]) -> list[SegmentVectors] | str:
    # What is all zeros after it was normalised has no direction, and so no cosine with anything.
    if all(np.isfinite(vector).all() and vector.any() for segment in segments for vector in segment.values()):
        return list(segments)
    return "the tower gives no finite vector for it"
