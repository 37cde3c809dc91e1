"""Numbers as people read them."""

from __future__ import annotations

import math
from pathlib import Path


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 file, 2,000 files."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def megabytes(folder: Path) -> str:
    """Return how much the files of a folder take on disk."""
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:,.0f} MB"


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them: 02:05, 1:02:05; "?" where they are no number."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def span(start_s: float, end_s: float) -> str:
    """Return a moment as clocks show it: 00:05-00:10."""
    return f"{clock(start_s)}-{clock(math.ceil(end_s) if math.isfinite(end_s) else end_s)}"


def sure(confidence: float | None) -> str:
    """Return a confidence as people read it: "75 % sure"; "" where there is none."""
    return "" if confidence is None else f"{math.floor(100 * confidence)} % sure"
