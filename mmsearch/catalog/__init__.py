"""The catalog of a library, in SQLite: the single source of truth."""

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.roots import Root
from mmsearch.catalog.rows import (
    OF_A_PART,
    CaptionRow,
    CatalogState,
    Embeddings,
    FailureRow,
    Ids,
    Known,
    MediaRow,
    NewContent,
    NewMedia,
    NewSegment,
    ProfileRow,
    SegmentRow,
    StoredContent,
    StoredVector,
    stamp_of,
)

__all__ = [
    "OF_A_PART",
    "CaptionRow",
    "Catalog",
    "CatalogState",
    "Embeddings",
    "FailureRow",
    "Ids",
    "Known",
    "MediaRow",
    "NewContent",
    "NewMedia",
    "NewSegment",
    "ProfileRow",
    "Root",
    "SegmentRow",
    "StoredContent",
    "StoredVector",
    "stamp_of",
]
