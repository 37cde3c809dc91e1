"""Where a video changes: frames seen small, one after the other → shots of 2 to 10 s."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MIN_SHOT_S = 2.0
MAX_SHOT_S = 10.0
THUMB = (32, 18)
"""Width and height of what a frame is judged by, in pixels."""
_HARD = 0.10
"""Mean difference of two frames, in parts of the range, from which the second may begin another shot."""
_MOTION = 3.0
"""By how much a change must exceed what this shot's own motion makes from frame to frame."""
_DRIFT = 0.18
"""Difference from the shot's first frame, over blocks of pixels, at which a dissolve or pan shows another view."""
_MOTION_WEIGHT = 0.2
STANDS_S = 600.0
"""A frame that stands still for longer than this is no news, or a broken time stamp: no shot shows it any more."""

Thumb = NDArray[np.uint8]


@dataclass(slots=True)
class ShotCutter:
    """Cuts a video into shots while it is read.

    A cut ends a shot at once. A dissolve, a pan or the greatest length end it only if no cut follows within the least
    length of a shot: the cut is the better border. What is said of a shot depends on the frames from its start on and
    on nothing else, so that reading may stop after any shot and go on later, from its end, with the same result.
    """

    start_s: float
    _first: NDArray[np.float32] | None = None
    _last: NDArray[np.float32] | None = None
    _motion: float = 0.0
    _seen_s: float = 0.0
    _border_s: float | None = None
    _beyond: list[tuple[float, Thumb, float | None]] = field(default_factory=list)
    """The frames since the border that isn't certain yet."""

    def see(self, time_s: float, thumb: Thumb, changed_s: float | None = None) -> list[tuple[float, float]]:
        """Take the next frame, (18, 32, 3); return the shots, (start_s, end_s), that are known to have ended.

        `changed_s` is when a change between the last frame and this one is taken to have happened; else at this one.
        """
        before_s, self._seen_s = max(self._seen_s, self.start_s), time_s
        at = time_s if changed_s is None else changed_s
        if time_s - before_s > STANDS_S:
            shown = before_s - self.start_s >= MIN_SHOT_S
            shots = self._end(before_s if shown else before_s + MAX_SHOT_S)
            self._begin(time_s, thumb)
            return shots
        cut, drifted = self._compare(thumb)
        if cut:
            shots = self._end(at) if at - self.start_s >= MIN_SHOT_S else []
            self._begin(at if shots else self.start_s, thumb)
            return shots
        if self._border_s is None:
            if drifted and at - self.start_s >= MIN_SHOT_S:
                self._border_s = min(at, self.start_s + MAX_SHOT_S)
            elif time_s - self.start_s >= MAX_SHOT_S:
                self._border_s = self.start_s + MAX_SHOT_S
        if self._border_s is None:
            return []
        self._beyond.append((time_s, thumb, changed_s))
        return self._pass_border() if time_s - self._border_s >= MIN_SHOT_S else []

    def stand(self, until_s: float) -> list[tuple[float, float]]:
        """Return the shots that have ended if the last frame still stands at a time."""
        shots: list[tuple[float, float]] = []
        while until_s - self.start_s >= MAX_SHOT_S + MIN_SHOT_S:
            shots.append((self.start_s, self.start_s + MAX_SHOT_S))
            self.start_s += MAX_SHOT_S
        return shots

    def finish(self, end_s: float) -> list[tuple[float, float]]:
        """Return the shots that are left when the video ends."""
        shots = self._end(end_s)
        self.start_s = end_s
        return shots

    def _end(self, at: float) -> list[tuple[float, float]]:
        """End the shot here; what is over the limit becomes two of equal length, or as many as it takes."""
        shots = self.stand(at)
        if at - self.start_s > MAX_SHOT_S:
            middle = (self.start_s + at) / 2
            return [*shots, (self.start_s, middle), (middle, at)]
        return [*shots, (self.start_s, at)] if at > self.start_s else shots

    def _pass_border(self) -> list[tuple[float, float]]:
        """End the shot at its uncertain border, and look again at what came after."""
        assert self._border_s is not None
        shots, again = [(self.start_s, self._border_s)], self._beyond
        self._begin(self._border_s, None)
        for frame_s, thumb, changed_s in again:
            shots += self.see(frame_s, thumb, changed_s)
        return shots

    def _begin(self, start_s: float, thumb: Thumb | None) -> None:
        self.start_s, self._motion, self._seen_s = start_s, 0.0, start_s
        self._border_s, self._beyond = None, []
        self._first = self._last = None
        if thumb is not None:
            self._compare(thumb)

    def _compare(self, thumb: Thumb) -> tuple[bool, bool]:
        """Return whether this frame is another view than the last one, and than the first one; and remember it."""
        frame = np.asarray(thumb, np.float32) / np.float32(255)
        coarse = np.asarray(frame.reshape(THUMB[1] // 3, 3, THUMB[0] // 4, 4, 3).mean(axis=(1, 3)), np.float32)
        if self._first is None or self._last is None:
            self._first, self._last = coarse, frame
            return False, False
        step = float(np.abs(frame - self._last).mean())
        cut = step > max(_HARD, _MOTION * self._motion)
        self._motion += _MOTION_WEIGHT * (step - self._motion)
        self._last = frame
        return cut, float(np.abs(coarse - self._first).mean()) > _DRIFT
