"""Opens, writes and removes files in folders that aren't trusted: those of libraries, models and caches.

Such a folder may come from anyone. A name in it may be a link into the user's own files, a pipe that blocks, a device
that never ends, or an archive that unpacks to more than the memory. So a file is read only if it is a regular file of
bounded size, and removed only if mmsearch uses its name and it lies in a real folder.

Every error is an `OSError` that names the file; callers map it to an `MMSearchError`.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TEMPORARY = re.compile(r"\..+\.\d+|.+\.tmp")
"""The temporary names under which files are written; a killed process leaves such files behind."""
_ARRAY_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biufcSU]\d{1,6})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,18}, ?){0,32}(?:\d{1,18})?)\), ?\}\s*"
)
"""NumPy's header of an array with a plain type, which excludes records and Python objects."""
_MAX_HEADER_BYTES = 2**12
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class IrregularFileError(OSError):
    """The name is that of a pipe, a device, a socket, a folder, or a link that isn't allowed."""


class OversizedFileError(OSError):
    """The file, or its unpacked content, is larger than any that mmsearch writes under this name."""


# Reading


def open_regular(path: Path | bytes | str, *, follow_links: bool = True) -> io.BufferedReader:
    """Open a regular file for reading. Raises `IrregularFileError` for anything else; never blocks on a pipe.

    Without `follow_links`, a link is refused as well.
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
    """Return the content of a regular file. Raises `OversizedFileError` if it is larger than `most_bytes`."""
    with open_regular(path, follow_links=follow_links) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise _oversized(path, most_bytes)
    return content


def unpack_arrays(content: bytes, path: Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name; errors mention `path`.

    Raises `OversizedFileError` if the arrays take more than `most_bytes` together, whatever sizes the archive declares,
    and `ValueError` if they aren't arrays of numbers or text.
    """
    arrays: dict[str, NDArray[Any]] = {}
    left = most_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("it is compressed by a method that mmsearch doesn't use")
                if member.file_size > left:
                    raise _oversized(path, most_bytes)
                with archive.open(member) as packed:
                    raw = packed.read(left + 1)
                if len(raw) > left:
                    raise _oversized(path, most_bytes)
                left -= len(raw)
                arrays[member.filename.removesuffix(".npy")] = unpack_array(raw)
    except (OversizedFileError, ValueError):
        raise
    except Exception as error:
        # For a broken archive, zipfile raises errors of many types: BadZipFile, zlib.error, RuntimeError, struct.error.
        raise ValueError(f"it is no archive of arrays ({error or type(error).__name__})") from None
    return arrays


def unpack_array(raw: bytes) -> NDArray[Any]:
    """Return the array of an npy file: numbers, booleans or text.

    Raises `ValueError` if the file isn't in NumPy's format for these, or its length doesn't match its header.
    """
    start, dtype, shape, order = _array_header(raw)
    if math.prod(shape) * dtype.itemsize != len(raw) - start:
        raise ValueError("an array in it is longer or shorter than its header says")
    return np.frombuffer(raw, dtype, math.prod(shape), start).reshape(shape, order=order)


