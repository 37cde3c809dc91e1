"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Return a path with its `~` replaced; one of a user who doesn't exist stays as it is, where Path's own raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def absolute(path: str | Path) -> bytes:
    """Return the bytes of a path from the root on, with its `~` replaced; links in it stay as they are."""
    return os.path.abspath(os.fsencode(expand(path)))  # noqa: PTH100
