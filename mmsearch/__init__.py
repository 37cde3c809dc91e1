"""mmsearch: find photos, videos, sounds and notes by what they mean.

    import mmsearch

    library = mmsearch.open("~/photos.mmsearch")
    library.index("photos")
    hits = library.query("red car", k=10)

Importing the package loads nothing; each public name loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.errors import (
        CatalogError,
        DiskFullError,
        FilterError,
        LibraryError,
        LockedError,
        MediaError,
        MissingPackageError,
        MMSearchError,
        ModelError,
        ModelUnavailableError,
        NoItemError,
        NoLibraryError,
        QueryError,
        TrainingError,
        UsageError,
        WrongModelError,
    )
    from mmsearch.filters import Filter
    from mmsearch.library import Library, embed, open
    from mmsearch.records import FileFacts, Item, Origin, Segment, Text
    from mmsearch.search.query import Query
    from mmsearch.settings import Limits, Settings
    from mmsearch.types import (
        AdaptReport,
        Answer,
        Check,
        Evaluation,
        Failure,
        Gain,
        Hit,
        IndexReport,
        IndexStatus,
        Modality,
        Neighbour,
        Progress,
        Stage,
        Status,
        Term,
        View,
        Why,
    )

__all__ = [
    "AdaptReport",
    "Answer",
    "CatalogError",
    "Check",
    "DiskFullError",
    "Evaluation",
    "Failure",
    "FileFacts",
    "Filter",
    "FilterError",
    "Gain",
    "Hit",
    "IndexReport",
    "IndexStatus",
    "Item",
    "Library",
    "LibraryError",
    "Limits",
    "LockedError",
    "MMSearchError",
    "MediaError",
    "MissingPackageError",
    "Modality",
    "ModelError",
    "ModelUnavailableError",
    "Neighbour",
    "NoItemError",
    "NoLibraryError",
    "Origin",
    "Progress",
    "Query",
    "QueryError",
    "Segment",
    "Settings",
    "Stage",
    "Status",
    "Term",
    "Text",
    "TrainingError",
    "UsageError",
    "View",
    "Why",
    "WrongModelError",
    "embed",
    "open",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        for room in ("types", "records", "errors", "settings", "search.query", "filters", "library"):
            module = importlib.import_module(f"mmsearch.{room}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'mmsearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
