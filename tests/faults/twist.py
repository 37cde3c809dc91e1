"""One hostile library or model folder: what makes it from a good one, and what may still answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CATALOG = "catalog.sqlite"
PLAIN, ADAPTED, NEW = "plain", "adapted", "new"
Make = Callable[[Path, Path], None]
"""What changes a library; the second folder is somebody's own, and must stay as it is."""


@dataclass(frozen=True, slots=True)
class Twist:
    """One hostile library or model folder: `base` is the good library that it was, or none yet."""

    name: str
    make: Make
    base: str = PLAIN
    answers: bool = True
    """Whether a query that succeeds must answer as the good library does; else a part of that will do."""
    empty: bool = False
    """Whether a query may find nothing until the next index run, for that is what every row of the catalog says."""
