"""The name of a content: a digest of its bytes and of the captions beside it."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from io import BufferedReader

from mmsearch.errors import MediaError
from mmsearch.media.decode import open_regular
from mmsearch.media.sidecar import Sidecars, likely_names

DIGEST_BYTES = 20
_READ_BYTES = 2**20
_SIDECAR_BYTES = 32 * 2**20
"""So much of a caption is read at most."""
_VOID_BYTES, _VOID_SHARE, _PIECES = 2**30, 16, 4_096
"""A file of a gigabyte or more of which less than a sixteenth was written, in its first pieces, is refused."""

_SETTLED_NS = 2 * 10**9
"""A folder that was changed more recently than this may change again without a newer time stamp."""


def content_digest(path: bytes, sidecars: Sequence[bytes]) -> bytes:
    """Return the BLAKE2b-160 digest of a file and of the captions beside it. Raises `MediaError`, `OSError`.

    A photo with another caption is another content: its vectors differ. A caption that can't be read has none.
    """
    digest = _digest(path)
    if not sidecars:
        return digest
    captions = b"".join(map(_digest_or_nothing, sidecars))
    return hashlib.blake2b(digest + captions, digest_size=DIGEST_BYTES).digest()


def find_sidecars(path: bytes) -> tuple[bytes, ...]:
    """Return the captions that stand beside a file, in the order they are read."""
    folder, name = os.path.split(path)
    try:
        names = _sidecars_in(folder).of(name)
    except OSError:  # a folder may let us open a file and yet not list it
        names = likely_names(name)
    beside = (os.path.join(folder, sidecar) for sidecar in names)  # noqa: PTH118  paths are bytes here
    return tuple(sidecar for sidecar in beside if os.path.isfile(sidecar))  # noqa: PTH113


def _sidecars_in(folder: bytes) -> Sidecars:
    """Return the sidecars in a folder, which is listed once for all its files as long as nothing is added to it."""
    changed_ns = os.stat(folder or b".").st_mtime_ns  # noqa: PTH116
    if time.time_ns() - changed_ns < _SETTLED_NS:
        return Sidecars.among(os.listdir(folder or b"."))  # noqa: PTH208
    return _listed(folder, changed_ns)


@lru_cache(maxsize=4)
def _listed(folder: bytes, _changed_ns: int) -> Sidecars:
    return Sidecars.among(os.listdir(folder or b"."))  # noqa: PTH208


def digest_of_bytes(content: bytes) -> bytes:
    """Return the digest of a file of these bytes, with no captions beside it."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _digest_or_nothing(path: bytes) -> bytes:
    try:
        return _digest(path, _SIDECAR_BYTES)
    except (MediaError, OSError):
        return bytes(DIGEST_BYTES)


def _digest(path: bytes, most_bytes: int | None = None) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open_regular(path) as file:
        _refuse_a_void(file)
        while block := file.read(_READ_BYTES):
            digest.update(block)
            if most_bytes is not None and file.tell() >= most_bytes:
                break
    return digest.digest()


def _refuse_a_void(file: BufferedReader) -> None:
    """Refuse a large file that is all but empty: its holes would take hours to read, and hold no media.

    Where a file system has no holes, or doesn't tell, everything counts as data. Raises `MediaError`.
    """
    size = os.fstat(file.fileno()).st_size
    if size < _VOID_BYTES or not hasattr(os, "SEEK_DATA"):
        return
    data, at = 0, 0
    for _ in range(_PIECES):
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data behind this
                break
            data = size
            break
        data, at = data + end - at, end
        if data * _VOID_SHARE >= size:
            break
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    if data * _VOID_SHARE < size:
        written = f"{data / 2**20:,.1f} MB of its {size / 2**30:,.0f} GB"
        raise MediaError(f"only {written} were ever written; finish the download, or remove it")
