"""Entries against the catalog: what is unchanged, what is known under another name, what has to be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from indexer.scan import Entry
from mmsearch.catalog import OF_A_PART, Catalog, FailureRow, MediaRow, NewMedia
from mmsearch.errors import MediaError, why
from mmsearch.media import by_name, content_digest, open_regular
from mmsearch.settings import Limits
from mmsearch.types import Failure, Modality, Stage

_CHUNK = 256
_CHUNK_BYTES = 2**31
"""Entries are settled in chunks of so many, or of so many bytes: what is hashed before anything is decoded."""
_HASHING_THREADS = 4


@dataclass(frozen=True, slots=True)
class Task:
    """A content to be decoded, or a part of it: the file it is read from, and the hash it goes by.

    `from_s` is where a part begins that isn't the first; `modality` is then what the first one was.
    """

    entry: Entry
    hash: bytes
    known_path: bool
    from_s: float = 0.0
    modality: Modality | None = None


@dataclass(slots=True)
class Plan:
    """Compares entries with the catalog; iterate `tasks` for what has to be decoded.

    `key` is the profile's: contents embedded under another are done anew. `version` is the program's: failures of an
    older one are tried again, as are files that couldn't be opened, and with `retry` all of them. `change` says that
    the library changes to this profile, and another has embedded what it holds.
    """

    catalog: Catalog
    key: str
    version: str
    limits: Limits
    retry: bool = False
    change: bool = False
    unchanged: int = 0
    reused: int = 0
    failures: list[tuple[Failure, Entry]] = field(default_factory=list)
    """What couldn't be read; recorded, and taken away, by the run."""
    seen: bytearray = field(default_factory=bytearray)
    """One byte a media id: whether its file was found."""
    seen_failures: set[bytes] = field(default_factory=set)
    """Paths whose recorded failure, if there is one, still holds."""
    copies: list[Entry] = field(default_factory=list)
    """Entries whose content was in flight under another name; to be planned again, by `last_tasks`, after it."""
    _in_flight: set[bytes] = field(default_factory=set)
    _landed: set[bytes] = field(default_factory=set)
    _remounted: dict[NewMedia, int] = field(default_factory=dict)

    def tasks(self, entries: Iterable[Entry]) -> Iterator[Task]:
        """Yield what has to be decoded, one task a content; everything else is settled on the way."""
        rest = iter(entries)
        pool = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="hash")
        try:
            while chunk := list(_chunk(rest)):
                yield from self._settle(chunk, pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def landed(self, digests: Iterable[bytes]) -> None:
        """Note that contents were committed: from the next chunk on, a copy of one finds it in the catalog."""
        self._landed.update(digests)

    def last_tasks(self) -> Iterator[Task]:
        """Yield those copies whose first name didn't decode: each is tried by itself, the others are known by now."""
        copies, self.copies = self.copies, []
        self._in_flight.clear()
        for task in self.tasks(copies):
            self._in_flight.clear()
            yield task

    def _settle(self, chunk: list[Entry], pool: ThreadPoolExecutor) -> Iterator[Task]:
        rows = self.catalog.media_at(entry.path for entry in chunk)
        failed = self.catalog.failures_at(path for entry in chunk for path in (entry.path, *entry.sidecars))
        due = {entry for entry in chunk if self._partly_due(entry, rows, failed)}
        unsettled = [
            entry
            for entry in chunk
            if not self._settled(entry, rows.get(entry.path), failed.get(entry.path)) or entry in due
        ]
        hashed: list[tuple[Entry, bytes]] = []
        for entry, outcome in zip(unsettled, pool.map(self._try_hash, unsettled), strict=True):
            if isinstance(outcome, bytes):
                hashed.append((entry, outcome))
            else:
                self.failures.append((outcome, entry))
        self._in_flight -= self._landed
        self._landed.clear()
        known = self.catalog.contents_by_hash({digest for _, digest in hashed}, self.key)
        if self._remounted:
            self.catalog.point(self._remounted)
            self._remounted = {}
        known = {digest: known[digest] for entry, digest in hashed if digest in known and entry not in due}
        whole = {digest for digest, content in known.items() if content.resume_s is None}
        again = {as_media(entry): known[digest].id for entry, digest in hashed if digest in whole}
        if again:
            self.catalog.point(again)
            self.reused += len(again)
        for entry, digest in hashed:
            if digest in whole:
                self.seen_failures.update((entry.path, *entry.sidecars))
                continue
            if digest in self._in_flight:
                self.copies.append(entry)
                continue
            self._in_flight.add(digest)
            row, part = rows.get(entry.path), known.get(digest)
            # What was begun was counted by no run yet, but in a change almost all of it was known before.
            known_path = row is not None and (row.resume_s is None or self.change)
            if part is None:
                yield Task(entry, digest, known_path)
            else:
                if _is_partial(failed.get(entry.path)):
                    self.seen_failures.add(entry.path)
                yield Task(entry, digest, known_path, part.resume_s or 0.0, part.modality)

    def _partly_due(self, entry: Entry, rows: Mapping[bytes, MediaRow], failed: Mapping[bytes, FailureRow]) -> bool:
        """Return whether a part of an indexed file is worth another try: a sidecar of it, or its broken tail."""
        own = failed.get(entry.path) if entry.path in rows else None
        broken = own if _is_partial(own) else None
        return self._due(broken) or any(self._sidecar_due(failed.get(path), path) for path in entry.sidecars)

    def _sidecar_due(self, failure: FailureRow | None, path: bytes) -> bool:
        if failure is not None and failure.stage == Stage.READ:
            try:
                open_regular(path).close()
            except MediaError:
                self.seen_failures.add(path)
                return False
        return self._due(failure)

    def _settled(self, entry: Entry, row: MediaRow | None, failure: FailureRow | None) -> bool:
        if row is not None:
            self._see(row.id)
            if (row.size_bytes, row.mtime_ns, row.sidecars, row.embedded_by, row.resume_s) == (
                entry.size_bytes,
                entry.mtime_ns,
                entry.sidecar_stamp,
                self.key,
                None,
            ):
                if row.device != entry.device:
                    self._remounted[as_media(entry)] = row.content_id
                self.seen_failures.update(entry.sidecars)
                if _is_partial(failure):
                    self.seen_failures.add(entry.path)
                self.unchanged += 1
                return True
            if row.embedded_by is not None or not self.change or failure is None or failure.stage != Stage.ENCODE:
                return False  # its failure, if there is one, is of a part: what isn't done is gone on with
        if failure is None or self._due(failure):
            return False
        if failure.stamp == entry.stamp:
            self.seen_failures.add(entry.path)
            self.unchanged += 1
            return True
        return False

    def _due(self, failure: FailureRow | None) -> bool:
        """Return whether what failed is worth another try although its file didn't change.

        A file that couldn't be opened always is: mended permissions show in neither size nor mtime.
        """
        if failure is None or self.retry or failure.stage == Stage.READ:
            return failure is not None
        return failure.version != self.version_for(failure.stage)

    def version_for(self, stage: str) -> str:
        """Return the version of what a failure of this stage is due to: what can't be encoded is so by the profile."""
        return f"{self.version} {self.key}" if stage == Stage.ENCODE else self.version

    def _see(self, media_id: int) -> None:
        if media_id >= len(self.seen):
            self.seen.extend(bytes(media_id + 1 - len(self.seen) + 4096))
        self.seen[media_id] = 1

    def _try_hash(self, entry: Entry) -> bytes | Failure:
        path = Path(os.fsdecode(entry.path))
        most = self.limits.file_bytes(by_name(entry.path))
        if entry.size_bytes > most:
            return Failure(path, Stage.DECODE, f"the file is larger than {most / 2**20:,.0f} MB; make it smaller")
        try:
            return content_digest(entry.path, entry.sidecars)
        except MediaError as error:
            reason = str(error)
        except OSError as error:
            reason = f"can't be read: {why(error, 'check the disk')}"
        return Failure(path, Stage.READ, reason)


def _chunk(entries: Iterator[Entry]) -> Iterator[Entry]:
    size = 0
    for entry in islice(entries, _CHUNK):
        yield entry
        size += entry.size_bytes
        if size >= _CHUNK_BYTES:
            return


def _is_partial(failure: FailureRow | None) -> bool:
    """Return whether the recorded failure of an indexed file is one of its content: a tail that can't be decoded."""
    return failure is not None and failure.stage in OF_A_PART


def as_media(entry: Entry) -> NewMedia:
    """Return the catalog's row for an entry."""
    return NewMedia(entry.path, entry.size_bytes, entry.mtime_ns, entry.sidecar_stamp, entry.device)
