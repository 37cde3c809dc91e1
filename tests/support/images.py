"""Read pictures from bytes, and compare them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from mmsearch.media.image import read_image
from mmsearch.settings import Limits
from support.media_maker import pixels

LIMITS = Limits()


def read(raw: bytes, side: int | None = None) -> Image.Image:
    return read_image(io.BytesIO(raw), LIMITS, side)[0]


def assert_close(seen: Image.Image, expected: Image.Image, tolerance: float) -> None:
    assert seen.mode == "RGB"
    assert seen.size == expected.size
    assert float(np.abs(pixels(seen) - pixels(expected)).mean()) <= tolerance
