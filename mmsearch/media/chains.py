"""Sounds that are several recordings in one file, one after the other, as radio recorders and `cat` make them."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import BinaryIO

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.media.sound import SoundFile, Track
from mmsearch.resample import resample

_OGG, _FLAC = b"OggS", b"fLaC"
_OGG_BEGINS = b"OggS\0\2"
"""A page of Ogg on which a stream begins."""
_STREAM_INFO = (b"\0\0\0\x22", b"\x80\0\0\x22")
"""What stands behind FLAC's mark where it isn't chance: the head of the first block."""
_MOST = 10_000


def open_sound(file: BinaryIO) -> SoundFile | SoundChain:
    """Open a sound that libsndfile reads, with all its recordings. Raises `MediaError`."""
    starts = _starts(file)
    file.seek(0)
    return SoundChain(file, starts) if len(starts) > 1 else SoundFile(file)


class SoundChain:
    """Several recordings as one sound, at the rate of the first one. Raises `MediaError` where none can be decoded."""

    def __init__(self, file: BinaryIO, starts: tuple[int, ...]) -> None:
        end = file.seek(0, os.SEEK_END)
        self._links: list[tuple[float, SoundFile]] = []
        self._length_s = 0.0
        for start, behind in zip(starts, (*starts[1:], end), strict=True):
            try:
                link = SoundFile(io.BufferedReader(_Slice(file, start, behind)))
            except MediaError:
                continue  # the others are kept
            self._links.append((self._length_s, link))
            self._length_s += link.length_s or 0.0
        if not self._links:
            raise MediaError("the sound can't be decoded; convert or replace it")
        self.rate_hz = self._links[0][1].rate_hz

    @property
    def promised_s(self) -> float:
        """How long it is, by the headers of its recordings."""
        return self._length_s

    @property
    def length_s(self) -> float | None:
        """How long it is, None where that can't be."""
        return metadata.duration(self._length_s)

    @property
    def description(self) -> Description:
        """Its length."""
        return Description.of(duration_s=self.length_s)

    def read(self, from_s: float, seconds: float) -> Track:
        """Return the sound from a second on, up to so many seconds: less where it ends, or where it is broken."""
        track = Track(self.rate_hz, from_s)
        for begin_s, link in self._links:
            length_s = link.length_s or 0.0
            low_s, high_s = max(from_s - begin_s, 0.0), min(from_s + seconds - begin_s, length_s)
            if low_s < high_s:
                for at_s, samples in link.read(low_s, high_s - low_s).blocks:
                    track.add(begin_s + at_s, resample(samples, link.rate_hz, self.rate_hz))
        return track


class _Slice(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._length, self._at = file, start, end - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._at)
        block = self._file.read(min(len(buffer), max(0, self._length - self._at)))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


@dataclass(frozen=True, slots=True)
class _State:
    """A file as it is, so that it is looked through once for all its parts."""

    identity: tuple[int, int, int, int]
    file: BinaryIO = field(compare=False)


def _starts(file: BinaryIO) -> tuple[int, ...]:
    """Return where the recordings of an Ogg or FLAC file begin; of any other, where it begins."""
    file.seek(0)
    head = file.read(4)
    if head not in (_OGG, _FLAC):
        return (0,)
    try:
        status = os.fstat(file.fileno())
    except OSError:  # it is no file of the disk
        file.seek(0)
        return _find(file.read(), head)
    return _find_once(_State((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), file))


@lru_cache(maxsize=1)
def _find_once(state: _State) -> tuple[int, ...]:
    with mmap.mmap(state.file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _find(content, content[:4])


def _find(content: bytes | mmap.mmap, mark: bytes) -> tuple[int, ...]:
    return tuple(islice(_flacs(content) if mark == _FLAC else _oggs(content), _MOST))


def _flacs(content: bytes | mmap.mmap) -> Iterator[int]:
    at = content.find(_FLAC)
    while at >= 0:
        if content[at + 4 : at + 8] in _STREAM_INFO:
            yield at
        at = content.find(_FLAC, at + 4)


def _oggs(content: bytes | mmap.mmap) -> Iterator[int]:
    """Yield where streams begin, once for those that begin together: pages that follow each other (RFC 3533)."""
    end = -1
    at = content.find(_OGG_BEGINS)
    while at >= 0:
        if at != end:
            yield at
        segments = content[at + 26] if at + 26 < len(content) else 0
        end = at + 27 + segments + sum(content[at + 27 : at + 27 + segments])
        at = content.find(_OGG_BEGINS, at + 6)
