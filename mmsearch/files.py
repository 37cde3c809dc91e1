"""Files of a library, a model or a cache folder, opened, written and removed without trust in what lies there.

Such a folder may come from anyone. A name in it may be a link into the user's own files, a pipe that blocks, a device
that never ends or an archive that unpacks to more than the memory. So a file is read only if it is a regular file of a
bounded size, and a file is removed only if its name is one that mmsearch gives, in a real folder.

Every error is an `OSError` that names the file, so that callers map it to the error of their own room.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPORARY = re.compile(r"\..+\.\d+|.+\.tmp")
"""The names under which files are written before they get their own: a killed process leaves one behind."""
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class IrregularFileError(OSError):
    """The name stands for a pipe, a device, a socket, a folder, or a link where none may be."""


class OversizedFileError(OSError):
    """The file is larger than anything that mmsearch writes under this name, or unpacks to more."""


# Reading


def open_regular(path: Path | bytes | str, *, follow_links: bool = True) -> io.BufferedReader:
    """Open a regular file for reading; never block on a pipe. Raises `IrregularFileError` for anything else.

    Without `follow_links`, a link in the place of the file is refused as well.
    """
    flags = _OPEN if follow_links else _OPEN | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _irregular(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, most_bytes: int, *, follow_links: bool = True) -> bytes:
    """Return the content of a regular file. Raises `OversizedFileError` where it is larger than `most_bytes`."""
    with open_regular(path, follow_links=follow_links) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise _oversized(path, most_bytes)
    return content


def unpack_arrays(content: bytes, path: Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name; `path` is what errors name.

    Raises `OversizedFileError` where they would take more than `most_bytes` together, whatever the archive says of
    itself, and `ValueError` where they aren't arrays of numbers or text.
    """
    arrays: dict[str, NDArray[Any]] = {}
    left = most_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.file_size > left:
                    raise _oversized(path, most_bytes)
                with archive.open(member) as packed:
                    raw = packed.read(left + 1)
                if len(raw) > left:
                    raise _oversized(path, most_bytes)
                left -= len(raw)
                arrays[member.filename.removesuffix(".npy")] = unpack_array(raw)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"it is no archive of arrays ({error})") from None
    return arrays


def unpack_array(raw: bytes) -> NDArray[Any]:
    """Return the array of an npy file. Raises `ValueError` where its header promises other data than it holds."""
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, kind = read_header(file)
    if kind.hasobject or any(length < 0 for length in shape):
        raise ValueError("its arrays are not of numbers or text")
    count = int(np.prod([int(length) for length in shape], dtype=object)) if shape else 1
    if count * kind.itemsize != len(raw) - file.tell():
        raise ValueError("an array in it is longer or shorter than its header says")
    flat = np.frombuffer(raw, kind, count, file.tell())
    return flat.reshape(shape, order="F" if by_column else "C")


# Writing


