"""High dynamic range → 8 bits: what PQ and HLG signals look like on an ordinary screen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHITE_NITS = 203.0
"""Diffuse white in both systems (ITU-R BT.2408)."""
_KNEE = 0.75
"""Share of diffuse white from which highlights are compressed instead of cut off."""
_TO_BT709 = np.asarray([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""BT.2020 to BT.709 primaries, linear light (ITU-R BT.2087)."""


def from_pq(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return linear light, 1 = diffuse white, of a PQ signal in [0, 1] (SMPTE ST 2084)."""
    power = np.power(np.clip(signal, 0, 1), 32 / 2523)
    share = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return np.asarray(np.power(share, 16384 / 2610) * (10_000 / _WHITE_NITS), np.float32)


def from_hlg(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return linear light, 1 = diffuse white, of an HLG signal (..., 3) in [0, 1], shown at 1,000 nits (BT.2100)."""
    clipped = np.clip(signal, 0, 1)
    scene = np.where(clipped <= 0.5, clipped**2 / 3, (np.exp((clipped - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    luma = scene @ np.asarray([0.2627, 0.6780, 0.0593], np.float32)
    return np.asarray(scene * (1000 / _WHITE_NITS) * np.power(np.maximum(luma, 1e-6), 0.2)[..., None], np.float32)


def to_screen(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return sRGB, uint8, of linear BT.2020 light (..., 3), 1 = diffuse white; highlights are compressed."""
    linear = np.maximum(light @ _TO_BT709.T, 0)
    room = 1 - _KNEE
    linear = np.where(linear > _KNEE, _KNEE + room * np.tanh((linear - _KNEE) / room), linear)
    encoded: NDArray[Any] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, 1 / 2.4) - 0.055)
    return np.asarray(np.clip(encoded * 255 + 0.5, 0, 255), np.uint8)
