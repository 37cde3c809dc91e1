"""Folders of photos and sounds to train on, and the words that examples have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Two folders of photos, one of them with captions, and a sound."""
    for folder, colour in (("red_cars", (200, 0, 0)), ("lakes", (0, 0, 200))):
        (tmp_path / folder).mkdir()
        for n in range(3):
            Image.new("RGB", (40, 20 + n), colour).save(tmp_path / folder / f"{folder}{n}.png")
    (tmp_path / "lakes" / "lakes0.txt").write_text("a lake at noon\nblue water\n", "utf-8")
    (tmp_path / "lakes" / "notes.txt").write_text("not a picture", "utf-8")
    (tmp_path / "tones").mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8_000)
    soundfile.write(tmp_path / "tones" / "a.wav", tone.astype(np.float32), 8_000)
    return tmp_path
