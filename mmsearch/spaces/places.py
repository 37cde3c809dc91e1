"""Where the user's cache keeps what belongs to a model, by the model's name."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from mmsearch.paths import expand


def cache_folder() -> Path:
    """Return the folder that exported models are kept in; all of it may be deleted at any time.

    What a library needs of it is made again by `mmsearch model pull`.
    """
    if named := os.environ.get("MMSEARCH_CACHE"):
        return _absolute(named)
    import platformdirs  # a cache that is named needs none of this

    return platformdirs.user_cache_path("mmsearch", appauthor=False)


@lru_cache(maxsize=8)
def _absolute(named: str) -> Path:
    """Return the folder that a name stood for when it was first used: a program may change its working directory."""
    return expand(named).absolute()


def slug(name: str) -> str:
    """Return a name as part of a file's name: its readable end, short."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-60:].strip("-.") or "model"


def export_folder(name: str, fingerprint: str) -> Path:
    """Return the folder of an exported model."""
    return cache_folder() / "spaces" / f"{slug(name)}-{fingerprint}"


def source_file(name: str) -> Path:
    """Return the file that says which fingerprint a name stood for when it was last exported."""
    return cache_folder() / "sources" / _file_name(name)


def approval_file(name: str) -> Path:
    """Return the file that says what a space folder looked like when the user named it."""
    return cache_folder() / "approved" / _file_name(name)


def _file_name(name: str) -> str:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return f"{slug(name)}-{digest}.json"


def remedy(name: str) -> str:
    """Return what a message tells the user to run so that a model that a library names can be used."""
    import shlex  # a name may hold anything, and is copied into a shell

    return f"run 'mmsearch model pull {shlex.quote(name)}'"
