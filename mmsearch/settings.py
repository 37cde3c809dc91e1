"""Settings and limits. The command line or `mmsearch.open` builds them once and passes them down."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from mmsearch.errors import UsageError
from mmsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for one media file. A file beyond a limit is recorded as a failure."""

    pixels: int = 250_000_000
    """Largest picture, width times height. Cameras reach 200 million."""
    picture_bytes: int = 5 * 2**28
    """Memory limit of decoding a picture: enough for a WebP of 80 million pixels, a PNG or TIFF of 250 million."""
    frame_pixels: int = 8_192 * 4_608
    """Largest frame of a video: a larger one needs more memory than a worker may take."""
    duration_s: float = 48 * 3600.0
    """The part of a sound or video after this time isn't read."""
    text_bytes: int = 32 * 2**20
    """What is read of a text: what lies beyond isn't indexed, which is recorded."""
    image_bytes: int = 2**30
    """Largest file of a picture, a text or a document."""
    passages: int = 20_000
    """Maximum number of indexed passages of one text; that it has more is recorded."""
    segments: int = 25_000
    """Maximum number of segments of one sound or video: 48 hours of sound have 21,600."""
    segment_bytes: int = 1_000
    """Minimum file size per segment beyond the first `free_segments`: a smaller file was crafted to waste time. Speech
    at the lowest bit rate of the supported codecs takes six times as much."""
    free_segments: int = 1_000
    """Number of segments that a file of any size may have."""
    decode_s: float = 60.0
    """Longest time to decode one file, or one part of a long sound or video."""
    file_s: float = 3600.0
    """Longest time to decode all parts of a sound or video together; a film takes minutes."""
    query_s: float = 45.0
    """Longest time to decode the files of one query, so that it is answered within a minute."""
    run_bytes: int = 1_500_000_000
    """Memory limit of decoding, for all processes of an index run together; one file may use all of it.

    Idle processes (some 40 MB each), the main process with its model, and its waiting results aren't included.
    """

    def file_bytes(self, modality: Modality | None) -> int:
        """Return the size limit in bytes of a file of this modality; sounds and videos, read in parts, have none."""
        if modality in (Modality.AUDIO, Modality.VIDEO):
            return 2**63
        return self.image_bytes

    def most_segments(self, size_bytes: int) -> int:
        """Return the maximum number of indexed segments of a sound or video of this size."""
        return min(self.segments, self.free_segments + size_bytes // self.segment_bytes)


DEVICES = ("auto", "cpu", "cuda")
"""Devices for running towers."""
PRECISIONS = ("auto", "fp32", "int8")
"""Precisions of image towers on a CPU."""


def default_workers() -> int:
    """Return the default number of decoding processes: one for each core available to this process, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an index run. None of them changes the model's spaces. Raises `UsageError` for invalid values."""

    workers: int = field(default_factory=default_workers)
    batch: int = 64
    """Number of contents that are encoded and committed together; a killed run loses at most one such batch."""
    device: str = "auto"
    """Device for towers: auto, cpu or cuda."""
    precision: str = "auto"
    """Precision of image towers on a CPU: fp32; int8, if a trial on the library's own images shows that it is accurate
    enough; or auto: int8 if it is also faster."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, value, choices in (("device", self.device, DEVICES), ("precision", self.precision, PRECISIONS)):
            if value not in choices:
                raise UsageError(f"{name} is {value!r}, but has to be one of {', '.join(choices)}")
        for name, number in (("workers", self.workers), ("batch", self.batch)):
            if not isinstance(number, int) or number < 1:
                raise UsageError(f"{name} is {number!r}, but has to be a whole number above 0")
