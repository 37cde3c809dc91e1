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
]
