"""What the routes share: one warm library, the processes that make pictures and clips, and the job of indexing."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.exceptions import HTTPException

from mmsearch.errors import MMSearchError, NoItemError
from mmsearch.media import HEAD_BYTES, resolve
from mmsearch.rooted import open_below
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.stills import LIMITS, Still, clip_of, still_of
from mmsearch.search.query import Query
from mmsearch.types import Term
from mmsearch.web.jobs import IndexJobs
from mmsearch.web.ports import ServedLibrary

if TYPE_CHECKING:
    from mmsearch.media.cut import Clip
    from mmsearch.records import Item

_log = logging.getLogger(__name__)
STILL_SIDES = (160, 320, 640, 1_600)
"""The sizes in which pictures are made, in pixels of the longer side."""
_KEPT_BYTES = 2**26
"""How much memory pictures take that may be asked for again."""
_WORKERS = 2
"""Processes that make pictures and clips; files that ask are decoded by others, and don't wait for these."""
_MOST_UPLOADS = 4
"""How many requests with files are answered at a time; each may hold `gate.BODY_BYTES`."""
_WAIT_S = 20.0
"""How long a request with files waits for others."""


@dataclass(frozen=True, slots=True)
class OpenedItem:
    """A file of the library, opened for reading; `stamp` changes whenever its content does."""

    item: Item
    file: BufferedReader
    size_bytes: int
    stamp: str


class Service:
    """One library, open for as long as the server runs. Any thread may use it."""

    def __init__(self, library: ServedLibrary) -> None:
        self.library = library
        self.jobs = IndexJobs(library)
        self.closing = threading.Event()
        self._sandbox = Sandbox(_WORKERS, LIMITS)
        self._uploads = threading.BoundedSemaphore(_MOST_UPLOADS)
        self._guard = threading.Lock()
        self._kept: OrderedDict[tuple[int, str, int, int], bytes] = OrderedDict()
        self._kept_bytes = 0

    def warm(self) -> None:
        """Load the model and the indexes, so that the first query finds them ready."""
        try:
            self.library.answer(Query((Term("a picture of something"),), cut=True))
        except MMSearchError as error:  # whoever asks is told
            _log.warning("%s", error)

    def close(self) -> None:
        """End a run that is under way, and every process."""
        self.closing.set()
        self.jobs.close()
        self._sandbox.close()
        self.library.close()

    def open_item(self, number: int) -> OpenedItem:
        """Open the file of an item, wherever below the library's folders it lies.

        Raises `NoItemError`; `OutsideRootsError` where a link leads out of them, `OSError` where it can't be read.
        """
        item = self.library.item(number)
        path = os.fsencode(item.path)
        try:
            file = open_below(path, self.library.roots())
        except FileNotFoundError:
            raise NoItemError(f"{item.path} isn't there any more; run 'mmsearch index' to take note of that") from None
        try:
            if resolve(path, file.read(HEAD_BYTES)) is None:
                raise NoItemError(f"{item.path} is no picture, sound, video or text any more")
            file.seek(0)
            status = os.fstat(file.fileno())
        except BaseException:
            file.close()
            raise
        return OpenedItem(item, file, status.st_size, f"{status.st_size:x}-{status.st_mtime_ns:x}")

    def still(self, number: int, at_s: float, side: int) -> tuple[bytes, str]:
        """Return a JPEG of what is to be seen in an item at a second, and the stamp of its file.

        `side` is one of `STILL_SIDES`. Raises what `open_item` does, `MediaError`, `SandboxError`.
        """
        opened = self.open_item(number)
        opened.file.close()  # it lies where it may be read; the sandbox opens it itself
        key = (number, opened.stamp, round(at_s * 10), side)
        with self._guard:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept, opened.stamp
        made = still_of(self._sandbox, os.path.realpath(os.fsencode(opened.item.path)), at_s, Still(side, side, "JPEG"))
        with self._guard:
            if key not in self._kept:
                self._kept[key] = made
                self._kept_bytes += len(made)
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return made, opened.stamp

    def clip(self, number: int, start_s: float, end_s: float) -> Clip:
        """Return a moment of an item as a file of its own. Raises what `still` does."""
        opened = self.open_item(number)
        opened.file.close()
        return clip_of(self._sandbox, os.path.realpath(os.fsencode(opened.item.path)), start_s, end_s)

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Hold one of the places for requests with files. Raises 503 where all stay taken."""
        if not self._uploads.acquire(timeout=_WAIT_S):
            raise HTTPException(503, "too many files are being looked at; try again in a moment", {"Retry-After": "10"})
        try:
            yield
        finally:
            self._uploads.release()


def service_of(request: Request) -> Service:
    """Return the service of the app that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
