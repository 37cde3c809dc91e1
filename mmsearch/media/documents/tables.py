"""CSV and TSV → rows in words: each cell with the name of its column."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice

from mmsearch.errors import MediaError
from mmsearch.media.documents.document import Document, Section
from mmsearch.media.encodings import decode_text

_DELIMITERS = ",;\t|"
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 50, 2**16
_LONGEST_CELL = 2**20
_ROWS = 50
"""Rows of one section: a passage never spans two."""
_MOST_ROWS = 200_000


def read_table(raw: bytes) -> Document:
    """Read a table in text. Raises `MediaError`."""
    text = decode_text(raw)
    csv.field_size_limit(_LONGEST_CELL)
    delimiter = _delimiter(text)
    rows = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        first = next(rows, [])
        names = [name.strip() for name in first] if _are_names(first) else []
        body = [] if names else [first]
        sections: list[Section] = []
        body += islice(rows, _MOST_ROWS)
        cut = next(rows, None)
    except csv.Error as error:
        raise MediaError(f"not a table that can be read: {error}") from None
    for start in range(0, len(body), _ROWS):
        # A row ends like a sentence, so that none is cut where another one still fits.
        lines = (", ".join(_cells(row, names)) for row in body[start : start + _ROWS])
        sections.append(Section("\n".join(line for line in lines if line), page=None))
    if not body and names:
        sections.append(Section(", ".join(names)))
    return Document(tuple(sections), cut=f"only its first {_MOST_ROWS:,} rows are read; split it" if cut else None)


def _delimiter(text: str) -> str:
    """Return the sign that parts the cells: the one that stands in most lines equally often, and most often."""
    lines = [line for line in text[:_SAMPLE_CHARACTERS].splitlines()[:_SAMPLE_LINES] if line.strip()]
    best, most = ",", 0.0
    for sign in _DELIMITERS:
        counts = [line.count(sign) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        weight = counts.count(usual) * min(usual, 20) / max(1, len(lines))
        if usual and weight > most:
            best, most = sign, weight
    return best


def _are_names(row: list[str]) -> bool:
    """Return whether a first row names the columns: all of its cells are different words, and none is a number."""
    cells = [cell.strip() for cell in row]
    return len(cells) > 1 and len(set(cells)) == len(cells) and all(any(map(str.isalpha, cell)) for cell in cells)


def _cells(row: list[str], names: list[str]) -> Iterator[str]:
    for number, cell in enumerate(row):
        if words := " ".join(cell.split()):
            yield f"{names[number]}: {words}" if number < len(names) else words
