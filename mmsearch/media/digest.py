"""The name of a content: a digest of its bytes and of the captions beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from mmsearch.errors import MediaError
from mmsearch.media.decode import open_regular
from mmsearch.media.sidecar import sidecar_names

DIGEST_BYTES = 20
_READ_BYTES = 2**20


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
    beside = (os.path.join(folder, sidecar) for sidecar in sidecar_names(name))  # noqa: PTH118  paths are bytes here
    return tuple(sidecar for sidecar in beside if os.path.isfile(sidecar))  # noqa: PTH113


def _digest_or_nothing(path: bytes) -> bytes:
    try:
        return _digest(path)
    except (MediaError, OSError):
        return bytes(DIGEST_BYTES)


def _digest(path: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open_regular(path) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.digest()
