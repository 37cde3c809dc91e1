"""Matrices of 4-bit weights: what was published in blocks of 32 weights and a scale is stored so again.

Nothing is rounded here. A matrix is packed only where every block of it is a scale times whole numbers from -8 to 7,
so that the packed tower computes what the tower in torch does, but for the activations, which onnxruntime rounds to 8
bits a block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
BLOCK = 32
_LEVELS = 8
_NEAR = 1e-3
"""How far a weight may be from a whole number of its block's scale, in scales."""


def blocks(weights: Array) -> tuple[NDArray[np.uint8], Array] | None:
    """Return rows (n, k) of weights as 4-bit numbers (n, k), 8 for zero, and scales (n, k / 32); None if none fit."""
    rows, width = weights.shape
    if width % BLOCK:
        return None
    parts = weights.reshape(rows, width // BLOCK, BLOCK)
    strongest = np.take_along_axis(parts, np.abs(parts).argmax(2, keepdims=True), axis=2)
    scales = strongest / -_LEVELS
    safe = np.where(scales == 0, 1.0, scales)
    found = parts / safe
    whole = np.round(found)
    if np.abs(found - whole).max(initial=0.0) > _NEAR:
        return None
    numbers = np.clip(whole + _LEVELS, 0, 2 * _LEVELS - 1).astype(np.uint8)
    return numbers.reshape(rows, width), np.asarray(scales[..., 0], np.float32)


def nibbles(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pairs of 4-bit numbers (n, k) as bytes (n, k / 2), the first of a pair in the low bits."""
    return np.asarray(numbers[:, 0::2] | (numbers[:, 1::2] << 4), np.uint8)
