"""Shots: where a video is cut, and that reading may stop and go on after any of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mmsearch.media.shots import MAX_SHOT_S, MIN_SHOT_S, THUMB, ShotCutter, Thumb

Frames = list[tuple[float, Thumb]]
Shots = list[tuple[float, float]]


def view(seed: int) -> Thumb:
    """Draw a picture of some blocks; two seeds look different everywhere."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3))
    return blocks.repeat(3, axis=0).repeat(4, axis=1).astype(np.uint8)


def frames(*scenes: tuple[int, float], fps: float = 10.0) -> Frames:
    """Draw scenes, (seed, seconds), one after the other, with some noise."""
    found: Frames = []
    noise = np.random.default_rng(0)
    for seed, seconds in scenes:
        for _ in range(round(seconds * fps)):
            grain = noise.integers(-8, 9, (*THUMB[::-1], 3))
            found.append((len(found) / fps, np.clip(view(seed).astype(int) + grain, 0, 255).astype(np.uint8)))
    return found


def shots(seen: Frames, end_s: float, from_s: float = 0.0) -> Shots:
    cutter = ShotCutter(from_s)
    found = [shot for time_s, thumb in seen if time_s >= from_s for shot in cutter.see(time_s, thumb)]
    return found + cutter.finish(end_s)


def rounded(found: Shots) -> list[tuple[float, float]]:
    return [(round(start, 3), round(end, 3)) for start, end in found]


def test_a_shot_ends_where_the_picture_changes() -> None:
    assert rounded(shots(frames((1, 4), (2, 5), (3, 7)), 16)) == [(0, 4), (4, 9), (9, 16)]


def test_what_stands_still_is_cut_at_the_greatest_length() -> None:
    assert rounded(shots(frames((1, 25)), 25)) == [(0, 10), (10, 20), (20, 25)]


def test_no_sliver_is_left_between_the_greatest_length_and_a_cut_or_the_end() -> None:
    assert rounded(shots(frames((1, 11), (2, 3)), 14)) == [(0, 5.5), (5.5, 11), (11, 14)]
    assert rounded(shots(frames((1, 21)), 21)) == [(0, 10), (10, 15.5), (15.5, 21)]


def test_flashes_make_no_shots() -> None:
    found = shots(frames((1, 3), (2, 0.2), (1, 3), (3, 0.5), (4, 0.5), (5, 4)), 11.2)
    assert all(MIN_SHOT_S <= end - start <= MAX_SHOT_S for start, end in found)


def test_a_dissolve_ends_a_shot() -> None:
    first, second = view(1).astype(float), view(2).astype(float)
    seen = [(n / 10, (first + (second - first) * np.clip((n - 40) / 20, 0, 1)).astype(np.uint8)) for n in range(90)]
    (_, border), *_ = found = shots(seen, 9.0)
    assert len(found) == 2
    assert 4 <= border <= 6


def test_a_cut_is_a_better_border_than_the_drift_before_it() -> None:
    first, second = view(1).astype(float), view(2).astype(float)
    drifting = [(n / 10, (first + (second - first) * n / 80).astype(np.uint8)) for n in range(60)]
    seen = drifting + [(6 + n / 10, view(9)) for n in range(40)]
    assert (6.0, 10.0) in rounded(shots(seen, 10.0))


def test_steady_motion_is_not_cut_at_every_frame() -> None:
    wide = np.concatenate([view(seed) for seed in range(1, 5)], axis=1)
    seen = [(n / 10, wide[:, n : n + THUMB[0]]) for n in range(60)]
    assert len(shots(seen, 6.0)) <= 3


@pytest.mark.parametrize("seed", range(5))
def test_reading_may_stop_after_any_shot_and_go_on_with_the_same_result(seed: int) -> None:
    draw = np.random.default_rng(seed)
    seen = frames(*((int(n), float(draw.uniform(0.3, 18))) for n in range(1, 12)), fps=7)
    end_s = len(seen) / 7
    whole = shots(seen, end_s)
    for n, (_, resume_s) in enumerate(whole[:-2]):
        if n + 2 < len(whole) and whole[n + 1][0] == resume_s and _is_committed_alone(seen, resume_s):
            assert rounded(shots(seen, end_s, resume_s)) == rounded(whole[n + 1 :])


def _is_committed_alone(seen: Frames, resume_s: float) -> bool:
    """Return whether reading can stop here: shots that end together are handed over together."""
    return any(resume_s == group[-1][1] for group in _groups(seen) if group)


def _groups(seen: Frames) -> Iterator[Shots]:
    cutter = ShotCutter(0.0)
    for time_s, thumb in seen:
        yield cutter.see(time_s, thumb)


def test_shots_tile_the_video_whatever_the_frame_rate() -> None:
    for fps in (0.2, 1.0, 5.0, 60.0):
        found = shots(frames((1, 30), (2, 20), fps=fps), 50)
        assert [end for _, end in found[:-1]] == [start for start, _ in found[1:]]
        assert (found[0][0], found[-1][1]) == (0, 50)
        assert all(0 < end - start <= MAX_SHOT_S + MIN_SHOT_S for start, end in found)


def test_a_time_stamp_that_leaps_ahead_makes_no_shots_of_nothing() -> None:
    cutter = ShotCutter(0.0)
    found = [shot for at in (0.0, 1.0, 3.0, 1e12) for shot in cutter.see(at, view(1))]
    found += cutter.finish(1e12 + 1)
    assert found == [(0.0, 3.0), (1e12, 1e12 + 1)]
