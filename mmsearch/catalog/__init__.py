"""What a library holds, in SQLite: the single source of truth."""

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.rows import (
    Embeddings,
    FailureRow,
    Ids,
    Known,
    MediaRow,
    NewContent,
    NewMedia,
    NewSegment,
    SegmentRow,
    stamp_of,
)

__all__ = [
    "Catalog",
    "Embeddings",
    "FailureRow",
    "Ids",
    "Known",
    "MediaRow",
    "NewContent",
    "NewMedia",
    "NewSegment",
    "SegmentRow",
    "stamp_of",
]
