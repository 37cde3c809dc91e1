"""Pictures and tones to be embedded, and the embedded space with the words of its own spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmsearch.spaces import load_profile
from mmsearch.spaces.onnx import OnnxSpace

MINI = REPOSITORY / "data" / "mini"


def picture(colour: str, size: tuple[int, int] = (200, 90)) -> Image.Image:
    image = Image.new("RGB", size, colour)
    ImageDraw.Draw(image).ellipse((10, 10, size[0] // 2, size[1] // 2), fill="white")
    return image


def tone(pitch_hz: float, seconds: float) -> NDArray[np.float32]:
    at = np.arange(int(16_000 * seconds)) / 16_000
    return (0.5 * np.sin(2 * np.pi * pitch_hz * at)).astype(np.float32)


@pytest.fixture(scope="module")
def mini() -> OnnxSpace:
    space = load_profile("mini").spaces[0]
    assert isinstance(space, OnnxSpace)
    return space


def towers() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((MINI / "spec.json").read_bytes())
    return spec


def fingerprint_with(folder: Path, **changes: object) -> str:
    (folder / "spec.json").write_text(json.dumps({**towers(), **changes}))
    return OnnxSpace("mini", folder).fingerprint
