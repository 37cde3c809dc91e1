"""Walk the roots: which files are media, what they look like from outside, and which folders were seen completely."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from mmsearch.media import SUPPORTED, by_name, find_sidecars, sidecar_names
from mmsearch.types import Failure, Stage

_NEVER = frozenset(
    {b"@eaDir", b"__pycache__", b"$RECYCLE.BIN", b"#recycle", b"System Volume Information", b"lost+found"}
)
"""Folders that systems and network storage fill by themselves. Hidden ones (".", "._*") are left out as well."""
_CACHE_MARK = b"CACHEDIR.TAG"  # https://bford.info/cachedir/


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
        return f"{self.size_bytes}:{self.mtime_ns};{self.sidecar_stamp}"


@dataclass(slots=True)
class Scan:
    """One walk over the roots. Iterate it once; what it noticed stands in its attributes afterwards.

    Real folders are walked before linked ones and each only once, so that loops of links end.
    """

    roots: Sequence[bytes]
    exclude: Sequence[str] = ()
    skip: Path | None = None
    """A folder to leave out wherever it stands: the library's own."""
    failures: list[Failure] = field(default_factory=list)
    devices: dict[bytes, str] = field(default_factory=dict)
    """Every folder that was walked, with its device."""
    occupied: set[bytes] = field(default_factory=set)
    """Folders at or below which media were found."""
    incomplete: set[bytes] = field(default_factory=set)
    """Folders that couldn't be listed to the end."""
    skipped: int = 0
    _visited: set[tuple[int, int]] = field(default_factory=set)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the media below the roots, folder by folder, in byte order within each."""
        if self.skip is not None and self.skip.exists():
            status = self.skip.stat()
            self._visited.add((status.st_dev, status.st_ino))
        found: set[bytes] = set()
        for root in self.roots:
            for entry in self._walk(root):
                if entry.path not in found:
                    if len(self.roots) > 1:
                        found.add(entry.path)
                    yield entry

    def _walk(self, root: bytes) -> Iterator[Entry]:
        if not os.path.isdir(root):  # noqa: PTH112  paths are bytes here
            folder, name = os.path.split(root)
            try:
                beside = os.listdir(folder or b".")  # noqa: PTH208
            except OSError:  # a folder may let us open a file and yet not list it
                beside = [name, *map(os.path.basename, find_sidecars(root))]
            yield from self._media_in(root, folder, [name], beside)
            return
        pending, linked = [root], list[bytes]()
        while pending or linked:
            folder = pending.pop() if pending else linked.pop()
            names = self._list(folder)
            if names is None:
                continue
            files, below = list[bytes](), list[bytes]()
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118
                if self._excluded(root, path, name):
                    continue
                if not os.path.isdir(path):  # noqa: PTH112
                    files.append(name)
                elif os.path.islink(path):  # noqa: PTH114
                    linked.append(path)
                else:
                    below.append(path)
            yield from self._media_in(root, folder, files, files)
            pending += reversed(below)

    def _list(self, folder: bytes) -> list[bytes] | None:
        """Return the sorted names in a folder, or None where it was walked before or isn't to be walked."""
        try:
            status = os.stat(folder)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if identity in self._visited:
                return None
            self._visited.add(identity)
            names = sorted(os.listdir(folder))  # noqa: PTH208
        except OSError as error:
            self.incomplete.add(folder)
            self._fail(folder, f"the folder can't be listed: {(error.strerror or str(error)).lower()}")
            return None
        self.devices[folder] = str(status.st_dev)
        return None if _CACHE_MARK in names else names

    def _excluded(self, root: bytes, path: bytes, name: bytes) -> bool:
        if name.startswith(b".") or name in _NEVER:
            return True
        below = os.fsdecode(path[len(root.rstrip(b"/")) + 1 :])
        last = os.fsdecode(name)
        return any(fnmatchcase(last, glob) or fnmatchcase(below, glob) for glob in self.exclude)

    def _media_in(self, root: bytes, folder: bytes, files: Sequence[bytes], beside: Sequence[bytes]) -> Iterator[Entry]:
        names = set(beside)
        captions = {sidecar for name in names for sidecar in sidecar_names(name)}
        for name in files:
            modality = by_name(name)
            if modality is None or name in captions:
                continue
            if modality not in SUPPORTED:
                self.skipped += 1
                continue
            beside = [s for s in sidecar_names(name) if s in names and _is_file(folder, s)]
            entry = self._entry(folder, name, beside)
            if entry is not None:
                self._occupy(root, folder)
                yield entry

    def _entry(self, folder: bytes, name: bytes, sidecars: Sequence[bytes]) -> Entry | None:
        path = os.path.join(folder, name)  # noqa: PTH118
        try:
            status = os.stat(path)  # noqa: PTH116
            if not stat.S_ISREG(status.st_mode):
                return None  # a pipe, a socket or a device
            beside = [os.path.join(folder, sidecar) for sidecar in sidecars]  # noqa: PTH118
            stamps = [os.stat(sidecar) for sidecar in beside]  # noqa: PTH116
        except OSError as error:
            self._fail(path, f"the file can't be looked at: {(error.strerror or str(error)).lower()}")
            return None
        return Entry(
            path=path,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            device=self.devices.get(folder, str(status.st_dev)),
            sidecars=tuple(beside),
            sidecar_stamp=";".join(f"{s.st_size}:{s.st_mtime_ns}" for s in stamps),
        )

    def _occupy(self, root: bytes, folder: bytes) -> None:
        while folder not in self.occupied and len(folder) >= len(root):
            self.occupied.add(folder)
            folder = os.path.dirname(folder)  # noqa: PTH120

    def _fail(self, path: bytes, reason: str) -> None:
        self.failures.append(Failure(Path(os.fsdecode(path)), Stage.SCAN, reason))


def _is_file(folder: bytes, name: bytes) -> bool:
    return os.path.isfile(os.path.join(folder, name))  # noqa: PTH113, PTH118  paths are bytes here
