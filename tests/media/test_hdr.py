"""High dynamic range → 8 bits: the signal levels of the standards look as they should."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.media.hdr import from_hlg, from_pq, to_screen


def grey(level: float) -> NDArray[np.float32]:
    return np.full((1, 1, 3), level, np.float32)


@pytest.mark.parametrize(("signal", "nits"), [(0.0, 0.0), (0.508078, 100), (0.580689, 203), (0.751827, 1000)])
def test_pq_is_what_st_2084_says(signal: float, nits: float) -> None:
    assert float(from_pq(grey(signal))[0, 0, 0]) * 203 == pytest.approx(nits, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize(("signal", "nits"), [(0.0, 0.0), (0.75, 203), (1.0, 1000)])
def test_hlg_on_a_screen_of_1000_nits_is_what_bt_2408_says(signal: float, nits: float) -> None:
    assert float(from_hlg(grey(signal))[0, 0, 0]) * 203 == pytest.approx(nits, rel=5e-3, abs=1e-2)


def test_white_is_nearly_white_black_is_black_and_highlights_are_told_apart() -> None:
    black, grey_18, white, bright = (int(to_screen(grey(level))[0, 0, 0]) for level in (0, 0.18, 1, 1.3))
    assert black == 0
    assert grey_18 == pytest.approx(118, abs=1)  # sRGB's 18 % grey
    assert 240 < white < bright <= 255


def test_grey_stays_grey_and_a_colour_stays_that_colour() -> None:
    assert np.ptp(to_screen(grey(0.4))) <= 1
    red, green, blue = to_screen(np.asarray([[[0.6, 0.05, 0.05]]], np.float32))[0, 0].tolist()
    assert red > 200 > 100 > max(green, blue)
