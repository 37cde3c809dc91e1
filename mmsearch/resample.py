"""Sounds at another sample rate: what decoding and the towers' front ends share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resample(wave: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Return a mono waveform (n,) in [-1, 1] at another rate, by soxr's high quality (librosa's default too)."""
    if from_hz == to_hz or not len(wave):
        return wave
    import soxr  # loaded only where there is a sound

    return np.asarray(np.clip(soxr.resample(wave, from_hz, to_hz, quality="HQ"), -1, 1), np.float32)
