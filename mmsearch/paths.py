"""Converts paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Return a path with `~` expanded. For an unknown user, `~` is kept, whereas `Path.expanduser` would raise."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def absolute(path: str | Path) -> bytes:
    """Return an absolute path as bytes, with `~` expanded; links aren't resolved."""
    return os.path.abspath(os.fsencode(expand(path)))  # noqa: PTH100
