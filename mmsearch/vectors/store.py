"""The files of one vector index: immutable generations, the deleted ids, and a manifest that names them.

An index is a cache of the catalog. Every file is written under a temporary name, synced and renamed, and the manifest
comes last, so a process killed at any point leaves either the old index or the new one. Nothing in the folder is
trusted: each file must be a regular file of exactly the size that the manifest implies, and every byte is checked
when the index is opened. An index that fails a check is rebuilt.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmsearch.errors import DamagedIndexError
from mmsearch.files import (
    is_real_folder,
    make_folder,
    read_bounded,
    remove_own,
    remove_temporary,
    sync_folder,
    unpack_array,
    write_whole,
)
from mmsearch.layout import INDEX
from mmsearch.vectors.base import Fetch, Ids, finite_codes
from mmsearch.vectors.faiss_index import FaissIndex
from mmsearch.vectors.generation import open_generation, write_generation
from mmsearch.vectors.manifest import (
    MOST_BYTES,
    MOST_SERIAL,
    Manifest,
    StoredFile,
    parse_manifest,
    serial_of,
)

Stamp = tuple[int, int, int]

SHARD_ROWS = 2**19
"""Most vectors in one file (256 MB at 256 dimensions)."""
MERGE_SHARE = 0.1
"""The index is rewritten when deltas and deleted ids exceed this share of its base rows."""
MAX_DELTAS = 16
"""The index is rewritten when it has this many deltas."""
MANIFEST = "manifest.json"
_FETCH_ROWS = 2**15
"""Vectors that are read from the catalog at once."""
_NPY_HEADER_BYTES = 2**12
_TRIES = 3
"""A reader opens the index again this often if a writer replaces its files meanwhile."""


class IndexStore:
    """The folder of one index, below `root` (by default the folder itself). Links below `root` aren't followed."""

    def __init__(self, folder: Path, dim: int, root: Path | None = None) -> None:
        self._folder = folder
        self._dim = dim
        self._root = root or folder

    def stamp(self) -> Stamp | None:
        """Return a value that changes whenever an index is published, None if there is no index."""
        try:
            status = (self._folder / MANIFEST).lstat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def revision(self) -> int | None:
        """Return the catalog revision that the index represents, or None if there is no usable manifest."""
        manifest = self._manifest()
        return manifest.revision if manifest else None

    def open(self) -> FaissIndex | None:
        """Open the index on disk and check every byte; return None if it is missing, damaged or of another format."""
        manifest = self._manifest()
        return self._open(manifest) if manifest else None

    def open_with_revision(self) -> tuple[FaissIndex, int] | None:
        """Return the index on disk with the catalog revision that it represents, or None: see `open`."""
        for _ in range(_TRIES):
            manifest = self._manifest()
            if manifest is None:
                return None
            if (index := self._open(manifest)) is not None:
                return index, manifest.revision
            if self._manifest() == manifest:  # otherwise a writer has published another index and removed these files
                return None
        return None

    def verify(self, live: Ids, revision: int, fetch: Fetch) -> list[str]:
        """Return the index's faults, one line each. An index that is missing or behind the catalog has none.

        Every file is checked, and every code is compared with the catalog's vector of the same id. `live` are the
        catalog's sorted ids at `revision`.
        """
        file = self._folder / MANIFEST
        if not os.path.lexists(self._folder):
            return []
        if not is_real_folder(self._folder, self._root):
            return [f"{self._folder} is a link or lies below one"]
        if not os.path.lexists(file):
            return []
        manifest = self._manifest()
        if manifest is None:
            return [f"{file} isn't the manifest of an index of {self._dim} dimensions in today's format"]
        try:
            index = self._map(manifest)
        except (DamagedIndexError, OSError) as error:
            return [str(error)]
        return self._differences(index, live if manifest.revision == revision else None, fetch)

    def _differences(self, index: FaissIndex, live: Ids | None, fetch: Fetch) -> list[str]:
        """Return how an index differs from the catalog: in its codes and, if `live` is known, in its ids."""
        indexed, different, missing, surplus = index.ids(), 0, 0, 0
        for start in range(0, len(indexed), _FETCH_ROWS):
            ids, codes = finite_codes(*fetch(indexed[start : start + _FETCH_ROWS]))
            different += int((index.vectors(ids) != codes).any(axis=1).sum())
        if live is not None:
            absent = np.setdiff1d(live, indexed)
            for start in range(0, len(absent), _FETCH_ROWS):
                missing += len(finite_codes(*fetch(absent[start : start + _FETCH_ROWS]))[0])
            surplus = len(np.setdiff1d(indexed, live))
        problems = [f"{self._folder} holds other vectors than the catalog under {different:,} ids"] if different else []
        if missing or surplus:
            problems.append(f"{self._folder} lacks {missing:,} ids of the catalog and has {surplus:,} unknown to it")
        return problems

    def discard(self) -> None:
        """Remove the manifest, so that the next catch-up rebuilds the index."""
        if is_real_folder(self._folder, self._root):
            (self._folder / MANIFEST).unlink(missing_ok=True)

    def catch_up(self, live: Ids, revision: int, fetch: Fetch) -> FaissIndex:
        """Bring the index to the catalog's sorted `live` ids and return it.

        Changes are written as a delta and a list of deleted ids; from 10 % of the base rows on (`MERGE_SHARE`), the
        whole index is rewritten. Raises `OSError` if it can't be written.
        """
        manifest, index = self._manifest(), self.open()
        serial = self._next_serial(manifest)
        if manifest is None or index is None:
            return self._rewrite(live, revision, fetch, serial)
        if manifest.revision == revision:
            return index
        indexed = index.ids()
        new, removed = np.setdiff1d(live, indexed), np.setdiff1d(indexed, live)
        earlier = self._deleted(manifest)
        deleted = np.union1d(earlier, removed)
        base_rows = sum(file.count for file in manifest.generations if file.is_base)
        pending = len(new) + len(deleted) + sum(file.count for file in manifest.generations if not file.is_base)
        deltas = sum(not file.is_base for file in manifest.generations)
        if pending > MERGE_SHARE * base_rows or deltas >= MAX_DELTAS or np.isin(new, earlier).any():
            return self._rewrite(live, revision, fetch, serial)
        generations = manifest.generations
        if len(new):
            generations += tuple(self._write_generations(new, fetch, serial, base=False))
        stored = self._write_deleted(deleted, serial) if len(removed) else manifest.deleted
        return self._publish(Manifest(self._dim, revision, serial, generations, stored))

    def _rewrite(self, live: Ids, revision: int, fetch: Fetch, serial: int) -> FaissIndex:
        generations = tuple(self._write_generations(live, fetch, serial, base=True))
        return self._publish(Manifest(self._dim, revision, serial, generations, None))

    def _write_generations(self, ids: Ids, fetch: Fetch, serial: int, *, base: bool) -> Iterator[StoredFile]:
        kind = "base" if base else "delta"
        for number, start in enumerate(range(0, len(ids), SHARD_ROWS)):
            shard = ids[start : start + SHARD_ROWS]
            parts = (fetch(shard[at : at + _FETCH_ROWS]) for at in range(0, len(shard), _FETCH_ROWS))
            make_folder(self._folder, self._root)
            file = self._folder / f"{kind}-{serial:06d}-{number:03d}.faiss"
            temporary = file.with_name(f"{file.name}.tmp")
            count, check = write_generation(temporary, self._dim, parts)
            if count:
                temporary.replace(file)
                yield StoredFile(file.name, count, check)
            else:
                temporary.unlink()

    def _write_deleted(self, ids: Ids, serial: int) -> StoredFile:
        content = io.BytesIO()
        np.save(content, ids)
        make_folder(self._folder, self._root)
        file = self._folder / f"deleted-{serial:06d}.npy"
        write_whole(file, content.getvalue())
        return StoredFile(file.name, len(ids), zlib.crc32(content.getvalue()))

    def _publish(self, manifest: Manifest) -> FaissIndex:
        make_folder(self._folder, self._root)
        sync_folder(self._folder)
        write_whole(self._folder / MANIFEST, manifest.to_json())
        sync_folder(self._folder)
        index = self._map(manifest)
        tidy(self._folder, self._root)
        return index

    def _manifest(self) -> Manifest | None:
        if not is_real_folder(self._folder, self._root):
            return None
        try:
            content = read_bounded(self._folder / MANIFEST, MOST_BYTES, follow_links=False)
        except OSError:
            return None
        return parse_manifest(content, self._dim)

    def _next_serial(self, manifest: Manifest | None) -> int:
        """Return a serial above that of every file in the folder, even if the manifest is lost."""
        names = os.listdir(self._folder) if is_real_folder(self._folder, self._root) else []  # noqa: PTH208  names only
        last = max([manifest.serial if manifest else 0, *(serial_of(name) for name in names)])
        return last + 1 if last < MOST_SERIAL else 1

    def _open(self, manifest: Manifest) -> FaissIndex | None:
        try:
            return self._map(manifest)
        except (DamagedIndexError, OSError):
            return None

    def _map(self, manifest: Manifest) -> FaissIndex:
        """Open every file that a manifest names. Raises `OSError` or `DamagedIndexError` if one has changed."""
        generations = [
            open_generation(self._folder / file.name, self._dim, file.count, file.check)
            for file in manifest.generations
        ]
        every = np.concatenate([np.empty(0, np.int64), *(generation.ids for generation in generations)])
        if not (np.diff(every) > 0).all() and len(np.unique(every)) < len(every):
            raise DamagedIndexError(f"{self._folder} holds an id twice")
        deleted = self._deleted(manifest)
        if len(deleted) and not np.isin(deleted, every).all():
            raise DamagedIndexError(f"{self._folder} deletes ids that it doesn't hold")
        return FaissIndex(self._dim, generations, deleted)

    def _deleted(self, manifest: Manifest) -> Ids:
        stored = manifest.deleted
        if stored is None:
            return np.empty(0, np.int64)
        file = self._folder / stored.name
        content = read_bounded(file, 8 * stored.count + _NPY_HEADER_BYTES, follow_links=False)
        if zlib.crc32(content) != stored.check:
            raise DamagedIndexError(f"{file} is damaged")
        try:
            ids = unpack_array(content)
        except ValueError as error:
            raise DamagedIndexError(f"{file} is damaged ({error})") from error
        if ids.dtype != np.int64 or ids.shape != (stored.count,):
            raise DamagedIndexError(f"{file} is damaged")
        if not (np.diff(ids) > 0).all():
            raise DamagedIndexError(f"{file} holds an id twice")
        return ids


def tidy(folder: Path, root: Path) -> None:
    """Remove files that the manifest doesn't name: those of older generations and of killed processes.

    The caller holds the lock. If the manifest can't be read, generations stay until a rebuild replaces them.
    """
    try:
        manifest = parse_manifest(read_bounded(folder / MANIFEST, MOST_BYTES, follow_links=False))
    except OSError:
        manifest = None
    if manifest is None:
        remove_temporary(folder, root, INDEX)
    else:
        named = {file.name for file in manifest.files} | {MANIFEST}
        remove_own(folder, root, INDEX, lambda name: name not in named)
