"""The records that are written to a catalog and read from it."""

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
"""Stages whose failures mean "partly indexed" if the file is in the catalog."""


def check_types(rows: Sequence[Sequence[Any]], *kinds: type | tuple[type | None, ...] | None) -> None:
    """Raise `TypeError` unless the values of each column have one of its types; None skips a column.

    SQLite stores a value of any type in any column, and a catalog may come from anyone.
    """
    for column, kind in zip(zip(*rows, strict=True), kinds, strict=False):  # without rows, there are no columns
        if kind is not None:
            allowed = {type(None) if item is None else item for item in (kind if isinstance(kind, tuple) else (kind,))}
            if unexpected := set(map(type, column)) - allowed:
                raise TypeError(f"a value is of the type {min(item.__name__ for item in unexpected)}")


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A path of the library, with the id of its content and the state of its file when it was indexed.

    `embedded_by` is None if the model hasn't embedded the content, even if another one has.
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
    """A model of the library: its name, the pins of its spaces, and the precision that was chosen for its towers."""

    id: int
    name: str
    pins: tuple[str, ...]
    precision: str


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A path to be added to the catalog, or to be assigned to another content."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    sidecars: str
    device: str

    @property
    def stamp(self) -> str:
        """A string that changes whenever the file or its sidecars do."""
        return stamp_of(self.size_bytes, self.mtime_ns, self.sidecars)


def stamp_of(size_bytes: int, mtime_ns: int, sidecars: str) -> str:
    """Return the state of a file as failures record it, which changes whenever the file or its sidecars do."""
    return f"{size_bytes}:{mtime_ns};{sidecars}"


NewSegment: TypeAlias = Segment[Mapping[tuple[int, View], NDArray[Any]]]
"""A segment to be committed, with one vector, (dim,) float32, for each (space id, view)."""


@dataclass(frozen=True, slots=True)
class NewContent:
    """A content to be committed, which replaces an earlier one of this hash; or the next part of a content.

    `from_s` is where the part begins, 0 for the first one; `resume_s` is where the next one begins, None for the last.
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
    """The state of the catalog at one moment, for one model.

    `current` is the id of the current model, None in a new library; `revision` is that of the model's embeddings: see
    `EmbeddingReader.revision`.
    """

    current: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A file that couldn't be indexed. It is tried again when its `stamp` or the program's `version` changes."""

    path: bytes
    stage: str
    reason: str
    stamp: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow(Segment[None]):
    """A segment of a candidate, with its content's id, modality and first path in byte order.

    Texts aren't included, since few candidates become hits: see `EmbeddingReader.texts_of`.
    """

    id: int
    content_id: int
    modality: Modality
    path: bytes


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption of a picture, sound or clip, with the content's first path in byte order."""

    path: bytes
    modality: Modality
    text: str


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A vector (dim,) of a segment, in half or single precision; `draw` is the sort key of random samples."""

    space_id: int
    view: View
    draw: int
    vector: NDArray[Any]


StoredSegment: TypeAlias = Segment[tuple[StoredVector, ...]]
"""A segment with all of its vectors."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A content with its segments in order; `path` is its first in byte order, None if it has no path any more."""

    id: int
    hash: bytes
    modality: Modality
    path: bytes | None
    segments: tuple[StoredSegment, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A content of the catalog. `resume_s` is where decoding must continue, None if it was decoded completely."""

    id: int
    modality: Modality
    resume_s: float | None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors (n, dim) float32 with the ids, segments and views of their rows."""

    ids: Ids
    segment_ids: Ids
    views: tuple[View, ...]
    vectors: NDArray[np.float32]
