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

TEMPORARY = re.compile(r"\..+\.\d+")
"""The names under which `write_whole` writes: a killed process leaves one behind."""
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


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it and give it its own. Raises `OSError`, and leaves nothing then."""
    temporary = file.with_name(f".{file.name[:200]}.{os.getpid()}")
    try:
        with open_new(temporary) as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


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


def remove_own(folder: Path, root: Path, layout: Layout, unwanted: Callable[[str], bool]) -> list[Path]:
    """Remove what mmsearch made in a folder below `root`, and what is `unwanted` of it by its name; return what went.

    Files go if their name and the names of all folders down to them are of the layout; a folder goes when nothing else
    is left in it. Links are neither followed nor removed, and what can't be removed stays: nobody is in its way.
    """
    if not is_real_folder(folder, root):
        return []
    return list(_removed(folder, layout, unwanted))


def _removed(folder: Path, layout: Layout, unwanted: Callable[[str], bool]) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names are matched, not walked
    except OSError:
        return
    for name in names:
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


def _is_folder(path: Path) -> bool:
    return _has_mode(path, stat.S_ISDIR)


def _is_file(path: Path) -> bool:
    return _has_mode(path, stat.S_ISREG)


def _has_mode(path: Path, holds: Callable[[int], bool]) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    junction = getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT  # Windows' links of folders
    return holds(status.st_mode) and not junction


def _irregular(path: Path | bytes | str) -> IrregularFileError:
    return IrregularFileError(errno.EINVAL, "it is not a regular file", os.fsdecode(path))


def _oversized(path: Path, most_bytes: int) -> OversizedFileError:
    return OversizedFileError(errno.EFBIG, f"it holds more than {most_bytes:,} bytes", str(path))
