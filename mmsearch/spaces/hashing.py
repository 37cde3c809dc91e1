"""A deterministic space without weights for tests, and as the smallest example of a space.

Words and colour names are hashed to directions. A red picture is close to the word "red", because a picture's vector is
the mean over the names of its colours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.spaces.base import FrontEnd, Prepared, Vectors, normalise
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.types import Payload

_DIM = 64
_SIDE = 16
_COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "black": (0, 0, 0),
        "white": (255, 255, 255),
        "grey": (128, 128, 128),
        "red": (220, 20, 20),
        "green": (20, 160, 40),
        "blue": (20, 40, 220),
        "yellow": (240, 230, 40),
        "orange": (250, 140, 20),
        "purple": (130, 30, 140),
        "brown": (110, 70, 30),
    }
)
_BANDS_HZ = ((250, "low"), (2000, "middle"), (8000, "high"))


class _Words:
    """Hashes words; `max_tokens` is a number of words."""

    max_tokens = 32

    def __call__(self, payload: Payload) -> Prepared:
        directions = [_direction(word) for word in _words(str(payload))]
        return np.asarray(np.mean(directions or [np.zeros(_DIM)], axis=0), np.float32)

    def count_tokens(self, text: str) -> int:
        return len(_words(text))


class _Colours:
    """Names the colour of every cell of a small picture."""

    side = _SIDE

    def __call__(self, payload: Payload) -> Prepared:
        from PIL import Image

        assert isinstance(payload, Image.Image)
        cells = np.asarray(payload.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
        palette = np.asarray(list(_COLOURS.values()), np.float32)
        nearest = np.linalg.norm(cells.reshape(-1, 1, 3) - palette, axis=2).argmin(axis=1)
        share = np.bincount(nearest, minlength=len(palette)) / nearest.size
        # A small component for the layout distinguishes pictures of the same colours.
        layout = _direction("layout") * float(cells.std()) / 2550 + np.resize(cells.mean(axis=(1, 2)) / 25500, _DIM)
        return np.asarray(share @ np.stack([_direction(name) for name in _COLOURS]) + layout, np.float32)


class _Pitch:
    """Names the frequency band of a sound's strongest component."""

    sample_rate_hz = 16_000

    def __call__(self, payload: Payload) -> Prepared:
        wave = np.atleast_1d(np.asarray(payload, np.float32))
        wave = np.pad(wave, (0, max(0, 1 - len(wave))))
        power = np.abs(np.fft.rfft(wave)) ** 2
        pitch_hz = float(power.argmax()) * self.sample_rate_hz / max(len(wave), 1)
        return _direction(next(name for bound, name in _BANDS_HZ if pitch_hz <= bound))


class HashingSpace:
    """The space `hashing`: (n, 64), the same on every machine."""

    name = pin = "hashing"
    dim = _DIM
    fingerprint = "hashing-1"

    def __init__(self) -> None:
        self.front_ends: Mapping[View, FrontEnd] = {
            View.TEXT: _Words(),
            View.VISUAL: _Colours(),
            View.AUDIO: _Pitch(),
        }

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, 64) float32, L2-normalised rows, in input order; (0, 64) for no inputs."""
        rows = np.stack(inputs) if len(inputs) else np.zeros((0, _DIM))
        # An input without words still needs a direction: the cosine of a zero vector is undefined.
        rows = np.where(np.abs(rows).sum(axis=1, keepdims=True) > 0, rows, _direction("\0nothing"))
        return normalise(rows)

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return the mean and standard deviation of the cosine of random directions."""
        return 0.0, _DIM**-0.5


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _direction(word: str) -> np.ndarray:
    """Return a unit vector of ±1/8 drawn by the word's hash."""
    digest = hashlib.blake2b(word.encode("utf-8", "surrogateescape"), digest_size=_DIM // 8).digest()
    signs = np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) * 2 - 1
    return signs / np.float32(_DIM**0.5)
