"""What the server needs of a library: `mmsearch.Library` is one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mmsearch.model_views import ModelView
    from mmsearch.records import Item
    from mmsearch.search.query import Query
    from mmsearch.spaces import Vectors
    from mmsearch.types import Answer, Facets, Failure, IndexReport, Progress, QueryInput, Status


class ServedLibrary(Protocol):
    """An open library that several threads may ask at a time."""

    folder: Path

    def answer(self, query: Query) -> Answer:
        """Return the hits of a query, and how many were hidden or cut."""
        ...

    def item(self, number: int) -> Item:
        """Return the item of this number. Raises `NoItemError`."""
        ...

    def roots(self) -> list[bytes]:
        """Return the files and folders that a run without paths refreshes."""
        ...

    def facets(self) -> Facets:
        """Return by what the contents can be told apart."""
        ...

    def status(self) -> Status:
        """Return what the library holds."""
        ...

    def failures(self) -> list[Failure]:
        """Return the files that can't be indexed as they are."""
        ...

    def seen(self) -> ModelView:
        """Return the library as the model sees it that answers."""
        ...

    def embed(self, items: QueryInput | Iterable[QueryInput]) -> Vectors:
        """Return (n, dim) float32, L2-normalised, in input order."""
        ...

    def index(
        self,
        *,
        prune: bool = False,
        retry: bool = False,
        progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> IndexReport:
        """Bring the library to what its folders hold."""
        ...

    def close(self) -> None:
        """Close the catalog."""
        ...
