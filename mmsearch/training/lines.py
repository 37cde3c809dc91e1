"""Texts a line each, packed or not."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path


def read_lines(file: Path, *, empty: bool = False) -> Iterator[str]:
    """Yield the lines of a text, packed or not, that aren't empty, or all of them."""
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as opened:
        for line in opened:
            if (words := line.strip()) or empty:
                yield words
