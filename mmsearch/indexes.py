"""The vector indexes of a library, each the cache of its catalog for one space and one view.

FAISS searches them; where it isn't installed, `ExactIndexes` compares with every vector in NumPy.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
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
from mmsearch.types import IndexStatus, Modality, View
from mmsearch.vectors import (
    MOST_ID,
    Bitmap,
    ExactIndex,
    FaissIndex,
    GpuIndex,
    IndexStore,
    Stamp,
    VectorIndex,
    bitmap,
    follow,
    has_gpu,
)
from mmsearch.vectors.store import tidy

KIND = "flat-fp16"
EXACT = "exact"
"""The kind of an index that NumPy searches."""
LARGE_ROWS = 20_000
"""From so many vectors on a query without FAISS says how to get it."""
_NONE = np.empty(0, np.int64)
_log = logging.getLogger(__name__)
GPU_ROWS = 100_000
"""A smaller index is searched in a few milliseconds on the CPU, and isn't worth a GPU's memory."""
STALE_S = 5.0
"""How long an index in memory serves that no file holds yet, before what is new in the catalog is added to it."""


@dataclass(slots=True)
class _Held:
    """An open index and the catalog revision that it answers for.

    `stamp` is that of the files it was opened from, None where it is in memory only; `since` and `took_s` say when it
    was brought up to date there, and how long that took.
    """

    index: VectorIndex
    revision: int
    stamp: Stamp | None
    since: float = 0.0
    took_s: float = 0.0
    bitmaps: dict[frozenset[Modality], Bitmap | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Place:
    """What is open for one view of a space. Of several threads that ask for it, one opens it or catches it up."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    held: _Held | None = None


