"""Long stretches of a sound or clip in which nothing happens: one segment each, however long they are.

Six hours of silence take half a megabyte, and a still picture less. A segment for every few seconds of them would cost
minutes of encoding and find nothing that one doesn't find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.records import Segment
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.records import Payloads
    from mmsearch.types import Payload

LEAST_S = 120.0
"""Shorter stretches keep their segments."""
_SMALL = (64, 36)
_ALIKE = 3
"""Most that any pixel of two pictures may differ, of 255, once they are made small: what codecs do to a still one."""


@dataclass(slots=True)
class Stretch:
    """Collects segments as long as nobody hears, sees or reads anything new in them."""

    joined: Segment[Payloads] | None = None

    def goes_on(self, segments: Sequence[Segment[Payloads]]) -> bool:
        """Return whether nothing happens in segments that follow."""
        return bool(segments) and _is_uneventful(self.joined or segments[0], segments)

    def take(self, segments: Sequence[Segment[Payloads]]) -> bool:
        """Join segments that follow if nothing happens in them for long enough; return whether they were taken."""
        if not self.goes_on(segments):
            return False
        first = self.joined or segments[0]
        start_s, end_s = first.start_s or 0.0, segments[-1].end_s or 0.0
        if end_s - start_s < LEAST_S:
            return False
        views = {view: payloads[:1] for view, payloads in first.views.items()}
        self.joined = replace(first, views=views, end_s=end_s)
        return True

    def before(self, segments: Sequence[Segment[Payloads]]) -> tuple[Segment[Payloads], ...]:
        """Return the segment of the stretch, if there is one, and the segments that follow it."""
        return (*segments,) if self.joined is None else (self.joined, *segments)


def _is_uneventful(first: Segment[Payloads], segments: Sequence[Segment[Payloads]]) -> bool:
    if any(
        segment.texts
        or View.TEXT in segment.views
        or segment.views.keys() != first.views.keys()
        or (View.AUDIO in segment.views and not segment.silent)
        for segment in (first, *segments)
    ):
        return False
    pictures = [picture for segment in segments for picture in segment.views.get(View.VISUAL, ())]
    if not pictures:
        return True
    shown = _small(first.views[View.VISUAL][0])
    return all(int(np.abs(_small(picture) - shown).max()) <= _ALIKE for picture in pictures)


def _small(picture: Payload) -> NDArray[np.int16]:
    """Return an RGB picture as (36, 64, 3), each pixel the mean of those it stands for."""
    assert not isinstance(picture, str | np.ndarray)
    small = picture.reduce((max(1, picture.width // _SMALL[0]), max(1, picture.height // _SMALL[1])))
    return np.asarray(small.resize(_SMALL), np.int16)
