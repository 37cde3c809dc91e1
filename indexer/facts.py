"""What files say of themselves, read of those that a library holds since before it was kept: nothing is embedded."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from indexer.roots import steps
from mmsearch.catalog import Catalog, MediaRow
from mmsearch.errors import MediaError, ReadError
from mmsearch.media import find_sidecars
from mmsearch.records import FileFacts
from mmsearch.sandbox.keeper import Job, Needs
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.work import FrontEnds, Request
from mmsearch.settings import Settings

_BATCH = 256
"""Files that are read, and written, together: what a kill loses."""


def fill_facts(
    catalog: Catalog,
    front_ends: FrontEnds,
    settings: Settings,
    roots: Collection[bytes] | None,
    stopped: Callable[[], bool],
) -> int:
    """Read the facts of files whose facts aren't known, of those below `roots` or of all; return how many there were.

    A file that can't be decoded has none, and isn't asked again. One that can't be opened is, by the next run.
    """
    due = _due(catalog, roots)
    first = list(islice(due, _BATCH))
    if not first or stopped():  # no process is started
        return 0
    count, needs = 0, Needs.of(front_ends, settings.limits)
    sandbox = Sandbox(settings.workers, settings.limits)
    try:
        batch = first
        while batch and not stopped():
            found = dict(_read(sandbox, needs, batch))
            catalog.put_facts(found)
            count += len(found)
            batch = list(islice(due, _BATCH))
    finally:
        sandbox.close()
    return count


def _due(catalog: Catalog, roots: Collection[bytes] | None) -> Iterator[MediaRow]:
    """Yield media, each content under the first path that can be opened."""
    taken: set[int] = set()
    for row in catalog.lacking_facts():
        wanted = roots is None or any(step in roots for step in steps(row.path))
        if wanted and row.content_id not in taken and os.access(row.path, os.R_OK):
            taken.add(row.content_id)
            yield row


def _read(sandbox: Sandbox, needs: Needs, batch: Iterable[MediaRow]) -> Iterator[tuple[int, FileFacts]]:
    """Yield the facts of media by the ids of their contents."""
    begun = [(row.content_id, sandbox.submit(Job(_request(row), needs, needs.limits.decode_s))) for row in batch]
    for number, future in begun:
        try:
            yield number, sandbox.take(future).facts or FileFacts()
        except ReadError:  # also one that has changed since it was indexed
            continue
        except MediaError:
            yield number, FileFacts()


def _request(row: MediaRow) -> Request:
    return Request(row.path, find_sidecars(row.path), only_facts=True, stamp=(row.size_bytes, row.mtime_ns))
