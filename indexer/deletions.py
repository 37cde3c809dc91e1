"""Finds rows of the catalog whose files are deleted, and tells them from files on a missing disk."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from indexer.changes import Changes
from indexer.roots import Scope, folders_above, steps
from indexer.scan import Scan
from mmsearch.catalog import Catalog, MediaRow


@dataclass(slots=True)
class DeletionCheck:
    """Finds media whose files a complete scan didn't show.

    `seen` has one byte for each media id, 1 if its file was found; ids from `first_new_id` on are new in this run. A
    root that suddenly shows nothing, or a folder that does and whose device has changed, is most likely an unmounted
    disk. So is a missing root, and a missing path whose device is gone. Their media stay and the folders are listed in
    `kept`, unless `prune` is set.
    """

    catalog: Catalog
    scope: Scope
    scan: Scan
    seen: bytearray
    first_new_id: int
    prune: bool
    kept: set[bytes] = field(default_factory=set)

    def changes(self, failing: Container[bytes]) -> Changes:
        """Return the deleted paths, and the paths whose recorded failure is over: all but the `failing` ones."""
        gone = tuple(self._gone())
        return Changes(gone=gone, healed=tuple(self._healed(failing)))

    def _gone(self) -> Iterator[bytes]:
        for root, _ in self.scope.scanned:
            for row in self.catalog.media_under(root):
                exists = row.id >= self.first_new_id or (row.id < len(self.seen) and self.seen[row.id])
                if exists or self._is_for_another_root(root, row.path) or self._unscanned(root, row.path):
                    continue
                if self.prune or not self._keeps(root, row):
                    yield row.path
        for path in self.scope.missing:
            for row in self.catalog.media_under(path):
                if self.prune or not self._may_return(path, row):
                    yield row.path
                else:
                    self.kept.add(path)

    def _healed(self, failing: Container[bytes]) -> Iterator[bytes]:
        for root, _ in self.scope.scanned:
            for path in (failure.path for failure in self.catalog.failures_under(root)):
                kept = any(folder in self.kept for folder in _folders(root, path))
                if path in failing or kept or self._is_for_another_root(root, path) or self._unscanned(root, path):
                    continue
                yield path
        for path in self.scope.missing:
            for failure in self.catalog.failures_under(path):
                kept = path in self.kept or (path in self.scope.watched and failure.path != path)
                if self.prune or not kept:
                    yield failure.path

    def _is_for_another_root(self, root: bytes, path: bytes) -> bool:
        """Return whether a path of a root belongs to another path of the run that lies below that root."""
        return not self.scope.paths.isdisjoint(steps(path, root))

    def _may_return(self, path: bytes, row: MediaRow) -> bool:
        """Return whether a missing path may be on an unmounted disk: it is below a root, or its device has changed."""
        return (path in self.scope.watched and row.path != path) or _device_above(path) != row.device

    def _unscanned(self, root: bytes, path: bytes) -> bool:
        unseen = self.scan.incomplete | self.scope.unreached
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


def _device_above(path: bytes) -> str | None:
    """Return the device of the closest existing folder above a path."""
    for folder in folders_above(path):
        with suppress(OSError, ValueError):  # a damaged path may hold a NUL
            return str(os.stat(folder).st_dev)  # noqa: PTH116
    return None
