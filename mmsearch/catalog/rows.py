"""The rows that go into a catalog and come out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmsearch.records import FileFacts, Segment
from mmsearch.types import Modality, Stage, View

Ids = NDArray[np.int64]
"""Ids of embeddings, sorted."""


OF_A_PART = (Stage.DECODE, Stage.ENCODE)
"""The stages of a failure that, at a file which the catalog holds, is one of a part of its content."""


def check_types(rows: Sequence[Sequence[Any]], *kinds: type | tuple[type | None, ...] | None) -> None:
    """Raise `TypeError` unless each column of the rows is of its kinds; None checks nothing.

    SQLite stores a value of any type in any column, and a catalog may come from anyone.
    """
    for column, kind in zip(zip(*rows, strict=True), kinds, strict=False):  # without rows, there are no columns
        if kind is not None:
            wanted = {type(None) if one is None else one for one in (kind if isinstance(kind, tuple) else (kind,))}
            if odd := set(map(type, column)) - wanted:
                raise TypeError(f"a value is of the type {min(one.__name__ for one in odd)}")


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A path of the library: which content it names, and what its file looked like when it was indexed.

    `embedded_by` is None where the profile hasn't embedded the content, whatever others have.
    """

    id: int
    path: bytes
    content_id: int
    size_bytes: int
    mtime_ns: int
    sidecars: str
    device: str
    embedded_by: str | None
    resume_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A profile of the library: its name, what its spaces are made from, and the precision that was chosen for them."""

    id: int
    name: str
    pins: tuple[str, ...]
    precision: str


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A path to be put into the catalog, or to be pointed at another content."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    sidecars: str
    device: str

    @property
    def stamp(self) -> str:
        """Changes whenever the file or its sidecars do."""
        return stamp_of(self.size_bytes, self.mtime_ns, self.sidecars)


def stamp_of(size_bytes: int, mtime_ns: int, sidecars: str) -> str:
    """Return what failures know a file's state by: it changes whenever the file or its sidecars do."""
    return f"{size_bytes}:{mtime_ns};{sidecars}"


NewSegment: TypeAlias = Segment[Mapping[tuple[int, View], NDArray[Any]]]
"""A segment to be committed, with one vector, (dim,) float32, for each (space id, view) that embeds it."""


@dataclass(frozen=True, slots=True)
class NewContent:
    """A content to be committed, in place of what the catalog holds under this hash; or its next part, after that.

    `from_s` is where the part begins, 0 for the first one; `resume_s` is where the next one does, None for the last.
    `facts` come with the first part.
    """

    hash: bytes
    modality: Modality
    segments: Sequence[NewSegment]
    names: Sequence[NewMedia]
    from_s: float = 0.0
    resume_s: float | None = None
    facts: FileFacts | None = None


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The catalog at one moment, as one profile sees it.

    `current` is the id of the profile that answers, None in a new library; `revision` is that of the profile's
    embeddings: see `EmbeddingReader.revision`.
    """

    current: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A file that couldn't be indexed: `stamp` and `version` say when it is worth another try."""

    path: bytes
    stage: str
    reason: str
    stamp: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow(Segment[None]):
    """A segment as candidates need it: with its content and that one's first path in byte order.

    Its texts aren't read with it, for few of the candidates become hits: see `EmbeddingReader.texts_of`.
    """

    id: int
    content_id: int
    modality: Modality
    path: bytes


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """What is written beside or in a picture, a sound or a clip, with the content's first path in byte order."""

    path: bytes
    modality: Modality
    text: str


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A vector (dim,) of half or single precision as a segment has it; `draw` is its place in samples."""

    space_id: int
    view: View
    draw: int
    vector: NDArray[Any]


StoredSegment: TypeAlias = Segment[tuple[StoredVector, ...]]
"""A segment with all of its vectors."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A content with its segments in order; `path` is its first in byte order, None where no path names it any more."""

    id: int
    hash: bytes
    modality: Modality
    path: bytes | None
    segments: tuple[StoredSegment, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A content that the catalog holds, and where decoding it goes on: None where it was decoded to its end."""

    id: int
    modality: Modality
    resume_s: float | None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors with the segments and views they belong to; row i of each. `vectors` is (n, dim) float32."""

    ids: Ids
    segment_ids: Ids
    views: tuple[View, ...]
    vectors: NDArray[np.float32]
