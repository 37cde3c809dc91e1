"""The records that go from decoding to a hit: segments, the texts that belong to them, and the facts of a file.

A segment is one class at every stage. What stands for its views changes on the way: payloads when it is decoded, inputs
of the towers when it is prepared, vectors when it is encoded or read from the catalog, and nothing in a hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from mmsearch.types import Modality, View

if TYPE_CHECKING:
    from datetime import datetime

    from mmsearch.types import Failure, Payload

FACTS_VERSION = 2
"""Raised when more is read of a file than before: the next index run reads the facts of every file again."""

Payloads: TypeAlias = "Mapping[View, tuple[Payload, ...]]"
"""The views of a decoded segment: one payload each, or several whose mean stands for the view."""

Views = TypeVar("Views", covariant=True)
OtherViews = TypeVar("OtherViews")


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


@dataclass(frozen=True, slots=True)
class Text:
    """Words that belong to a segment.

    `language` is a code such as "en", as the file or its name gives it, "" where it isn't known. `span` is when they
    are said, in seconds from the start of the media; None where they belong to the whole segment.
    """

    origin: Origin
    words: str
    language: str = ""
    span: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Segment(Generic[Views]):
    """What can be found: an image, a shot of a video, a window of sound, or a passage of text.

    Times are seconds from the start of the media, None for images and texts. Of the `texts`, the first is shown.
    `silent` marks a sound that nobody hears: peak below -74 dB of full scale. `page` is that of a document, from 1,
    and `heading` the one above a passage.

    Each field but `views` and `texts` is a column of the catalog's table `segment`, of the same name.
    """

    views: Views
    start_s: float | None = None
    end_s: float | None = None
    texts: tuple[Text, ...] = ()
    silent: bool = False
    page: int | None = None
    heading: str | None = None

    def with_views(self, views: OtherViews) -> Segment[OtherViews]:
        """Return the same segment at another stage."""
        changed: dict[str, Any] = {"views": views}
        return replace(self, **changed)  # type: ignore[return-value]  # mypy knows no change of the parameter


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


@dataclass(frozen=True, slots=True)
class Item:
    """A content that a library holds.

    `id` names it as long as the library holds it. Of the paths that name it, `path` is the first in byte order. `texts`
    is what is written in it and beside it, in order, without repeats; `facts` is what its file says of itself.
    """

    id: int
    path: Path
    modality: Modality
    texts: tuple[Text, ...]
    facts: FileFacts


@dataclass(frozen=True, slots=True)
class Details:
    """All that a library knows of a file.

    `paths` are the names of its content, in byte order; `segments` what of it can be found, in order, each with its
    texts. `failure` says why the file can't be indexed, or not wholly. A file that failed from the start has no `item`.
    """

    paths: tuple[Path, ...]
    item: Item | None = None
    segments: tuple[Segment[None], ...] = ()
    failure: Failure | None = None
