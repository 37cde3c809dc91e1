"""The vector indexes of a library; each is a cache of the catalog's vectors of one space and one view.

FAISS searches them. If it isn't installed, `ExactIndexes` compares a query with every vector in NumPy.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog, Ids
from mmsearch.errors import LibraryError, LinkError, one_line, unwritable
from mmsearch.extras import command, is_installed
from mmsearch.layout import INDEX, INDEXES, OwnFolder
from mmsearch.spaces import Profile, Space
from mmsearch.types import IndexStatus, View
from mmsearch.vectors import (
    MOST_ID,
    ExactIndex,
    FaissIndex,
    GpuIndex,
    IndexStore,
    Stamp,
    VectorIndex,
    follow,
    has_gpu,
)
from mmsearch.vectors.store import tidy

KIND = "flat-fp16"
EXACT = "exact"
"""The kind of an index that NumPy searches."""
LARGE_ROWS = 20_000
"""From this many vectors on, a query without FAISS logs how to install it."""
_NONE = np.empty(0, np.int64)
_log = logging.getLogger(__name__)
GPU_ROWS = 100_000
"""A smaller index isn't copied to a GPU: the CPU searches it in a few milliseconds."""
STALE_S = 5.0
"""Minimum time between two updates of an index that exists only in memory because another process is writing."""


@dataclass(slots=True)
class _OpenIndex:
    """An open index and the catalog revision that it represents.

    `stamp` is that of its files, None if it is only in memory; `since` and `took_s` are then the time and the
    duration of its last update.
    """

    index: VectorIndex
    revision: int
    stamp: Stamp | None
    since: float = 0.0
    took_s: float = 0.0


