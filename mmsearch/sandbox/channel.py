"""Messages between a worker and the process that started it: pickled objects, each after its length."""

from __future__ import annotations

import pickle
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from mmsearch.sandbox.work import PreparedContent, Request
from mmsearch.types import Modality

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Model:
    """To a worker: from now on decode for these front ends within these limits, pickled; it answers `Ready`."""

    pickled: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """To a worker: get ready for files of this kind; it doesn't answer."""

    modality: Modality


@dataclass(frozen=True, slots=True)
class Task:
    """To a worker: decode this with so much memory, of which there is `most_bytes` for one file."""

    request: Request
    share_bytes: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Granted:
    """To a worker: it may take the memory that it asked for."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: it has taken a model."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """From a worker: decoding needs so much memory in all. It waits for `Granted`."""

    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """From a worker: what it made of a file."""

    content: PreparedContent


@dataclass(frozen=True, slots=True)
class Short:
    """From a worker: its share of memory didn't suffice."""


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: the file can't be decoded, or, if `by_reading`, not read; or the model can't be used."""

    reason: str
    by_reading: bool = False


class Channel:
    """Both directions to the other process. Raises `EOFError` where that has ended."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        self._reading = reading
        self._writing = writing
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message."""
        raw = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        try:
            with self._sending:
                self._writing.write(_LENGTH.pack(len(raw)))
                self._writing.write(raw)
                self._writing.flush()
        except (OSError, ValueError):  # a broken pipe; a closed one
            raise EOFError from None

    def receive(self) -> object:
        """Wait for the next message."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))

    def close(self) -> None:
        """Close both directions, which tells the other process that there is nothing more to do."""
        for stream in (self._writing, self._reading):
            with suppress(OSError):  # what was still to be written has no reader
                stream.close()

    def _exactly(self, length: int) -> bytes:
        try:
            raw = self._reading.read(length)
        except (OSError, ValueError):
            raise EOFError from None
        if len(raw) < length:
            raise EOFError
        return raw
