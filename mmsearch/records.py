"""The records that go from decoding to a hit: segments, the texts that belong to them, and the facts of a file.

A segment is one class at every stage. What stands for its views changes on the way: payloads when it is decoded, inputs
of the towers when it is prepared, vectors when it is encoded or read from the catalog, and nothing in a hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from mmsearch.facts import FACTS_VERSION as FACTS_VERSION
from mmsearch.facts import DatedBy as DatedBy
from mmsearch.facts import FileFacts as FileFacts
from mmsearch.facts import Origin as Origin
from mmsearch.types import Modality, View

if TYPE_CHECKING:
    from mmsearch.types import Failure, Payload

Payloads: TypeAlias = "Mapping[View, tuple[Payload, ...]]"
"""The views of a decoded segment: one payload each, or several whose mean stands for the view."""

Views = TypeVar("Views", covariant=True)
OtherViews = TypeVar("OtherViews")


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
