"""Plans the changes of a run: reads the catalog's rows for them and hashes files that may have changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from indexer.changes import Changes, Entry, in_parts
from indexer.plan import PathRows, Plan, Rules, compare, plan
from mmsearch.catalog import Catalog
from mmsearch.errors import MediaError, why
from mmsearch.media import by_name, content_digest, open_regular
from mmsearch.settings import Limits
from mmsearch.types import Failure, Stage

_HASHING_THREADS = 4


@dataclass(slots=True)
class Planner:
    """Makes the plans of a run, and keeps the state that several plans share. It writes nothing."""

    catalog: Catalog
    rules: Rules
    limits: Limits
    seen: bytearray = field(default_factory=bytearray)
    """One byte per media id, 1 if its file exists."""
    failing: set[bytes] = field(default_factory=set)
    """Paths whose recorded failure, if there is one, remains valid."""
    _under_way: set[bytes] = field(default_factory=set)
    _copies: list[Entry] = field(default_factory=list)
    _pool: ThreadPoolExecutor | None = None

    def plan(self, changes: Changes) -> Plan:
        """Return the plan for some changes. The contents of its tasks are under way until `landed` is called."""
        result = self._plan(changes, waiting=True)
        self._under_way.update(task.hash for task in result.tasks)
        self._copies += result.copies
        return result

    def landed(self, digests: Iterable[bytes]) -> None:
        """Note that contents are committed or have failed, so that their copies no longer wait for them."""
        self._under_way.difference_update(digests)

    def last_plans(self) -> Iterator[Plan]:
        """Yield the plans for copies that waited for a content. Call this when no content is under way any more.

        If the first file of a content couldn't be decoded, each of its copies is tried by itself.
        """
        copies, self._copies = self._copies, []
        self._under_way.clear()
        for changes in in_parts(copies):
            yield self._plan(changes, waiting=False)

    def close(self) -> None:
        """Stop the threads that hash files."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _plan(self, changes: Changes, *, waiting: bool) -> Plan:
        rows = self._rows_for(changes.found)
        compared = compare(changes, rows, self.rules)
        hashes = self._hash(compared.unsettled)
        digests = {digest for digest in hashes.values() if isinstance(digest, bytes)}
        known = self.catalog.contents_by_hash(digests, self.rules.key) if digests else {}
        result = plan(changes, rows, compared, hashes, known, self._under_way if waiting else None, self.rules)
        for media_id in result.seen:
            self._mark_seen(media_id)
        self.failing |= result.failing
        return result

    def _rows_for(self, entries: Sequence[Entry]) -> PathRows:
        media = self.catalog.media_at(entry.path for entry in entries)
        failures = self.catalog.failures_at(path for entry in entries for path in (entry.path, *entry.sidecars))
        unread = {path for path, failure in failures.items() if failure.stage == Stage.READ}
        sidecars = {path for entry in entries for path in entry.sidecars if path in unread} if unread else set()
        return PathRows(media, failures, {path for path in sidecars if not _can_be_opened(path)})

    def _hash(self, entries: Sequence[Entry]) -> dict[Entry, bytes | Failure]:
        if not entries:
            return {}
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="hash")
        return dict(zip(entries, self._pool.map(self._try_hash, entries), strict=True))

    def _try_hash(self, entry: Entry) -> bytes | Failure:
        path = Path(os.fsdecode(entry.path))
        max_bytes = self.limits.file_bytes(by_name(entry.path))
        if entry.size_bytes > max_bytes:
            return Failure(path, Stage.DECODE, f"the file is larger than {max_bytes / 2**20:,.0f} MB; make it smaller")
        try:
            return content_digest(entry.path, entry.sidecars)
        except MediaError as error:
            reason = str(error)
        except OSError as error:
            reason = f"can't be read: {why(error, 'check the disk')}"
        return Failure(path, Stage.READ, reason)

    def _mark_seen(self, media_id: int) -> None:
        if media_id >= len(self.seen):
            self.seen.extend(bytes(media_id + 1 - len(self.seen) + 4096))
        self.seen[media_id] = 1


def _can_be_opened(path: bytes) -> bool:
    try:
        open_regular(path).close()
    except MediaError:
        return False
    return True
