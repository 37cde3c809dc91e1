"""The words of mmsearch as data: what a modality, a view, a failure and a hit are. Segments are in `records.py`.

Everything here is immutable and imports nothing but the standard library and, for annotations, NumPy and Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from mmsearch.metrics import Interval

    Picture: TypeAlias = Image
    """A picture of Pillow."""
    QueryInput: TypeAlias = str | Path | bytes | Image | NDArray[Any]
    """What a query may ask with: a text, a file, the bytes of one, a picture, pixels, or a vector of the model."""

    Payload: TypeAlias = Image | NDArray[np.float32] | str
    """What a view is before it is embedded: an RGB picture, a mono waveform in [-1, 1], or a passage."""


class Modality(StrEnum):
    """What kind of file a media is."""

    AUDIO = "audio"
    IMAGE = "image"
    TEXT = "text"
    VIDEO = "video"


class View(StrEnum):
    """The side of a segment that is embedded; AVID's instance (v_i, a_i), and its words."""

    AUDIO = "audio"
    TEXT = "text"
    VISUAL = "visual"


class Stage(StrEnum):
    """Where in an index run a file failed."""

    SCAN = "scan"
    READ = "read"
    DECODE = "decode"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that couldn't be indexed, with the reason in one line."""

    path: Path
    stage: Stage
    reason: str


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an index run did, counted in files.

    `added` are paths new to the library, `updated` known paths with new content, `reused` new or touched paths whose
    content was already embedded (a rename, a move, a copy), `removed` paths that are gone. `kept` lists folders that
    suddenly show nothing, whose files were kept until `prune` is asked for. `switched_to` names the model that answers
    from this run on, where the library changed to it; `unreached` are the files that prevent that, `first_unreached`
    one of them: they aren't there, can't be read, or the new model can't encode them.
    """

    added: int = 0
    updated: int = 0
    reused: int = 0
    removed: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()
    kept: tuple[Path, ...] = ()
    interrupted: bool = False
    switched_to: str | None = None
    unreached: int = 0
    first_unreached: Path | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check of `mmsearch doctor`, with its finding in a line. `repaired`: it found a fault, and that is mended."""

    check: str
    ok: bool
    detail: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Gain:
    """What adapting gained in a direction, such as "text→visual", on pairs that were held out.

    `metric` is "recall@10", or "mrr" in a small library; `difference` has a 95 % interval.
    """

    direction: str
    queries: int
    metric: str
    before: float
    after: float
    difference: Interval


@dataclass(frozen=True, slots=True)
class AdaptReport:
    """What adapting a library to itself came to.

    `adapted` says whether it was: the interval of `overall`, the mean gain over the held-out pairs, lies above 0 then.
    `pairs` are the contents that were learnt from or judged by, `model` names what the library answers with now.
    """

    adapted: bool
    model: str
    pairs: int
    overall: Interval
    gains: tuple[Gain, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an index run is: files done of `total`, and whether `decode` or `encode` bounds the rate.

    `under_way` is a long file of which parts are done, and `until_s` how much of it.
    """

    done: int
    total: int
    failed: int
    bound: str
    under_way: Path | None = None
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, a file or another input, with its weight; a negative weight steers away."""

    item: QueryInput
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another answer that a hit agrees with, by how many standard deviations more than unrelated contents do."""

    path: Path
    similarity: float


@dataclass(frozen=True, slots=True)
class Why:
    """What a hit's score and confidence are made of, in standard deviations of unrelated contents.

    `score` is `first_stage` + `agreement`. `hubness`, what the item is near to whatever is asked, is taken off only
    where confidence is measured (None where it isn't). `neighbours` are the first answers most like it, best first.
    """

    first_stage: float
    hubness: float | None
    agreement: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A content that answers, at its best segment.

    `score` is higher-is-better and comparable within one answer only. `confidence` is in [0, 1], or None where the
    library is too small to be calibrated. `view` and `space` name the largest contributor to the score. `why` is there
    where it was asked for. `id` names the item: see `Item`. Where a filter alone asked, `score` is the date, in seconds
    from 1970 by the clock on the wall where the content was made, `view` its main one, and `space` "". `page`
    (from 1) and `heading` say where a passage stands in its document.
    """

    rank: int
    score: float
    confidence: float | None
    path: Path
    modality: Modality
    view: View
    start_s: float | None
    end_s: float | None
    text: str | None
    space: str
    why: Why | None = None
    id: int | None = None
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a query, how many copies of them were hidden, and how many weak matches were cut."""

    hits: list[Hit]
    hidden: int = 0
    weak: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a library answers in one direction, such as "text→image": each metric with its 95 % interval.

    `difference` is what re-ranking adds to each metric; empty where that wasn't measured.
    """

    direction: str
    queries: int
    metrics: Mapping[str, Interval]
    difference: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One vector index: how many live vectors it answers for, and whether the catalog is ahead of it."""

    space: str
    view: View
    kind: str
    count: int
    stale: bool


@dataclass(frozen=True, slots=True)
class Facets:
    """By what a library's contents can be told apart, and how many there are of each.

    `years` are those in which they were taken, newest first; `cameras` are in order of use. Files that don't say when
    or with what they were taken count in neither.
    """

    modalities: Mapping[Modality, int]
    years: Mapping[str, int]
    cameras: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """What a library holds. `failures` are files that can't be indexed as they are, or not wholly.

    `bytes` is its size on disk. `outdated` files were embedded by another version of the model; `unfinished` ones were
    begun by a run that was stopped. While the library changes to another model, `changing_to` names it and `changed`
    counts the files it has embedded. `kept_models` don't answer, and their vectors are there until `prune` is asked
    for. `precision` is that of the model's towers, where one was chosen. `roots` are the files and folders that an
    index run without paths refreshes, each with the globs that it leaves out there.
    """

    library: Path
    profile: str
    media: Mapping[Modality, int]
    segments: int
    failures: int
    indexes: tuple[IndexStatus, ...]
    bytes: int
    outdated: int = field(default=0)
    unfinished: int = field(default=0)
    changing_to: str | None = None
    changed: int = 0
    kept_models: tuple[str, ...] = ()
    precision: str = ""
    roots: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
