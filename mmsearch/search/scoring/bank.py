"""The query bank: queries as people type them, which measure what unrelated queries find in a library."""

from __future__ import annotations

from functools import cache
from pathlib import Path

SIZE = 512
"""How many are asked: the file's first lines are a fair sample of all, in kinds and in languages."""


@cache
def bank(size: int = SIZE) -> tuple[str, ...]:
    """Return queries for things, scenes, sounds and notes, seven of ten in English, else in German, French or Czech.

    They were written for this purpose, and none is of a data set that mmsearch is evaluated with.
    """
    return tuple(Path(__file__).with_name("bank.txt").read_text("utf-8").splitlines()[:size])
