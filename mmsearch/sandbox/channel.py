"""Messages between a worker and the process that started it: pickled objects, each preceded by its length."""

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
    """To a worker: decode for these front ends within these limits (pickled) from now on. It answers `Ready`."""

    pickled: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """To a worker: load the decoders of this modality. It doesn't answer."""

    modality: Modality


@dataclass(frozen=True, slots=True)
class Task:
    """To a worker: decode a file with `share_bytes` of memory; it may request up to `most_bytes`."""

    request: Request
    share_bytes: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Granted:
    """To a worker: it may allocate the memory that it requested."""


@dataclass(frozen=True, slots=True)
class Ready:
    """From a worker: the model is loaded."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """From a worker: decoding needs `needed_bytes` in total. It waits for `Granted`."""

    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """From a worker: the decoded file."""

    content: PreparedContent


@dataclass(frozen=True, slots=True)
class Short:
    """From a worker: its share of memory wasn't enough."""


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: the file can't be decoded (with `by_reading`: can't be read), or the model can't be loaded."""

    reason: str
    by_reading: bool = False


class Channel:
    """Sends messages to another process and receives its own. Raises `EOFError` when that process has ended."""

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
        except (OSError, ValueError):  # the pipe is broken or closed
            raise EOFError from None

    def receive(self) -> object:
        """Wait for the next message."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))

    def close(self) -> None:
        """Close both directions, upon which the other process ends."""
        for stream in (self._writing, self._reading):
            with suppress(OSError):  # unsent bytes have no reader any more
                stream.close()

    def _exactly(self, length: int) -> bytes:
        try:
            raw = self._reading.read(length)
        except (OSError, ValueError):
            raise EOFError from None
        if len(raw) < length:
            raise EOFError
        return raw
