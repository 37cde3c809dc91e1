"""Members of zip files of strangers, within a size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from mmsearch.errors import MediaError

MOST_BYTES = 64 * 2**20
"""All that is unpacked of one file."""
_MOST_MEMBERS = 50_000


class Archive:
    """An opened zip file, of which so much is unpacked in all."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._left = MOST_BYTES
        self.names = frozenset(file.namelist())

    def read(self, name: str) -> bytes:
        """Return a member, b"" where there is none. Raises `MediaError` for one that is too large, or damaged."""
        if name not in self.names:
            return b""
        try:
            with self._file.open(name) as member:
                raw = member.read(self._left + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError):
            raise MediaError("a part of it is damaged or encrypted; save it again without a password") from None
        self._left -= len(raw)
        if self._left < 0:
            raise MediaError(f"it unpacks to more than {MOST_BYTES // 2**20} MB; split it")
        return raw


@contextmanager
def opened(file: BinaryIO) -> Iterator[Archive]:
    """Open a zip file. Raises `MediaError` where it isn't one."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError):
        raise MediaError("not a document of its kind, or damaged; save it again") from None
    with archive:
        if len(archive.infolist()) > _MOST_MEMBERS:
            raise MediaError(f"it holds more than {_MOST_MEMBERS:,} parts")
        yield Archive(archive)