def write_whole(file: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file under a temporary name, sync it and give it its own. Raises `OSError`, and leaves nothing then.

    Without `sync` a crash of the machine may leave it torn: for what is checked when it is read, and soon made again.
    """
    temporary = file.with_name(f".{file.name[:200]}.{os.getpid()}")
    try:
        with open_new(temporary) as opened:
            opened.write(content)
            opened.flush()
            if sync:
                os.fsync(opened.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove_unfinished(file: Path) -> None:
    """Remove what killed processes left of `write_whole`; the caller is the only one who writes this file now."""
    names = re.compile(rf"\.{re.escape(file.name[:200])}\.\d+")
    remove_own(file.parent, file.parent, Layout(names), lambda _: True)


def open_new(temporary: Path) -> io.BufferedRandom:
    """Open a new file for writing and reading back; what stands under its temporary name is removed, not followed."""
    with suppress(FileNotFoundError):
        temporary.unlink()  # of a killed process with the same number, or a link that somebody put there
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(temporary, flags, 0o666), "w+b")


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder and those above it. Raises `OSError` where a link or a file stands in its way below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    place = root
    for part in folder.relative_to(root).parts:
        place /= part
        with suppress(FileExistsError):
            place.mkdir()
        if not _is_folder(place):
            raise NotADirectoryError(errno.ENOTDIR, "it has to be a real folder, no link and no file", str(place))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; raises `OSError`. Windows has no such call, and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Removing


@dataclass(frozen=True, slots=True)
class Layout:
    """The names that mmsearch gives to files and folders in one of its folders: full matches, in any order."""

    files: re.Pattern[str] | None = None
    folders: Mapping[re.Pattern[str], Layout] = field(default_factory=dict)

    def below(self, name: str) -> Layout | None:
        """Return the layout of a folder of this name, None where mmsearch makes none."""
        return next((layout for pattern, layout in self.folders.items() if pattern.fullmatch(name)), None)


def is_real_folder(folder: Path, root: Path) -> bool:
    """Return whether `folder` is a folder that is reached from `root` without a link; `root` itself may be one."""
    place = root
    for part in folder.relative_to(root).parts:
        place /= part
        if not _is_folder(place):
            return False
    return folder != root or root.is_dir()


def is_link(path: Path) -> bool:
    """Return whether a name stands for a link, or for one of Windows' junctions."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or _is_junction(status)


def find_foreign(folder: Path, root: Path, layout: Layout) -> Path | None:
    """Return what may not be used of a folder below `root`: a link on the way to it, or in the place of a file.

    `layout` is that of `root`, which itself may be a link. None where there is nothing of that kind; what doesn't
    exist yet is fine.
    """
    place = root
    for part in folder.relative_to(root).parts:
        place, below = place / part, layout.below(part)
        if not os.path.lexists(place):
            return None
        if below is None or not _is_folder(place):
            return place
        layout = below
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                named = layout.files is not None and layout.files.fullmatch(entry.name)
                if named and not entry.is_file(follow_symlinks=False):
                    return folder / entry.name
    except OSError:  # nothing is there; or whoever reads it gets this error
        return None
    return None


def remove_own(folder: Path, root: Path, layout: Layout, unwanted: Callable[[str], bool]) -> list[Path]:
    """Remove what mmsearch made in a folder below `root`, and what is `unwanted` of it by its name; return what went.

    Files go if their name and the names of all folders down to them are of the layout; a folder goes when nothing else
    is left in it. Links are neither followed nor removed, and what can't be removed stays: nobody is in its way.
    """
    if not is_real_folder(folder, root):
        return []
    return list(_removed(folder, layout, unwanted))


def _removed(folder: Path, layout: Layout, unwanted: Callable[[str], bool]) -> Iterator[Path]:
    for name in _names(folder):
        place = folder / name
        if not unwanted(name):
            continue
        if (below := layout.below(name)) is not None and _is_folder(place):
            yield from _removed(place, below, lambda _: True)
            with suppress(OSError):  # something of the user's is left in it
                place.rmdir()
                yield place
        elif layout.files is not None and layout.files.fullmatch(name) and _is_file(place):
            with suppress(OSError):  # a reader has it mapped (Windows), or the folder is read-only
                place.unlink()
                yield place


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  names are matched, not walked
    except OSError:
        return []


def temporary_files(folder: Path, root: Path, layout: Layout) -> Iterator[Path]:
    """Yield what killed processes left half-written below a folder of a layout: files under temporary names."""
    if layout.files is not None and is_real_folder(folder, root):
        for name in _names(folder):
            if TEMPORARY.fullmatch(name) and layout.files.fullmatch(name) and _is_file(folder / name):
                yield folder / name
    for name, below in subfolders(folder, root, layout):
        yield from temporary_files(folder / name, root, below)


def remove_temporary(folder: Path, root: Path, layout: Layout) -> None:
    """Remove those files; what can't be removed stays."""
    for file in list(temporary_files(folder, root, layout)):
        with suppress(OSError):
            file.unlink()


def subfolders(folder: Path, root: Path, layout: Layout) -> Iterator[tuple[str, Layout]]:
    """Yield the names and layouts of those folders in a folder that a layout knows; links are left out."""
    for name in _names(folder):
        if (below := layout.below(name)) is not None and is_real_folder(folder / name, root):
            yield name, below


def size_of(folder: Path) -> int:
    """Return how many bytes the files below a folder take; links and what vanishes meanwhile are left out."""
    total = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _is_folder(Path(place, name))]
        for name in names:
            with suppress(OSError):
                status = os.lstat(Path(place, name))
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def mtime_ns(status: os.stat_result) -> int:
    """Return a file's time of change in nanoseconds, within the 64 bits that a catalog holds (years 1677 to 2262)."""
    return min(max(status.st_mtime_ns, -(2**63)), 2**63 - 1)


def _is_folder(path: Path) -> bool:
    return _has_mode(path, stat.S_ISDIR)


def _is_file(path: Path) -> bool:
    return _has_mode(path, stat.S_ISREG)


def _has_mode(path: Path, holds: Callable[[int], bool]) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return holds(status.st_mode) and not _is_junction(status)


def _is_junction(status: os.stat_result) -> bool:
    return bool(getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT)


def _irregular(path: Path | bytes | str) -> IrregularFileError:
    return IrregularFileError(errno.EINVAL, "it is not a regular file", os.fsdecode(path))


def _oversized(path: Path, most_bytes: int) -> OversizedFileError:
    return OversizedFileError(errno.EFBIG, f"it holds more than {most_bytes:,} bytes", str(path))
