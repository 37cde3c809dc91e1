"""Texts a line each, packed or not."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from mmsearch.files import OversizedFileError, open_regular

_LONGEST_LINE = 2**24
"""Characters. A few kilobytes of gzip can unpack to a line of gigabytes."""


def read_lines(file: Path, *, empty: bool = False) -> Iterator[str]:
    """Yield the lines of a text, packed or not, that aren't empty, or all of them.

    Raises `OSError` where the file can't be read, isn't a regular one (a pipe would block) or has a line of more than
    16 million characters.
    """
    with open_regular(file) as raw:
        content = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        with io.TextIOWrapper(content, encoding="utf-8") as opened:
            while line := opened.readline(_LONGEST_LINE + 1):
                if len(line) > _LONGEST_LINE:
                    raise OversizedFileError(f"{file} has a line of more than {_LONGEST_LINE:,} characters; split it")
                if (words := line.strip()) or empty:
                    yield words
