"""Which rows of the catalog have lost their file, and which only seem to have."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from indexer.changes import Changes
from indexer.scan import Scan
from mmsearch.catalog import Catalog, MediaRow


@dataclass(slots=True)
class DeletionCheck:
    """Finds the media whose files a finished scan didn't show.

    `seen` has a byte for each media id whose file was found; ids from `first_new_id` on are of this run. A root, or a
    folder whose device changed, that suddenly shows nothing is most likely an unmounted disk: its media stay, and it
    is listed in `kept`, unless `prune` is asked for.
    """

    catalog: Catalog
    scan: Scan
    seen: bytearray
    first_new_id: int
    prune: bool
    kept: set[bytes] = field(default_factory=set)

    def changes(self, failing: Container[bytes]) -> Changes:
        """Return the paths that are gone, and those at which nothing fails any more: all but the `failing` ones."""
        gone = tuple(self._gone())
        return Changes(gone=gone, healed=tuple(self._healed(failing)))

    def _gone(self) -> Iterator[bytes]:
        for root in self.scan.roots:
            for row in self.catalog.media_under(root):
                found = row.id >= self.first_new_id or (row.id < len(self.seen) and self.seen[row.id])
                if not found and not self._unscanned(root, row.path) and (self.prune or not self._keeps(root, row)):
                    yield row.path

    def _healed(self, failing: Container[bytes]) -> Iterator[bytes]:
        for root in self.scan.roots:
            for failure in self.catalog.failures_under(root):
                kept = any(folder in self.kept for folder in _folders(root, failure.path))
                if failure.path not in failing and not kept and not self._unscanned(root, failure.path):
                    yield failure.path

    def _unscanned(self, root: bytes, path: bytes) -> bool:
        unseen = self.scan.incomplete
        return bool(unseen) and (path in unseen or any(folder in unseen for folder in _folders(root, path)))

    def _keeps(self, root: bytes, row: MediaRow) -> bool:
        devices = self.scan.devices
        device = devices.get(root)
        for folder in _folders(root, row.path):
            device = devices.get(folder, device)
            if folder not in self.scan.occupied:
                if folder == root or device != row.device:
                    self.kept.add(folder)
                    return True
                return False
        return False


def _folders(root: bytes, path: bytes) -> Iterator[bytes]:
    """Yield the folders from the root down to the one that holds a path."""
    folders = []
    folder = os.path.dirname(path)  # noqa: PTH120  paths are bytes here
    while len(folder) > len(root):
        folders.append(folder)
        folder = os.path.dirname(folder)  # noqa: PTH120
    yield root
    yield from reversed(folders)
