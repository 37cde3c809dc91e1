"""The vector indexes of a library, each the cache of its catalog for one space and one view."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from mmsearch.catalog import Catalog, Ids
from mmsearch.errors import LibraryError, LinkError, one_line
from mmsearch.layout import INDEX, INDEXES, OwnFolder
from mmsearch.spaces import Profile, Space
from mmsearch.types import IndexStatus, Modality, View
from mmsearch.vectors import Bitmap, ExactIndex, FaissIndex, GpuIndex, IndexStore, VectorIndex, bitmap, has_gpu
from mmsearch.vectors.store import tidy

KIND = "flat-fp16"
_log = logging.getLogger("mmsearch")
GPU_ROWS = 100_000
"""A smaller index is searched in a few milliseconds on the CPU, and isn't worth a GPU's memory."""
STALE_S = 5.0
"""How long an index in memory serves that another process is about to write, before it is made anew."""


class Indexes:
    """Opens the indexes under `folder`, and sees that what it hands out answers for the catalog as it is.

    They are those of the profile as which the catalog is seen; each profile has a folder of its own in `folder`.
    With `on_gpu`, what is asked for again and again is searched on a GPU, where there is one.
    `write_lock` gives the library's lock without waiting, or raises `LibraryError` where it can't be had: another
    process writes, or the folder is read-only.
    """

    def __init__(
        self,
        catalog: Catalog,
        folder: Path,
        write_lock: Callable[[], AbstractContextManager[object]],
        *,
        on_gpu: bool = True,
    ) -> None:
        self._catalog = catalog
        self.folder = folder
        self._place = OwnFolder(folder, INDEXES, catalog.library_id)
        self._write_lock = write_lock
        self._on_gpu = on_gpu
        self._warned = False
        self._guard = threading.Lock()
        self._open: dict[tuple[str, View], tuple[int, VectorIndex]] = {}
        self._behind: dict[tuple[str, View], tuple[float, VectorIndex]] = {}
        self._bitmaps: dict[tuple[str, View, frozenset[Modality]], tuple[int, Bitmap | None]] = {}

    def get(self, space: Space, view: View) -> VectorIndex:
        """Return the index of a view in a space.

        Behind the catalog, it is caught up first. While another process writes, the index is handed out as that
        process's last finished run left it, or, where there is none yet, made in memory from what is committed; the
        latter serves for `STALE_S` seconds before the writer is looked for again.
        """
        key = (space.name, view)
        with self._guard:  # of several threads, one catches up
            revision = self._catalog.revision
            known = self._open.get(key)
            if known and known[0] == revision:
                return self._resident(key, revision, known[1])
            try:
                store = self._store(space, view)
                index: VectorIndex | None = store.open() if store.revision() == revision else None
                if index is None:
                    with self._write_lock():
                        revision = self._catalog.revision
                        index = self._catch_up(space, view, revision)
            except LibraryError as error:
                return self._as_it_is(space, view, error if isinstance(error, LinkError) else None)
            self._behind.pop(key, None)
            self._open[key] = (revision, index)
            return index

    def _resident(self, key: tuple[str, View], revision: int, index: VectorIndex) -> VectorIndex:
        """Return the index on the GPU, where there is one, from the second time on that the same is asked for.

        A command asks once, and copying takes longer than that. Where the GPU has no room, the CPU answers.
        """
        if self._on_gpu and isinstance(index, FaissIndex) and index.count >= GPU_ROWS:
            try:
                index = GpuIndex(index) if has_gpu() else index
            except RuntimeError as error:
                _log.warning("the GPU isn't used for searching: %s", one_line(error))
            self._on_gpu = isinstance(index, GpuIndex)
            self._open[key] = (revision, index)
        return index

    def catch_up(self, profile: Profile) -> None:
        """Bring every index of the profile to the catalog; the caller holds the lock.

        Folders of indexes that no profile of the library uses are removed, and what killed processes left.
        """
        self._prepare()
        self._tidy(profile)
        revision = self._catalog.revision
        for space in profile.spaces:
            for view in space.front_ends:
                index = self._catch_up(space, view, revision)
                with self._guard:
                    self._behind.pop((space.name, view), None)
                    self._open[space.name, view] = (revision, index)

    def allowed(self, space: Space, view: View, modalities: frozenset[Modality]) -> Bitmap | None:
        """Return the bitmap of a view's embeddings whose content is of one of these modalities; None if all are."""
        if not modalities:
            return None
        key, revision = (space.name, view, modalities), self._catalog.revision
        known = self._bitmaps.get(key)
        if known is None or known[0] != revision:
            space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
            some = space_id is not None and self._catalog.has_other(space_id, view, modalities)
            allowed = bitmap(self._live(space, view, modalities)) if some else None
            known = self._bitmaps[key] = (revision, allowed)
        return known[1]

    def check(self, profile: Profile) -> None:
        """Raise `LinkError` where a link is in the way of an index of the profile: see `mmsearch.layout`."""
        for space in profile.spaces:
            self._place.check(self._own_folder / _folder_name(space))
            for view in space.front_ends:
                self._store(space, view)

    def file(self, space: Space, view: View, name: str) -> Path:
        """Return where something is kept that goes with an index, and goes when it goes. Raises `LinkError`."""
        folder = self._own_folder / _folder_name(space)
        self._place.check(folder)
        return folder / f"{view.value}.{name}"

    def remove(self, file: Path) -> None:
        """Remove what `file` said, if it is there."""
        self._place.remove(file.parent, lambda name: name == file.name)

    def exact(self) -> Indexes:
        """Return what answers as these do by comparing with every vector of the catalog: the measure of them."""
        return _ExactIndexes(self._catalog, self.folder, self._write_lock)

    def status(self, profile: Profile) -> tuple[IndexStatus, ...]:
        """Return a line for each index that has something to hold, without changing any."""
        revision = self._catalog.revision
        lines = []
        for space in profile.spaces:
            for view in space.front_ends:
                count = len(self._live(space, view))
                if count:
                    try:
                        stale = self._store(space, view).revision() != revision
                    except LinkError as error:
                        stale = True
                        self._warn(error)
                    lines.append(IndexStatus(space.name, view, KIND, count, stale))
        return tuple(lines)

    def _catch_up(self, space: Space, view: View, revision: int) -> VectorIndex:
        store = self._store(space, view)
        try:
            self._prepare()
            held = store.revision()
            if held == revision and (index := store.open()) is not None:
                return index
            if held is not None and not self._catalog.had_revision(held):
                store.discard()  # it holds another catalog's vectors, or those of a state that was rolled back
            return store.catch_up(self._live(space, view), revision, lambda ids: self._catalog.vectors(ids, space.dim))
        except OSError as error:
            raise self._unwritable(error) from error

    def _as_it_is(self, space: Space, view: View, linked: LinkError | None = None) -> VectorIndex:
        """Return what can be had without writing: the index of a finished run, or one in memory.

        Where a link is in the way, its folder isn't even read.
        """
        if linked is not None:
            self._warn(linked)
        store = None if linked else self._store(space, view)
        held = store.revision() if store else None
        if (
            store is not None
            and held is not None
            and self._catalog.had_revision(held)
            and (index := store.open()) is not None
        ):
            return index
        since, kept = self._behind.get((space.name, view), (0.0, None))
        if kept is None or time.monotonic() - since > STALE_S:
            kept = ExactIndex(*self._catalog.vectors(self._live(space, view), space.dim))
            self._behind[space.name, view] = (time.monotonic(), kept)
        return kept

    def _live(self, space: Space, view: View, modalities: Iterable[Modality] | None = None) -> Ids:
        space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
        if space_id is None:
            return np.empty(0, np.int64)
        return self._catalog.embedding_ids(space_id, view, modalities)

    def _store(self, space: Space, view: View) -> IndexStore:
        """Return the store of an index. Raises `LinkError` where a link is in its way."""
        folder = self._own_folder / _folder_name(space) / view.value
        self._place.check(folder)
        return IndexStore(folder, space.dim, self.folder)

    @property
    def _own_folder(self) -> Path:
        return self.folder / str(self._catalog.profile_id)

    def _prepare(self) -> None:
        """Make the folder of all indexes and mark it as this library's. Raises `LibraryError`."""
        self._catalog.library_id(make=True)
        try:
            self._place.prepare()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> LibraryError:
        return LibraryError(
            f"{error.filename or self.folder}: {error.strerror or error}; the catalog is whole, "
            "so mend that and run 'mmsearch index' again"
        )

    def _warn(self, error: LinkError) -> None:
        if not self._warned:
            _log.warning("searching without an index, from the catalog's own vectors: %s", error)
            self._warned = True

    def _tidy(self, profile: Profile) -> None:
        used = {str(row.id) for row in self._catalog.profiles()} | {self._own_folder.name}
        own = {_folder_name(space) for space in profile.spaces}
        self._place.remove(self.folder, lambda name: name not in used)
        self._place.remove(self._own_folder, lambda name: name not in own)
        self._place.remove_temporary()
        for folder in self._place.folders(INDEX):
            tidy(folder, self.folder)


class _ExactIndexes(Indexes):
    """Reads the catalog's vectors themselves, and no file."""

    def get(self, space: Space, view: View) -> VectorIndex:
        """Return every vector of a view in memory."""
        key, revision = (space.name, view), self._catalog.revision
        known = self._open.get(key)
        if known is None or known[0] != revision:
            index = ExactIndex(*self._catalog.vectors(self._live(space, view), space.dim))
            known = self._open[key] = (revision, index)
        return known[1]


def _folder_name(space: Space) -> str:
    """Return a name for a space's folder; that of a space may hold what no folder's may, and be long."""
    digest = hashlib.blake2b(f"{space.name} {space.fingerprint}".encode("utf-8", "surrogateescape"), digest_size=8)
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', space.name)[:40]}-{digest.hexdigest()}"
