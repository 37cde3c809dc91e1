"""The front end of sound towers that take a log-mel spectrogram: in NumPy, with the filter bank of the export."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mmsearch.errors import ModelError, one_line
from mmsearch.files import read_bounded, unpack_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmsearch.spaces.base import Prepared
    from mmsearch.types import Payload

PADDINGS = ("repeatpad", "repeat", "pad")
"""How a short sound is extended: whole repeats and then silence, repeats to the end, or silence alone."""
_FLOOR_DB = -100.0
"""Lower powers are raised to this one."""
_HEADER_BYTES = 4096
"""Upper bound of the size of an array file's header."""
_BLOCK_FRAMES = 64
"""Frames that are transformed at once: their spectra fit into the processor's cache, which halves the time."""


@dataclass(frozen=True, slots=True)
class LogMel:
    """Turns a mono waveform into the log-mel spectrogram of CLAP's sound tower, as `ClapFeatureExtractor` does.

    `filters` is a `.npy` file of (n_fft // 2 + 1, bands) float32 weights; every sound is padded or cut to
    `max_samples`. Raises `ValueError` for parameters that don't define a spectrogram.
    """

    sample_rate_hz: int
    filters: Path
    n_fft: int
    hop: int
    max_samples: int
    bands: int
    padding: str

    def __post_init__(self) -> None:
        if self.padding not in PADDINGS:
            raise ValueError(f"padding is one of {', '.join(PADDINGS)}, not {self.padding!r}")
        if min(self.sample_rate_hz, self.hop, self.bands) < 1 or self.n_fft < 2 or self.max_samples < self.n_fft:
            raise ValueError("a spectrogram needs a rate, a hop, bands and a length of at least one window")

    @property
    def frames(self) -> int:
        """The number of frames of every spectrogram."""
        return 1 + (self.max_samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop

    def __call__(self, payload: Payload) -> Prepared:
        """Return the spectrogram (frames, bands) float32, in dB from -100 on, of a waveform in [-1, 1].

        A sound longer than `max_samples` is cut. Raises `ModelError` if the filter bank can't be read.
        """
        if not isinstance(payload, np.ndarray) or payload.ndim != 1:
            raise TypeError("a sound tower takes a mono waveform, an array of one dimension")
        bank = _load_bank(self.filters, self.n_fft, self.bands)
        wave = self._to_length(np.asarray(payload[: self.max_samples], dtype=np.float32))
        # Frames are centred on multiples of the hop; the sound is mirrored at both ends.
        frames = sliding_window_view(np.pad(wave, self.n_fft // 2, mode="reflect"), self.n_fft)[:: self.hop]
        mel = np.empty((len(frames), self.bands), np.float32)
        for start in range(0, len(frames), _BLOCK_FRAMES):
            block = slice(start, start + _BLOCK_FRAMES)
            # The transform is in float64: next to a loud tone, float32's rounding noise would exceed the floor.
            spectrum = np.fft.rfft(frames[block] * bank.window)[:, bank.bins]
            power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
            np.matmul(power, bank.weights, out=mel[block])
        np.log10(np.maximum(mel, 10 ** (_FLOOR_DB / 10), out=mel), out=mel)
        mel *= 10
        return np.maximum(mel, _FLOOR_DB, out=mel)  # the logarithm of the floor may be rounded below it

    def _to_length(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        if 0 < len(wave) < self.max_samples and self.padding != "pad":
            repeats = self.max_samples // len(wave)
            wave = np.tile(wave, repeats + (self.padding == "repeat"))[: self.max_samples]
        return np.pad(wave, (0, self.max_samples - len(wave)))


class _Bank(NamedTuple):
    """A filter bank without frequencies of zero weight, and the window (n_fft,) float64 of the transform."""

    window: NDArray[np.float64]
    bins: slice
    weights: NDArray[np.float32]


@lru_cache(maxsize=8)
def _load_bank(file: Path, n_fft: int, bands: int) -> _Bank:
    rows = n_fft // 2 + 1
    try:
        weights = unpack_array(read_bounded(file, rows * bands * 8 + _HEADER_BYTES))
    except (OSError, ValueError, EOFError) as error:
        reason = one_line((isinstance(error, OSError) and error.strerror) or error)
        raise ModelError(f"{file} can't be loaded ({reason}); reinstall the model it belongs to") from error
    fits = weights.shape == (rows, bands) and weights.dtype.kind == "f"
    if not fits or not weights.any() or not np.isfinite(weights).all():
        raise ModelError(f"{file} is no bank of {rows} by {bands} filters; reinstall the model it belongs to")
    used = np.flatnonzero(weights.any(axis=1))
    bins = slice(int(used[0]), int(used[-1]) + 1)
    window = np.hanning(n_fft + 1)[:-1]  # periodic, as for every short-time transform
    return _Bank(window, bins, np.ascontiguousarray(weights[bins], dtype=np.float32))