class Indexes:
    """Opens the indexes under `folder`, and sees that what it hands out answers for the catalog as it is.

    They are those of the profile as which the catalog is seen; each profile has a folder of its own in `folder`.
    With `on_gpu`, an index that is asked for repeatedly is searched on a GPU, where there is one.
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
        self._own = OwnFolder(folder, INDEXES, catalog.library_id)
        self._write_lock = write_lock
        self._on_gpu = on_gpu
        self._warned = False
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._places: dict[tuple[str, View], _Place] = {}

    def get(self, space: Space, view: View, revision: int | None = None) -> VectorIndex:
        """Return the index of a view in a space.

        An index that is behind the catalog is caught up first; threads that ask for the same one wait. While another
        process writes, the index is returned as that process's last finished run left it. Where there is none yet,
        one is made in memory of what is committed, and what is committed later is added to it after `STALE_S` seconds.
        An open index of the `revision` that the caller has read is returned at once.
        """
        return self._current(space, view, revision).index

    def _current(self, space: Space, view: View, known: int | None = None) -> _Held:
        place = self._place(space, view)
        with place.guard:
            held = place.held
            is_known = held is not None and held.revision == known
            revision = known if is_known and known is not None else self._catalog.revision
            if held and held.stamp and held.revision == revision and held.index.is_intact():
                self._move_to_gpu(held)
                return held
            try:
                held = place.held = self._reopened(space, view, held)
                if held is None or held.stamp is None or held.revision != revision:
                    held = place.held = self._brought_up(space, view, held)
            except LinkError as error:  # what lies behind a link isn't even read
                self._warn(error)
                held = place.held = self._in_memory(space, view, held)
            return held

    def _place(self, space: Space, view: View) -> _Place:
        with self._guard:
            return self._places.setdefault((space.name, view), _Place())

    def _reopened(self, space: Space, view: View, held: _Held | None) -> _Held | None:
        """Return the index as it stands on disk, opened only if that has changed; else the one that is held.

        None where neither is whole and of this catalog.
        """
        store, intact = self._store(space, view), held is not None and held.index.is_intact()
        stamp = store.stamp()
        if stamp is not None and not (held and intact and held.stamp == stamp):
            opened = store.open_with_revision()
            if opened is not None and self._catalog.had_revision(opened[1]):
                return _Held(*opened, stamp)
        if held is None or not intact or (held.stamp and not self._catalog.had_revision(held.revision)):
            return None
        return held

    def _brought_up(self, space: Space, view: View, held: _Held | None) -> _Held:
        """Return the index for the catalog as it is, or the best one that can be had without writing."""
        if self._writing.acquire(blocking=held is None):
            try:
                with self._write_lock():
                    return self._catch_up(space, view, self._catalog.revision)
            except LibraryError:
                pass  # what is held, or made in memory, answers as well
            finally:
                self._writing.release()
        return held if held and held.stamp else self._in_memory(space, view, held)

    def _in_memory(self, space: Space, view: View, held: _Held | None) -> _Held:
        """Return an index in memory: the one before, and, if that has served for long enough, what is new besides."""
        began, revision = time.monotonic(), self._catalog.revision
        if held and (held.revision == revision or began - held.since <= STALE_S * max(1.0, 2 * held.took_s)):
            return held
        before = held.index if held and isinstance(held.index, FaissIndex) else FaissIndex(space.dim, [], _NONE)
        index = follow(before, self._live(space, view), self._fetch(space))
        ended = time.monotonic()
        return _Held(index, revision, None, ended, ended - began)

    def _move_to_gpu(self, held: _Held) -> None:
        """Copy an index to the GPU, where there is one, from the second time on that it is asked for.

        A command asks once, and copying takes longer than that. Where the GPU has no room, the CPU answers.
        """
        if self._on_gpu and isinstance(held.index, FaissIndex) and held.index.count >= GPU_ROWS:
            try:
                held.index = GpuIndex(held.index) if has_gpu() else held.index
            except RuntimeError as error:
                _log.warning("the GPU isn't used for searching: %s", one_line(error))
            self._on_gpu = isinstance(held.index, GpuIndex)

    def catch_up(self, profile: Profile) -> None:
        """Bring every index of the profile to the catalog; the caller holds the lock.

        Every byte of them is checked, and a damaged one is rebuilt. Folders of indexes that no profile of the library
        uses are removed, and what killed processes left.
        """
        self._prepare()
        self._tidy(profile)
        revision = self._catalog.revision
        for space in profile.spaces:
            for view in space.front_ends:
                held = self._catch_up(space, view, revision)
                place = self._place(space, view)
                with place.guard:
                    place.held = held

    def verify(self, profile: Profile) -> list[str]:
        """Return what is wrong with the profile's indexes, a line each, without changing any: see `IndexStore`."""
        revision = self._catalog.revision
        problems: list[str] = []
        for space in profile.spaces:
            for view in space.front_ends:
                problems += self._store(space, view).verify(self._live(space, view), revision, self._fetch(space))
        return problems

    def discard(self, profile: Profile) -> None:
        """Forget every index of the profile, so that each is built anew; the caller holds the lock."""
        for space in profile.spaces:
            for view in space.front_ends:
                self._store(space, view).discard()
                place = self._place(space, view)
                with place.guard:
                    place.held = None

    def allowed(
        self, space: Space, view: View, modalities: frozenset[Modality], revision: int | None = None
    ) -> Bitmap | None:
        """Return the bitmap of a view's embeddings whose content is of one of these modalities; None if all are.

        It is read again only with another index: what the catalog holds beyond this one isn't found anyway.
        """
        if not modalities:
            return None
        bitmaps = self._current(space, view, revision).bitmaps
        if modalities not in bitmaps:
            space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
            some = space_id is not None and self._catalog.has_other(space_id, view, modalities)
            bitmaps[modalities] = bitmap(self._live(space, view, modalities)) if some else None
        return bitmaps[modalities]

    def check(self, profile: Profile) -> None:
        """Raise `LinkError` where a link is in the way of an index of the profile: see `mmsearch.layout`."""
        for space in profile.spaces:
            self._own.check(self._own_folder / _folder_name(space))
            for view in space.front_ends:
                self._store(space, view)

    def file(self, space: Space, view: View, name: str) -> Path:
        """Return where something is kept that goes with an index, and goes when it goes. Raises `LinkError`."""
        folder = self._own_folder / _folder_name(space)
        self._own.check(folder)
        return folder / f"{view.value}.{name}"

    def remove(self, file: Path) -> None:
        """Remove what `file` said, if it is there."""
        self._own.remove(file.parent, lambda name: name == file.name)

    def exact(self) -> Indexes:
        """Return what answers as these do by comparing with every vector of the catalog: the measure of them."""
        return ExactIndexes(self._catalog, self.folder, self._write_lock)

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

    def _catch_up(self, space: Space, view: View, revision: int) -> _Held:
        store = self._store(space, view)
        try:
            self._prepare()
            held = store.revision()
            if held is not None and held != revision and not self._catalog.had_revision(held):
                store.discard()  # it holds another catalog's vectors, or those of a state that was rolled back
            index = store.open() if held == revision else None
            if index is None:
                began = time.monotonic()
                index = store.catch_up(self._live(space, view), revision, self._fetch(space))
                took_s = time.monotonic() - began
                _log.debug("caught up the index of %s %s: %d in %.3f s", space.name, view, index.count, took_s)
        except OSError as error:
            raise self._unwritable(error) from error
        return _Held(index, revision, store.stamp())

    def _fetch(self, space: Space) -> Callable[[Ids], tuple[Ids, NDArray[np.float32]]]:
        return lambda ids: self._catalog.vectors(ids, space.dim)

    def _live(self, space: Space, view: View, modalities: Iterable[Modality] | None = None) -> Ids:
        space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
        if space_id is None:
            return np.empty(0, np.int64)
        ids = self._catalog.embedding_ids(space_id, view, modalities)
        return ids if not len(ids) or (ids[0] >= 0 and ids[-1] < MOST_ID) else ids[(ids >= 0) & (ids < MOST_ID)]

    def _store(self, space: Space, view: View) -> IndexStore:
        """Return the store of an index. Raises `LinkError` where a link is in its way."""
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
            f"{error.filename or self.folder}: {error.strerror or error}; the catalog is whole, "
            "so mend that and run 'mmsearch index' again",
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
    """Compares with every vector of the catalog in NumPy, without any file: for measuring, and where FAISS is missing.

    For small libraries that is as good: `LARGE_ROWS` vectors are read in about a tenth of a second.
    """

    def _current(self, space: Space, view: View, known: int | None = None) -> _Held:
        """Return every vector of a view in memory."""
        place, revision = self._place(space, view), self._catalog.revision if known is None else known
        with place.guard:
            if place.held is None or place.held.revision != revision:
                index = ExactIndex.read(space.dim, self._live(space, view), self._fetch(space))
                place.held = _Held(index, revision, None)
                if index.count > LARGE_ROWS:
                    self._name_the_extra()
            return place.held

    def _catch_up(self, space: Space, view: View, revision: int) -> _Held:
        """Return every vector of a view; nothing is written. Called at the end of an index run."""
        self._name_the_extra()
        return self._current(space, view, revision)

    def verify(self, profile: Profile) -> list[str]:
        """Return nothing: there are no files."""
        return []

    def status(self, profile: Profile) -> tuple[IndexStatus, ...]:
        """Return a line for each view that has vectors; none is ever stale."""
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
    """Return a name for a space's folder; that of a space may hold what no folder's may, and be long."""
    digest = hashlib.blake2b(f"{space.name} {space.fingerprint}".encode("utf-8", "surrogateescape"), digest_size=8)
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', space.name)[:40]}-{digest.hexdigest()}"
