"""What is known beside vectors: the facts of a file, and where a text comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

FACTS_VERSION = 2
"""Raised when more is read of a file than before: the next index run reads the facts of every file again."""


class Origin(StrEnum):
    """Where a text comes from."""

    PASSAGE = "passage"
    """A part of a text file."""
    CAPTION = "caption"
    """What somebody wrote about a picture or a whole clip, beside it or in it."""
    SUBTITLE = "subtitle"
    """What is said in a moment of a sound or clip, by its subtitles."""
    OCR = "ocr"
    SPEECH = "speech"
    TAGS = "tags"
    """Keywords, names of people and of the place, as somebody or a program gave them."""
    GENERATED = "generated"


class DatedBy(StrEnum):
    """Where the date of a file comes from."""

    FILE = "file"
    SIDECAR = "sidecar"
    NAME = "name"
    """The file's name: the day, or the time, that stands in it."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file and its sidecars say of it; None where they don't.

    `taken_at` is the local time where it was taken, with its offset from UTC where that is known; `dated_by` says who
    gives it. Latitude and longitude are degrees, north and east positive; `place` is the name of a place. `camera` is
    its maker and model. `width` and `height` are pixels of the upright picture. `rating` is 1 to 5, or -1 where it was
    rejected. `keywords` and `people` are words that somebody gave it, and names of who is seen or takes part.

    Each field is a column of the catalog's table `file_facts`, of the same name.
    """

    taken_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    dated_by: DatedBy | None = None
    place: str | None = None
    lens: str | None = None
    rating: int | None = None
    keywords: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
