"""Settings and limits: built once, by the command line or by `mmsearch.open`, and passed down."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from mmsearch.errors import UsageError
from mmsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Limits:
    """What one media file may cost. A file beyond a limit is a recorded failure."""

    pixels: int = 250_000_000
    """Largest picture, width times height. Cameras reach 200 million."""
    picture_bytes: int = 5 * 2**28
    """Most memory that decoding a picture may take: a WebP of 80 million pixels, a PNG or TIFF of 250 million."""
    frame_pixels: int = 8_192 * 4_608
    """Largest frame of a video: what is larger needs more memory than a worker may take."""
    duration_s: float = 48 * 3600.0
    """What lies beyond this in a sound or video isn't read."""
    text_bytes: int = 32 * 2**20
    """What is read of a text: what lies beyond isn't indexed, which is recorded."""
    image_bytes: int = 2**30
    """Largest file of a picture, a text or a document."""
    passages: int = 20_000
    """Most passages of one text that are indexed; that there are more is recorded."""
    segments: int = 25_000
    """Most segments of one sound or video: 48 hours of sound are 21,600."""
    segment_bytes: int = 1_000
    """Beyond the first `free_segments` a file holds at least so many bytes for each segment: what is smaller was made
    to cost time. Speech at the lowest rate of any codec here takes six times as much."""
    free_segments: int = 1_000
    decode_s: float = 60.0
    """Longest time to decode one file, or one part of a long sound or video."""
    file_s: float = 3600.0
    """Longest time that all parts of a sound or video may take together; a film takes minutes."""
    query_s: float = 45.0
    """Longest time to decode the files of one query, so that it is answered within a minute."""
    run_bytes: int = 1_500_000_000
    """Memory that decoding may take in all processes of an index run together, and for one file at most.

    An idle process (some 40 MB), the main one with its model, and results that wait there come on top.
    """

    def file_bytes(self, modality: Modality | None) -> int:
        """Return the largest file of a kind that is read at all; sounds and videos are read in parts, however long."""
        if modality in (Modality.AUDIO, Modality.VIDEO):
            return 2**63
        return self.image_bytes

    def most_segments(self, size_bytes: int) -> int:
        """Return how many segments of a sound or video of this size are indexed."""
        return min(self.segments, self.free_segments + size_bytes // self.segment_bytes)


DEVICES = ("auto", "cpu", "cuda")
"""Where towers may run."""
PRECISIONS = ("auto", "fp32", "int8")
"""The precisions that image towers may run in on a CPU."""


def default_workers() -> int:
    """Return how many decoding processes to start: one a core this process may run on, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an index run works; none of it changes the space of the result. Raises `UsageError` for odd values."""

    workers: int = field(default_factory=default_workers)
    batch: int = 64
    """Contents encoded and committed together: what a killed run loses at most."""
    device: str = "auto"
    """Where towers run: auto, cpu or cuda."""
    precision: str = "auto"
    """Of image towers on a CPU: fp32, int8 if a trial on the library's own images allows it, or auto: if faster too."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, value, choices in (("device", self.device, DEVICES), ("precision", self.precision, PRECISIONS)):
            if value not in choices:
                raise UsageError(f"{name} is {value!r}, but has to be one of {', '.join(choices)}")
        for name, number in (("workers", self.workers), ("batch", self.batch)):
            if not isinstance(number, int) or number < 1:
                raise UsageError(f"{name} is {number!r}, but has to be a whole number above 0")
