"""Files below the roots of a library, opened without following a link out of them.

A server hands out files by their number in the catalog. A path there may lead through a link, and a link may lead
anywhere; so a file is opened only if it really lies below a root.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable

from mmsearch.files import open_regular

_HAS_DIR_FD = os.open in os.supports_dir_fd
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


class OutsideRootsError(OSError):
    """The file lies outside of every root, or a link leads out of them."""


def open_below(path: bytes, roots: Iterable[bytes]) -> io.BufferedReader:
    """Open a regular file that lies below one of the roots, by its name and in truth. Never blocks on a pipe.

    A root may be a link itself, and links below a root are followed as long as they end below a root. A root that is
    a file stands for itself. Raises `OutsideRootsError`, and `OSError` for what can't be opened.
    """
    real = os.path.realpath(path)
    folders = sorted(set(roots), key=len, reverse=True)
    if not any(_is_below(path, root) for root in folders):
        raise _outside(path)
    for root in folders:
        real_root = os.path.realpath(root)
        if real == real_root:
            return open_regular(real, follow_links=False)
        if _is_below(real, real_root):
            return _open_inside(real, real_root) if _HAS_DIR_FD else _open_checked(real)
    raise _outside(path)


def _is_below(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/\\") + os.fsencode(os.sep))


def _open_inside(real: bytes, root: bytes) -> io.BufferedReader:
    """Open a file step by step from its root: whatever became a link since its path was resolved is refused."""
    *folders, name = os.path.relpath(real, root).split(os.fsencode(os.sep))
    opened = os.open(root, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER, dir_fd=opened)
            os.close(opened)
            opened = inner
        descriptor = os.open(name, _FILE, dir_fd=opened)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            raise _outside(real) from None
        raise
    finally:
        os.close(opened)
    return _regular(descriptor, real)


def _open_checked(real: bytes) -> io.BufferedReader:
    file = open_regular(real, follow_links=False)
    if os.path.realpath(real) != real:
        file.close()
        raise _outside(real)
    return file


def _regular(descriptor: int, path: bytes) -> io.BufferedReader:
    """Return the file behind a descriptor if it is a regular one, and close it otherwise."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise _outside(path)


def _outside(path: bytes) -> OutsideRootsError:
    return OutsideRootsError(errno.EACCES, "it lies outside of the library's folders", os.fsdecode(path))
