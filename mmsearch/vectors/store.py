"""The files of one vector index: immutable generations, the deleted ids, and a manifest that names them.

An index is a cache of the catalog. Every file is written under a temporary name, synced and renamed, and the manifest
last, so that a process killed anywhere leaves either the old index or the new one. What a manifest promises and a file
doesn't hold is never trusted: the index is then rebuilt.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import LibraryError
from mmsearch.files import read_bounded, remove_own, remove_temporary, sync_folder
from mmsearch.layout import INDEX
from mmsearch.vectors.faiss_index import FaissIndex, map_generation, write_generation

Ids = NDArray[np.int64]
Fetch = Callable[[Ids], tuple[Ids, NDArray[np.float32]]]
"""Sorted ids → those that exist, and their vectors (n, dim) float32."""

FORMAT = 1
SHARD_ROWS = 2**19
"""Most vectors in one file: bounds the memory that writing one takes (256 MB at 256 dimensions)."""
MERGE_SHARE = 0.1
MAX_DELTAS = 16
MANIFEST = "manifest.json"
MANIFEST_BYTES = 2**24
"""Larger than any manifest: a thousand files take 100 kB."""
_FETCH_ROWS = 2**15
_CHECKED_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a manifest names. `check` covers its size, its first and its last 16 MiB."""

    name: str
    count: int
    base: bool
    check: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index consists of, and the catalog revision that it answers for."""

    dim: int
    revision: int
    serial: int
    generations: tuple[StoredFile, ...]
    deleted: StoredFile | None


class IndexStore:
    """The folder of one index, reached without a link from `root`; by default that is the folder itself."""

    def __init__(self, folder: Path, dim: int, root: Path | None = None) -> None:
        self._folder = folder
        self._dim = dim
        self._root = root or folder

    def revision(self) -> int | None:
        """Return the catalog revision that the index answers for, or None where there is no usable manifest."""
        manifest = self._manifest()
        return manifest.revision if manifest else None

    def open(self) -> FaissIndex | None:
        """Return the index as it stands on disk, or None where it is missing, damaged or of another format."""
        manifest = self._manifest()
        try:
            return self._map(manifest) if manifest else None
        except (LibraryError, OSError, ValueError, TypeError):  # what a garbled manifest or file may lead to
            return None

    def discard(self) -> None:
        """Forget the index: the next catch-up builds it anew."""
        (self._folder / "manifest.json").unlink(missing_ok=True)

    def catch_up(self, live: Ids, revision: int, fetch: Fetch) -> FaissIndex:
        """Bring the index to the catalog's sorted `live` ids: by a small generation, or by a rewrite past 10 %."""
        manifest, index = self._manifest(), self.open()
        if manifest is None or index is None:
            return self._rewrite(live, revision, fetch, self._next_serial())
        if manifest.revision == revision:
            return index
        have = index.ids()
        new, dead = np.setdiff1d(live, have), np.setdiff1d(have, live)
        every_dead = np.union1d(self._deleted(manifest), dead)
        base_rows = sum(file.count for file in manifest.generations if file.base)
        pending = len(new) + len(every_dead) + sum(file.count for file in manifest.generations if not file.base)
        deltas = sum(not file.base for file in manifest.generations)
        serial = manifest.serial + 1
        if pending > MERGE_SHARE * base_rows or deltas >= MAX_DELTAS:
            return self._rewrite(live, revision, fetch, serial)
        generations = manifest.generations
        if len(new):
            generations += tuple(self._write_generations(new, fetch, serial, base=False))
        deleted = manifest.deleted
        if len(dead):
            deleted = self._write_deleted(every_dead, serial)
        return self._publish(Manifest(self._dim, revision, serial, generations, deleted))

    def _rewrite(self, live: Ids, revision: int, fetch: Fetch, serial: int) -> FaissIndex:
        generations = tuple(self._write_generations(live, fetch, serial, base=True))
        return self._publish(Manifest(self._dim, revision, serial, generations, None))

    def _write_generations(self, ids: Ids, fetch: Fetch, serial: int, *, base: bool) -> Iterator[StoredFile]:
        kind = "base" if base else "delta"
        for number, start in enumerate(range(0, len(ids), SHARD_ROWS)):
            shard = ids[start : start + SHARD_ROWS]
            parts = (fetch(shard[at : at + _FETCH_ROWS]) for at in range(0, len(shard), _FETCH_ROWS))
            name = f"{kind}-{serial:06d}-{number:03d}.faiss"
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = self._folder / f"{name}.tmp"
            count = write_generation(temporary, self._dim, parts)
            yield StoredFile(name, count, base, self._install(temporary))

    def _write_deleted(self, ids: Ids, serial: int) -> StoredFile:
        name = f"deleted-{serial:06d}.npy"
        temporary = self._folder / f"{name}.tmp"
        with temporary.open("wb") as file:
            np.save(file, ids)
        return StoredFile(name, len(ids), False, self._install(temporary))

    def _install(self, temporary: Path) -> int:
        """Sync a finished temporary file, give it its name, and return its check."""
        with temporary.open("rb+") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        check = _check(temporary)
        temporary.replace(temporary.with_suffix(""))
        return check

    def _publish(self, manifest: Manifest) -> FaissIndex:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / "manifest.json.tmp"
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(manifest)}), "utf-8")
        sync_folder(self._folder)
        self._install(temporary)
        sync_folder(self._folder)
        index = self._map(manifest)
        tidy(self._folder, self._root)
        return index

    def _manifest(self) -> Manifest | None:
        try:
            fields = json.loads((self._folder / "manifest.json").read_text("utf-8"))
            if fields["format"] != FORMAT or fields["dim"] != self._dim:
                return None
            return Manifest(
                dim=int(fields["dim"]),
                revision=int(fields["revision"]),
                serial=int(fields["serial"]),
                generations=tuple(StoredFile(**file) for file in fields["generations"]),
                deleted=StoredFile(**fields["deleted"]) if fields["deleted"] else None,
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _next_serial(self) -> int:
        """Return a serial above that of every file in the folder, whatever became of the manifest."""
        names = [file.name for file in self._folder.iterdir()] if self._folder.is_dir() else []
        return 1 + max((int(part) for name in names for part in name.split("-")[1:2] if part.isdecimal()), default=0)

    def _map(self, manifest: Manifest) -> FaissIndex:
        for file in (*manifest.generations, manifest.deleted):
            if file and _check(self._folder / file.name) != file.check:
                raise LibraryError(f"{self._folder / file.name} is damaged")
        generations = [map_generation(self._folder / file.name, self._dim, file.count) for file in manifest.generations]
        return FaissIndex(self._dim, generations, self._deleted(manifest))

    def _deleted(self, manifest: Manifest) -> Ids:
        if manifest.deleted is None:
            return np.empty(0, np.int64)
        return np.asarray(np.load(self._folder / manifest.deleted.name, allow_pickle=False), np.int64)


def tidy(folder: Path, root: Path) -> None:
    """Remove the files of an index that its manifest doesn't name: of older generations, and of killed processes.

    The caller holds the lock. Without a manifest that can be read, files of generations stay for a rebuild to replace.
    """
    try:
        manifest = json.loads(read_bounded(folder / MANIFEST, MANIFEST_BYTES, follow_links=False))
        files = [*manifest["generations"], *filter(None, [manifest["deleted"]])]
        named = {MANIFEST, *(str(file["name"]) for file in files)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        remove_temporary(folder, root, INDEX)
    else:
        remove_own(folder, root, INDEX, lambda name: name not in named)


def _check(file: Path) -> int:
    size = file.stat().st_size
    with file.open("rb") as opened:
        check = zlib.crc32(opened.read(_CHECKED_BYTES), size & 0xFFFFFFFF)
        if size > _CHECKED_BYTES:
            opened.seek(max(_CHECKED_BYTES, size - _CHECKED_BYTES))
            check = zlib.crc32(opened.read(), check)
    return check
