"""Changes: what a producer says has happened to files. A scan is one, a list of paths another.

A change says how a file looks now, or that it isn't there any more. Whether that is news to the library is up to the
plan.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmsearch.catalog import NewMedia, stamp_of
from mmsearch.files import mtime_ns
from mmsearch.media import find_sidecars

_MOST_FILES = 256
_MOST_BYTES = 2**31
"""Changes are planned in parts of so many files, or of so many bytes: what is hashed before anything is decoded."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A media file as the file system shows it. `sidecars` are the captions beside it, `stamp` when they changed."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    device: str
    sidecars: tuple[bytes, ...] = ()
    sidecar_stamp: str = ""

    @property
    def stamp(self) -> str:
        """Changes whenever the file or its captions do."""
        return stamp_of(self.size_bytes, self.mtime_ns, self.sidecar_stamp)

    @property
    def row(self) -> NewMedia:
        """The catalog's row for it."""
        return NewMedia(self.path, self.size_bytes, self.mtime_ns, self.sidecar_stamp, self.device)


@dataclass(frozen=True, slots=True)
class Changes:
    """Files that are there, whether new, changed or as they were, and paths that name none any more.

    `healed` are paths whose recorded failure is over.
    """

    found: tuple[Entry, ...] = ()
    gone: tuple[bytes, ...] = ()
    healed: tuple[bytes, ...] = ()


def in_parts(entries: Iterable[Entry]) -> Iterator[Changes]:
    """Yield files that were found as changes, a part at a time."""
    yield from _parts((entry.path, entry) for entry in entries)


def changes_at(paths: Iterable[bytes]) -> Iterator[Changes]:
    """Yield the changes at a list of paths, a part at a time: files as they are now, and paths that name none."""
    yield from _parts((path, _at(path)) for path in paths)


def _parts(looked_at: Iterable[tuple[bytes, Entry | None]]) -> Iterator[Changes]:
    found: list[Entry] = []
    gone: list[bytes] = []
    size = 0
    for path, entry in looked_at:
        if entry is None:
            gone.append(path)
        else:
            found.append(entry)
            size += entry.size_bytes
        if len(found) + len(gone) == _MOST_FILES or size >= _MOST_BYTES:
            yield Changes(tuple(found), tuple(gone))
            found, gone, size = [], [], 0
    if found or gone:
        yield Changes(tuple(found), tuple(gone))


def look_at(
    path: bytes, sidecars: Sequence[bytes], device: str | None = None, kernel: Container[int] = ()
) -> Entry | None:
    """Return a media file as it is now, None where it is a pipe, a socket or a device. Raises `OSError`.

    A file on a device of `kernel` is none either: what it shows isn't stored, and some of them have no end.
    """
    status = os.stat(path)  # noqa: PTH116  paths are bytes here
    if not stat.S_ISREG(status.st_mode) or status.st_dev in kernel:
        return None
    stamps = [os.stat(sidecar) for sidecar in sidecars]  # noqa: PTH116
    return Entry(
        path=path,
        size_bytes=status.st_size,
        mtime_ns=mtime_ns(status),
        device=device or str(status.st_dev),
        sidecars=tuple(sidecars),
        sidecar_stamp=";".join(f"{s.st_size}:{s.st_mtime_ns}" for s in stamps),
    )


def _at(path: bytes) -> Entry | None:
    folder = os.path.dirname(path)  # noqa: PTH120  paths are bytes here
    try:
        return look_at(path, find_sidecars(path), str(os.stat(folder).st_dev))  # noqa: PTH116
    except (OSError, ValueError):  # a damaged path may hold a NUL
        return None
