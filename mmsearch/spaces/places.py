"""Paths in the user's cache, by the name of a model."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from mmsearch.paths import expand


def cache_folder() -> Path:
    """Return the cache folder. It may be deleted at any time: `mmsearch model pull` makes its content again."""
    if named := os.environ.get("MMSEARCH_CACHE"):
        return _absolute(named)
    import platformdirs  # not needed if the cache is named

    return platformdirs.user_cache_path("mmsearch", appauthor=False)


@lru_cache(maxsize=8)
def _absolute(named: str) -> Path:
    """Return the absolute path of a name at its first use: a program may change its working directory later."""
    return expand(named).absolute()


def slug(name: str) -> str:
    """Return the readable end of a name, at most 60 characters, for use in a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-60:].strip("-.") or "model"


def export_folder(name: str, fingerprint: str) -> Path:
    """Return the folder of an exported model."""
    return cache_folder() / "spaces" / f"{slug(name)}-{fingerprint}"


def source_file(name: str) -> Path:
    """Return the file that records the fingerprint of a name at its last export."""
    return cache_folder() / "sources" / _file_name(name)


def approval_file(name: str) -> Path:
    """Return the file that records the state of a space folder when the user approved it."""
    return cache_folder() / "approved" / _file_name(name)


def _file_name(name: str) -> str:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return f"{slug(name)}-{digest}.json"


def remedy(name: str) -> str:
    """Return the part of a message that tells the user how to approve a model that a library names."""
    import shlex  # users copy the command into a shell, and a name may contain anything

    return f"run 'mmsearch model pull {shlex.quote(name)}'"
