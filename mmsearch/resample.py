"""Resampling of sounds, for decoding and for the towers' front ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resample(wave: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Return a mono waveform (n,) in [-1, 1] at another rate, by soxr in high quality, as librosa does by default."""
    if from_hz == to_hz or not len(wave):
        return wave
    import soxr  # imported only if there is a sound

    return np.asarray(np.clip(soxr.resample(wave, from_hz, to_hz, quality="HQ"), -1, 1), np.float32)