def _array_header(raw: bytes) -> tuple[int, np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """Return the offset of the data in an npy file, its type, shape and order. Raises `ValueError`.

    NumPy's own reader evaluates the header as Python, which for a crafted one raises MemoryError, SyntaxError etc.
    """
    width = {b"\x01": 2, b"\x02": 4, b"\x03": 4}.get(raw[6:7])
    if raw[:6] != b"\x93NUMPY" or width is None:
        raise ValueError("it holds something that is no array")
    begin = 8 + width
    start = begin + int.from_bytes(raw[8:begin], "little")
    header = _ARRAY_HEADER.fullmatch(raw[begin:start]) if start - begin <= _MAX_HEADER_BYTES else None
    if header is None:
        raise ValueError("its arrays are not of numbers or text")
    code, by_column, lengths = (part.decode() for part in header.groups())
    try:
        dtype = np.dtype(code)
    except TypeError:
        raise ValueError(f"it holds an array of an unknown type ({code})") from None
    return (
        start,
        dtype,
        tuple(int(length) for length in re.findall(r"\d+", lengths)),
        "F" if by_column == "True" else "C",
    )


# Writing


def write_whole(file: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file under a temporary name, sync it and rename it. Raises `OSError`, and then leaves no file.

    Without `sync`, a crash of the machine may damage the file; use that for files that are verified and easily rebuilt.
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
    """Remove temporary files that killed processes left in `write_whole`. No other process may write the file now."""
    names = re.compile(rf"\.{re.escape(file.name[:200])}\.\d+")
    remove_own(file.parent, file.parent, Layout(names), lambda _: True)


def open_new(temporary: Path) -> io.BufferedRandom:
    """Create a file for writing and reading. An existing file or link of this name is removed first."""
    with suppress(FileNotFoundError):
        temporary.unlink()  # left by a killed process of the same id, or a hostile link
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(temporary, flags, 0o666), "w+b")


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder and its parents. Raises `OSError` if a link or a file is in the way below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    path = root
    for part in folder.relative_to(root).parts:
        path /= part
        with suppress(FileExistsError):
            path.mkdir()
        if not _is_folder(path):
            raise NotADirectoryError(errno.ENOTDIR, "it has to be a real folder, no link and no file", str(path))


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk. Raises `OSError`. Windows has no such call, and needs none."""
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
    """The names of mmsearch's files and subfolders in one of its folders, as patterns that match a whole name."""

    files: re.Pattern[str] | None = None
    folders: Mapping[re.Pattern[str], Layout] = field(default_factory=dict)

    def below(self, name: str) -> Layout | None:
        """Return the layout of a subfolder of this name, None if mmsearch makes no such folder."""
        return next((layout for pattern, layout in self.folders.items() if pattern.fullmatch(name)), None)


def is_real_folder(folder: Path, root: Path) -> bool:
    """Return whether `folder` is a folder that is reached from `root` without a link; `root` itself may be a link."""
    path = root
    for part in folder.relative_to(root).parts:
        path /= part
        if not _is_folder(path):
            return False
    return folder != root or root.is_dir()


def is_link(path: Path) -> bool:
    """Return whether a path is a link, or a junction on Windows."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or _is_junction(status)


def find_foreign(folder: Path, root: Path, layout: Layout) -> Path | None:
    """Return a path that makes a folder below `root` unusable, None if there is none.

    That is a link on the way to the folder, or a link or folder under the name of one of its files. `layout` is that of
    `root`, which itself may be a link. Files and folders that don't exist yet are fine.
    """
    path = root
    for part in folder.relative_to(root).parts:
        path, below = path / part, layout.below(part)
        if not os.path.lexists(path):
            return None
        if below is None or not _is_folder(path):
            return path
        layout = below
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                named = layout.files is not None and layout.files.fullmatch(entry.name)
                if named and not entry.is_file(follow_symlinks=False):
                    return folder / entry.name
    except OSError:  # the folder is missing, or unreadable, which its reader will report
        return None
    return None


def remove_own(folder: Path, root: Path, layout: Layout, unwanted: Callable[[str], bool]) -> list[Path]:
    """Remove mmsearch's own files from a folder below `root`, if `unwanted` holds for their names; return their paths.

    A file is removed only if its name, and the names of all folders on the way, match the layout. A folder is removed
    when it is empty. Links are neither followed nor removed, and files that can't be removed stay.
    """
    with suppress(OSError), _real_folder(folder, root) as opened:
        return list(_removed(folder, opened, layout, unwanted))
    return []


_HAS_DIR_FD = {os.open, os.stat, os.unlink, os.rmdir} <= os.supports_dir_fd and os.listdir in os.supports_fd
"""Whether files can be addressed relative to an open folder, so that nobody can replace the folder by a link."""


@contextmanager
def _real_folder(folder: Path, root: Path) -> Iterator[int | None]:
    """Hold a folder below `root` open without following links; yield its descriptor, None if there are none here.

    Raises `OSError` if a part of the path is a link or no folder.
    """
    if not is_real_folder(folder, root):
        raise NotADirectoryError(errno.ENOTDIR, "it has to be a real folder", str(folder))
    if not _HAS_DIR_FD:
        yield None
        return
    with ExitStack() as stack:
        opened = stack.enter_context(_open_folder(root, None, follow=True))
        for part in folder.relative_to(root).parts:
            opened = stack.enter_context(_open_folder(part, opened))
        yield opened


@contextmanager
def _open_folder(name: str | Path, above: int | None, *, follow: bool = False) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(name, flags, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _removed(folder: Path, opened: int | None, layout: Layout, unwanted: Callable[[str], bool]) -> Iterator[Path]:
    """Remove unwanted files of a folder and yield their paths; they are named relative to its descriptor, if any."""
    for name in sorted(os.listdir(folder if opened is None else opened)):  # noqa: PTH208  names are matched
        path = folder / name
        target: str | Path = path if opened is None else name
        if not unwanted(name):
            continue
        if (below := layout.below(name)) is not None and _is_folder(target, opened):
            with suppress(OSError):  # it has become a link, or a file of the user's is left in it
                with nullcontext() if opened is None else _open_folder(name, opened) as inner:
                    yield from _removed(path, inner, below, lambda _: True)
                os.rmdir(target, dir_fd=opened)
                yield path
        elif layout.files is not None and layout.files.fullmatch(name) and _is_file(target, opened):
            with suppress(OSError):  # a reader has mapped it (Windows), or the folder is read-only
                os.unlink(target, dir_fd=opened)
                yield path


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  names are matched, not walked
    except OSError:
        return []


def temporary_files(folder: Path, root: Path, layout: Layout) -> Iterator[Path]:
    """Yield the temporary files that killed processes left in a folder of this layout and below it."""
    if layout.files is not None and is_real_folder(folder, root):
        for name in _names(folder):
            if TEMPORARY.fullmatch(name) and layout.files.fullmatch(name) and _is_file(folder / name):
                yield folder / name
    for name, below in subfolders(folder, root, layout):
        yield from temporary_files(folder / name, root, below)


def remove_temporary(folder: Path, root: Path, layout: Layout) -> None:
    """Remove the files of `temporary_files`, except those that can't be removed."""
    for file in list(temporary_files(folder, root, layout)):
        with suppress(OSError):
            file.unlink()


def subfolders(folder: Path, root: Path, layout: Layout) -> Iterator[tuple[str, Layout]]:
    """Yield the names and layouts of a folder's subfolders that match its layout; links are left out."""
    for name in _names(folder):
        if (below := layout.below(name)) is not None and is_real_folder(folder / name, root):
            yield name, below


def size_of(folder: Path) -> int:
    """Return the total size in bytes of the regular files below a folder. Links aren't followed."""
    total = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _is_folder(Path(parent, name))]
        for name in names:
            with suppress(OSError):  # it was removed meanwhile
                status = os.lstat(Path(parent, name))
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def mtime_ns(status: os.stat_result) -> int:
    """Return a file's mtime in nanoseconds, clamped to the catalog's 64 bits (years 1677 to 2262)."""
    return min(max(status.st_mtime_ns, -(2**63)), 2**63 - 1)


def _is_folder(path: Path | str, above: int | None = None) -> bool:
    return _has_mode(path, stat.S_ISDIR, above)


def _is_file(path: Path | str, above: int | None = None) -> bool:
    return _has_mode(path, stat.S_ISREG, above)


def _has_mode(path: Path | str, holds: Callable[[int], bool], above: int | None) -> bool:
    try:
        status = os.stat(path, dir_fd=above, follow_symlinks=False)
    except OSError:
        return False
    return holds(status.st_mode) and not _is_junction(status)


def _is_junction(status: os.stat_result) -> bool:
    return bool(getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT)


def _irregular(path: Path | bytes | str) -> IrregularFileError:
    return IrregularFileError(errno.EINVAL, "it is not a regular file", os.fsdecode(path))


def _oversized(path: Path, most_bytes: int) -> OversizedFileError:
    return OversizedFileError(errno.EFBIG, f"it holds more than {most_bytes:,} bytes", str(path))