@dataclass(slots=True)
class _Slot:
    """The open index of one view in a space. If several threads need it, one opens or updates it for all."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    opened: _OpenIndex | None = None


class Indexes:
    """Opens the indexes of the catalog's model under `folder`, and keeps them up to date with the catalog.

    Each model has its own subfolder. With `on_gpu`, an index that is used repeatedly is searched on a GPU if there is
    one. `write_lock` takes the library's lock without waiting, or raises `LibraryError` if another process is writing
    or the folder is read-only.
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
        self._own = OwnFolder(folder, INDEXES, catalog.library_id)
        self._write_lock = write_lock
        self._on_gpu = on_gpu
        self._warned = False
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._slots: dict[tuple[str, View], _Slot] = {}

    def get(self, space: Space, view: View, revision: int | None = None) -> VectorIndex:
        """Return the index of a view in a space.

        An index that is behind the catalog is updated first; other threads that need it wait. While another process is
        writing, the index of its last finished run is returned. If there is none yet, one is built in memory from the
        committed vectors, and updated every `STALE_S` seconds. An open index of the given `revision`, which the caller
        has read from the catalog, is returned at once.
        """
        return self._current(space, view, revision).index

    def _current(self, space: Space, view: View, known: int | None = None) -> _OpenIndex:
        slot = self._slot(space, view)
        with slot.guard:
            held = slot.opened
            is_known = held is not None and held.revision == known
            revision = known if is_known and known is not None else self._catalog.revision
            if held and held.stamp and held.revision == revision and held.index.is_intact():
                self._move_to_gpu(held)
                return held
            try:
                held = slot.opened = self._reopened(space, view, held)
                if held is None or held.stamp is None or held.revision != revision:
                    held = slot.opened = self._brought_up(space, view, held)
            except LinkError as error:  # files behind a link aren't even read
                self._warn(error)
                held = slot.opened = self._in_memory(space, view, held)
            return held

    def _slot(self, space: Space, view: View) -> _Slot:
        with self._guard:
            return self._slots.setdefault((space.name, view), _Slot())

    def _reopened(self, space: Space, view: View, held: _OpenIndex | None) -> _OpenIndex | None:
        """Return the index on disk, opened again only if it has changed; otherwise the open one.

        Returns None if neither is undamaged and belongs to this catalog.
        """
        store, intact = self._store(space, view), held is not None and held.index.is_intact()
        stamp = store.stamp()
        if stamp is not None and not (held and intact and held.stamp == stamp):
            opened = store.open_with_revision()
            if opened is not None and self._catalog.had_revision(opened[1]):
                return _OpenIndex(*opened, stamp)
        if held is None or not intact or (held.stamp and not self._catalog.had_revision(held.revision)):
            return None
        return held

    def _brought_up(self, space: Space, view: View, held: _OpenIndex | None) -> _OpenIndex:
        """Return an index that is up to date with the catalog, or the best one available without writing."""
        if self._writing.acquire(blocking=held is None):
            try:
                with self._write_lock():
                    return self._catch_up(space, view, self._catalog.revision)
            except LibraryError:
                pass  # the open index, or one in memory, is used instead
            finally:
                self._writing.release()
        return held if held and held.stamp else self._in_memory(space, view, held)

    def _in_memory(self, space: Space, view: View, held: _OpenIndex | None) -> _OpenIndex:
        """Return an index in memory: the earlier one, updated if its last update was long enough ago."""
        began, revision = time.monotonic(), self._catalog.revision
        if held and (held.revision == revision or began - held.since <= STALE_S * max(1.0, 2 * held.took_s)):
            return held
        before = held.index if held and isinstance(held.index, FaissIndex) else FaissIndex(space.dim, [], _NONE)
        index = follow(before, self._live(space, view), self._fetch(space))
        ended = time.monotonic()
        return _OpenIndex(index, revision, None, ended, ended - began)

    def _move_to_gpu(self, held: _OpenIndex) -> None:
        """Copy an index to the GPU, if there is one, when it is used a second time.

        A single command uses an index once, and copying takes longer than one search. If the GPU lacks memory, the CPU
        is used.
        """
        if self._on_gpu and isinstance(held.index, FaissIndex) and held.index.count >= GPU_ROWS:
            try:
                held.index = GpuIndex(held.index) if has_gpu() else held.index
            except RuntimeError as error:
                _log.warning("the GPU isn't used for searching: %s", one_line(error))
            self._on_gpu = isinstance(held.index, GpuIndex)

    def catch_up(self, profile: Profile) -> None:
        """Bring every index of the model up to date with the catalog. The caller holds the lock.

        Every byte is checked, and a damaged index is rebuilt. Unused index folders and the leftovers of killed
        processes are removed.
        """
        self._prepare()
        self._tidy(profile)
        revision = self._catalog.revision
        for space in profile.spaces:
            for view in space.front_ends:
                held = self._catch_up(space, view, revision)
                slot = self._slot(space, view)
                with slot.guard:
                    slot.opened = held

    def verify(self, profile: Profile) -> list[str]:
        """Return the faults of the model's indexes, one line each, without changing them: see `IndexStore.verify`."""
        revision = self._catalog.revision
        problems: list[str] = []
        for space in profile.spaces:
            for view in space.front_ends:
                problems += self._store(space, view).verify(self._live(space, view), revision, self._fetch(space))
        return problems

    def discard(self, profile: Profile) -> None:
        """Discard every index of the model, so that the next catch-up rebuilds it. The caller holds the lock."""
        for space in profile.spaces:
            for view in space.front_ends:
                self._store(space, view).discard()
                slot = self._slot(space, view)
                with slot.guard:
                    slot.opened = None

    def check(self, profile: Profile) -> None:
        """Raise `LinkError` if a link is in the way of an index of the model: see `mmsearch.layout`."""
        for space in profile.spaces:
            self._own.check(self._own_folder / _folder_name(space))
            for view in space.front_ends:
                self._store(space, view)

    def file(self, space: Space, view: View, name: str) -> Path:
        """Return the path of a file that belongs to an index, and is removed with it. Raises `LinkError`."""
        folder = self._own_folder / _folder_name(space)
        self._own.check(folder)
        return folder / f"{view.value}.{name}"

    def remove(self, file: Path) -> None:
        """Remove a file whose path `file` has returned, if it exists."""
        self._own.remove(file.parent, lambda name: name == file.name)

    def exact(self) -> Indexes:
        """Return exhaustive indexes over the same catalog, as a reference for measuring these."""
        return ExactIndexes(self._catalog, self.folder, self._write_lock)

    def status(self, profile: Profile) -> tuple[IndexStatus, ...]:
        """Return the status of each index that isn't empty, without changing any."""
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

    def _catch_up(self, space: Space, view: View, revision: int) -> _OpenIndex:
        store = self._store(space, view)
        try:
            self._prepare()
            held = store.revision()
            if held is not None and held != revision and not self._catalog.had_revision(held):
                store.discard()  # it belongs to another catalog, or to a state that was rolled back
            index = store.open() if held == revision else None
            if index is None:
                began = time.monotonic()
                index = store.catch_up(self._live(space, view), revision, self._fetch(space))
                took_s = time.monotonic() - began
                _log.debug("caught up the index of %s %s: %d in %.3f s", space.name, view, index.count, took_s)
        except OSError as error:
            raise self._unwritable(error) from error
        return _OpenIndex(index, revision, store.stamp())

    def _fetch(self, space: Space) -> Callable[[Ids], tuple[Ids, NDArray[np.float32]]]:
        return lambda ids: self._catalog.vectors(ids, space.dim)

    def _live(self, space: Space, view: View) -> Ids:
        space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
        if space_id is None:
            return np.empty(0, np.int64)
        ids = self._catalog.embedding_ids(space_id, view)
        return ids if not len(ids) or (ids[0] >= 0 and ids[-1] < MOST_ID) else ids[(ids >= 0) & (ids < MOST_ID)]

    def _store(self, space: Space, view: View) -> IndexStore:
        """Return the store of an index. Raises `LinkError` if a link is in its way."""
        folder = self._own_folder / _folder_name(space) / view.value
        self._own.check(folder)
        return IndexStore(folder, space.dim, self.folder)

    @property
    def _own_folder(self) -> Path:
        return self.folder / str(self._catalog.profile_id)

    def _prepare(self) -> None:
        """Make the folder of all indexes and mark it as this library's. Raises `LibraryError`."""
        self._catalog.library_id(make=True)
        try:
            self._own.prepare()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> LibraryError:
        return unwritable(
            error,
            f"{error.filename or self.folder}: {error.strerror or error}; the catalog is intact, "
            "so fix that and run 'mmsearch index' again",
        )

    def _warn(self, error: LinkError) -> None:
        if not self._warned:
            _log.warning("searching without an index, from the catalog's own vectors: %s", error)
            self._warned = True

    def _tidy(self, profile: Profile) -> None:
        used = {str(row.id) for row in self._catalog.profiles()} | {self._own_folder.name}
        own = {_folder_name(space) for space in profile.spaces}
        self._own.remove(self.folder, lambda name: name not in used)
        self._own.remove(self._own_folder, lambda name: name not in own)
        self._own.remove_temporary()
        for folder in self._own.folders(INDEX):
            tidy(folder, self.folder)


