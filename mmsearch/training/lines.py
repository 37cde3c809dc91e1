"""Texts a line each, packed or not."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from mmsearch.files import open_regular


def read_lines(file: Path, *, empty: bool = False) -> Iterator[str]:
    """Yield the lines of a text, packed or not, that aren't empty, or all of them.

    Raises `OSError` where the file can't be read or isn't a regular one: a pipe would block.
    """
    with open_regular(file) as raw:
        content = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        with io.TextIOWrapper(content, encoding="utf-8") as opened:
            for line in opened:
                if (words := line.strip()) or empty:
                    yield words
