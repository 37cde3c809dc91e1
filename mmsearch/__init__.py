"""mmsearch: find photos, videos, sounds and notes by what they mean.

import mmsearch

library = mmsearch.open("~/photos.mmsearch")
library.index("photos")
hits = library.query("red car", k=10)
"""

from mmsearch.errors import (
    CatalogError,
    LibraryError,
    LockedError,
    MediaError,
    MMSearchError,
    ModelError,
    NoLibraryError,
    QueryError,
    UsageError,
)
from mmsearch.library import Library, embed
from mmsearch.library import open_library as open
from mmsearch.settings import Limits, Settings
from mmsearch.types import (
    Failure,
    Hit,
    IndexReport,
    IndexStatus,
    Modality,
    Progress,
    Segment,
    Stage,
    Status,
    Term,
    View,
)

__all__ = [
    "CatalogError",
    "Failure",
    "Hit",
    "IndexReport",
    "IndexStatus",
    "Library",
    "LibraryError",
    "Limits",
    "LockedError",
    "MMSearchError",
    "MediaError",
    "Modality",
    "ModelError",
    "NoLibraryError",
    "Progress",
    "QueryError",
    "Segment",
    "Settings",
    "Stage",
    "Status",
    "Term",
    "UsageError",
    "View",
    "embed",
    "open",
]
