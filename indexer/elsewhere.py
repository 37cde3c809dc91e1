"""The files that a run has to embed although no root of it shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from indexer.changes import Changes, changes_at
from indexer.roots import folders_above
from mmsearch.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a change of model lacks, and what was damaged (`again`) and lies below none of the roots.

    `key` is the profile's that a change leads to, None where there is no change.
    """

    catalog: Catalog
    roots: Collection[bytes]
    again: frozenset[bytes]
    key: str | None

    def count(self) -> int:
        """Return how many files there are, before the run: a scan of the roots finds the others."""
        return sum(path not in self.roots and not self._is_below_a_root(path) for path in self._paths())

    def changes(self, tried: Collection[bytes]) -> Iterator[Changes]:
        """Yield the files that can be reached, but for those that were `tried` in this run.

        The others aren't gone for that: the library says how many there are.
        """
        for changes in changes_at(path for path in self._paths() if path not in tried):
            yield Changes(found=changes.found)

    def _paths(self) -> Iterator[bytes]:
        if self.key is not None:
            yield from (row.path for row in self.catalog.lacking(self.key))
        yield from (path for path in sorted(self.again) if not self._is_below_a_root(path))

    def _is_below_a_root(self, path: bytes) -> bool:
        return any(folder in self.roots for folder in folders_above(path))
