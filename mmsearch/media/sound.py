"""Sounds: any file that libsndfile reads → mono windows of at most 10 s, at the rate that the towers take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.resample import resample

if TYPE_CHECKING:
    import soundfile

WINDOW_S = 10.0
HOP_S = 8.0
"""From the start of one window to that of the next: each shares 2 s with the one before."""
SILENCE = 2e-4
"""Peak below which a sound is silent: -74 dB of full scale, a few steps of 16 bits."""
_BLOCK_VALUES = 2**16
"""How many samples, over all channels, are read at a time: what is lost where decoding fails."""
_CANCELLED = 0.01
"""Power of the mean of the channels, as a share of the loudest one's, below which they are in antiphase: -20 dB."""
_SLIVER_S = 0.5
"""Less than this, and less than a quarter of a stretch, is no sound of it."""

Wave = NDArray[np.float32]


@dataclass(slots=True)
class Track:
    """Mono sound on a time line, of which any stretch can be cut while more is added."""

    rate_hz: int
    end_s: float = 0.0
    blocks: list[tuple[float, Wave]] = field(default_factory=list)

    def add(self, start_s: float, samples: NDArray[np.float32]) -> None:
        """Add a block, (n,) or (channels, n): see `to_mono`."""
        mono = to_mono(samples) if samples.ndim == 2 else samples
        if len(mono):
            self.blocks.append((start_s, mono))
            self.end_s = max(self.end_s, start_s + len(mono) / self.rate_hz)

    def cut(self, start_s: float, end_s: float, rate_hz: int) -> Wave | None:
        """Return what sounds in [start_s, end_s), in [-1, 1], resampled; None where nothing was recorded, or a sliver.

        Where sound is missing in between, or is no number, there is silence.
        """
        length = round((end_s - start_s) * self.rate_hz)
        wave = np.zeros(max(length, 0), np.float32)
        first, last = length, 0
        for block_s, samples in self.blocks:
            at = round((block_s - start_s) * self.rate_hz)
            low, high = max(at, 0), min(at + len(samples), length)
            if low < high:
                wave[low:high] = samples[low - at : high - at]
                first, last = min(first, low), max(last, high)
        if last <= first or last - first < min(_SLIVER_S * self.rate_hz, length / 4):
            return None
        clean = np.clip(np.nan_to_num(wave, copy=False, nan=0.0, posinf=0.0, neginf=0.0), -1, 1)
        return resample(clean, self.rate_hz, rate_hz)

    def forget(self, before_s: float) -> None:
        """Drop the blocks that end before a time."""
        self.blocks = [block for block in self.blocks if block[0] + len(block[1]) / self.rate_hz > before_s]


def to_mono(samples: NDArray[np.float32]) -> Wave:
    """Return the mean of the channels, (channels, n) → (n,); where they cancel each other, the loudest of them."""
    mean = samples.mean(axis=0)
    if len(samples) < 2 or not samples.shape[1]:
        return np.asarray(mean, np.float32)
    power = np.square(samples, dtype=np.float64).mean(axis=1)
    loudest = int(power.argmax())
    cancelled = np.square(mean, dtype=np.float64).mean() < _CANCELLED * power[loudest]
    return np.asarray(samples[loudest] if cancelled else mean, np.float32)


def is_silent(wave: Wave) -> bool:
    """Return whether nobody hears it."""
    return not len(wave) or float(np.abs(wave).max()) < SILENCE


def windows(start_s: float, end_s: float) -> Iterator[tuple[float, float]]:
    """Yield the windows over a sound, (start_s, end_s); one no longer than a window is one."""
    yield start_s, min(start_s + WINDOW_S, end_s)
    while start_s + WINDOW_S < end_s:
        start_s += HOP_S
        yield start_s, min(start_s + WINDOW_S, end_s)


class SoundFile:
    """A sound that libsndfile reads, from any second on. Raises `MediaError`."""

    HEADS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
    """How files begin that it reads well: of MP3s that were joined it gives the first, and says so on the terminal."""

    @classmethod
    def is_one(cls, file: BinaryIO) -> bool:
        """Return whether a file begins like one of these; it is at its start afterwards."""
        head = file.read(4)
        file.seek(0)
        return head in cls.HEADS

    def __init__(self, file: BinaryIO) -> None:
        import soundfile  # loaded only where there is a sound

        try:
            self._file: soundfile.SoundFile = soundfile.SoundFile(file)
        except (soundfile.SoundFileError, RuntimeError, OSError, ValueError, TypeError) as error:
            raise MediaError(f"the sound can't be decoded ({_reason(error)}); convert or replace it") from None
        self.rate_hz = int(self._file.samplerate)
        if not self.rate_hz or not self._file.channels:
            raise MediaError("the sound has no samples; replace it")

    @property
    def promised_s(self) -> float | None:
        """How long the sound is by its header, None where formats don't say it or say it wrongly."""
        sure = self._file.format in ("FLAC", "OGG") and 0 < self._file.frames < 2**62
        return self._file.frames / self.rate_hz if sure else None

    @property
    def length_s(self) -> float | None:
        """How long the sound is by its header; of a WAV that is no promise, but most often right."""
        frames = self._file.frames
        return metadata.duration(frames / self.rate_hz if 0 < frames < 2**53 else None)

    @property
    def description(self) -> Description:
        """Its length."""
        return Description.of(duration_s=self.length_s)

    def read(self, from_s: float, seconds: float) -> Track:
        """Return the sound from a second on, up to so many seconds: less where it ends, or where it is broken."""
        import soundfile

        track = Track(self.rate_hz, from_s)
        most = round(seconds * self.rate_hz)
        block = max(1, _BLOCK_VALUES // self._file.channels)
        try:
            if from_s:
                self._file.seek(round(from_s * self.rate_hz))
            while most > 0:
                samples = self._file.read(min(block, most), dtype="float32", always_2d=True)
                if not len(samples):
                    break
                track.add(track.end_s, samples.T)
                most -= len(samples)
        except (soundfile.SoundFileError, RuntimeError):  # what was read before it is kept; the end tells
            pass
        return track


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).removeprefix("Error opening ").rpartition(": ")[2].rstrip(".").lower()[:120]
