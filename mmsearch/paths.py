"""Paths as people write them, and files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def expand(path: str | Path) -> Path:
    """Return a path with its `~` replaced; one of a user who doesn't exist stays as it is, where Path's own raises."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def size_of(folder: Path) -> int:
    """Return how many bytes the files below a folder take; what goes meanwhile counts nothing."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it and give it its own. Raises `OSError`, and leaves nothing then."""
    temporary = file.with_name(f".{file.name[:200]}.{os.getpid()}")
    try:
        with temporary.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; raises `OSError`. Windows has no such call, and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