class ExactIndexes(Indexes):
    """Compares a query with every vector of the catalog in NumPy. It has no files, and serves libraries without FAISS.

    It is also the reference for measuring other indexes. `LARGE_ROWS` vectors are read in about a tenth of a second.
    """

    def _current(self, space: Space, view: View, known: int | None = None) -> _OpenIndex:
        """Return every vector of a view in memory."""
        slot, revision = self._slot(space, view), self._catalog.revision if known is None else known
        with slot.guard:
            if slot.opened is None or slot.opened.revision != revision:
                index = ExactIndex.read(space.dim, self._live(space, view), self._fetch(space))
                slot.opened = _OpenIndex(index, revision, None)
                if index.count > LARGE_ROWS:
                    self._name_the_extra()
            return slot.opened

    def _catch_up(self, space: Space, view: View, revision: int) -> _OpenIndex:
        """Return every vector of a view in memory, and log once how to install FAISS. Nothing is written."""
        self._name_the_extra()
        return self._current(space, view, revision)

    def verify(self, profile: Profile) -> list[str]:
        """Return no faults, since there are no files."""
        return []

    def status(self, profile: Profile) -> tuple[IndexStatus, ...]:
        """Return the status of each view that has vectors; none is ever stale."""
        counts = [
            (space.name, view, len(self._live(space, view))) for space in profile.spaces for view in space.front_ends
        ]
        return tuple(IndexStatus(name, view, EXACT, count, stale=False) for name, view, count in counts if count)

    def _name_the_extra(self) -> None:
        if not self._warned and not is_installed("faiss"):
            _log.info(
                "FAISS isn't installed, so NumPy compares every vector; that is fast enough for small libraries. For "
                "larger ones, run: %s",
                command("cpu"),
            )
            self._warned = True


def _folder_name(space: Space) -> str:
    """Return a folder name for a space, whose own name may be long and contain any character."""
    digest = hashlib.blake2b(f"{space.name} {space.fingerprint}".encode("utf-8", "surrogateescape"), digest_size=8)
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', space.name)[:40]}-{digest.hexdigest()}"
