"""The files outside a run's roots that the run must embed all the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from indexer.changes import Changes, changes_at
from indexer.roots import folders_above
from mmsearch.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Files that a change of model hasn't embedded yet, and damaged files (`again`) outside the roots.

    `key` is that of the model that the library changes to, None if there is no change.
    """

    catalog: Catalog
    roots: Collection[bytes]
    again: frozenset[bytes]
    key: str | None

    def count(self) -> int:
        """Return the number of files outside the roots. Call this before the run; a scan finds those in the roots."""
        return sum(path not in self.roots and not self._is_below_a_root(path) for path in self._paths())

    def changes(self, tried: Collection[bytes]) -> Iterator[Changes]:
        """Yield the files that can be reached and weren't `tried` in this run.

        Files that can't be reached don't count as deleted; the report says how many there are.
        """
        for changes in changes_at(path for path in self._paths() if path not in tried):
            yield Changes(found=changes.found)

    def _paths(self) -> Iterator[bytes]:
        if self.key is not None:
            yield from (row.path for row in self.catalog.lacking(self.key))
        yield from (path for path in sorted(self.again) if not self._is_below_a_root(path))

    def _is_below_a_root(self, path: bytes) -> bool:
        return any(folder in self.roots for folder in folders_above(path))
