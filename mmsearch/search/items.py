"""Stage 1: texts and files → query items, each with what the towers take of its views."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from mmsearch.catalog import Catalog
from mmsearch.errors import FULL, DiskFullError, MediaError, MMSearchError, QueryError, why
from mmsearch.media import (
    HEAD_BYTES,
    by_name,
    content_digest,
    digest_of_bytes,
    find_sidecars,
    name_for,
    resolve,
)
from mmsearch.paths import absolute
from mmsearch.printable import without_invisible
from mmsearch.search.inputs import InputKind, as_picture, as_vector, kind_of
from mmsearch.search.query import Query
from mmsearch.settings import Limits
from mmsearch.spaces import Prepared, Profile, Space, Vectors, decoding_needs
from mmsearch.types import Modality, View

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mmsearch.sandbox.work import PreparedContent
    from mmsearch.types import QueryInput

_log = logging.getLogger(__name__)
_GIVEN = "the bytes of the query"
"""How messages name a file that is given as bytes."""
_HASHED_BYTES = 2**28
"""A larger query file isn't hashed to find out whether the library holds a copy of it."""
_LIKELY_VIEWS: Mapping[Modality | None, View] = {Modality.AUDIO: View.AUDIO, Modality.TEXT: View.TEXT}
"""The main view of most files of a kind, where that isn't the visual one."""


@dataclass(frozen=True, slots=True)
class QueryItem:
    """A text or a file of a query: for each of its views one input or more, which are averaged.

    A longer text has several passages, in `texts`. A file or a picture has `inputs`, which went through the front ends
    already: a clip those of the frames of its shots, and of their sound. A `vector` (dim,) is one of the model's space
    `space`, and compared with every view as a text is.
    """

    views: frozenset[View]
    texts: tuple[str, ...] = ()
    inputs: Mapping[tuple[str, View], tuple[Prepared, ...]] = field(default_factory=dict)
    vector: Vectors | None = None
    space: str = ""

    def query_views(self, item_view: View) -> tuple[View, ...]:
        """Return the views that are compared with a view of the library: the same one if there is one, else all."""
        return (item_view,) if item_view in self.views else tuple(sorted(self.views))

    @property
    def main(self) -> View:
        """The view that stands for the whole where only one can: visual before audio before text."""
        return next(view for view in (View.VISUAL, View.AUDIO, View.TEXT) if view in self.views)

    def prepare(self, space: Space, view: View) -> Sequence[Prepared]:
        """Return what a space's tower takes of a view; the space has a tower for it."""
        if self.texts:
            return [space.front_ends[view](text) for text in self.texts]
        return self.inputs[space.name, view]


def read_items(
    items: Sequence[QueryInput],
    profile: Profile,
    limits: Limits,
    within_s: float | None = None,
    meanwhile: Callable[[View], None] = lambda _: None,
) -> list[QueryItem]:
    """Return the query items of texts (str), files (Path, or the bytes of one), pictures and vectors.

    A str that is longer than the text tower takes is cut into passages. Captions and other text of a picture, a sound
    or a clip are not part of the query, and of a long sound or clip only the first part is. Files are decoded in other
    processes, several at a time; `within_s` is how long all of them may take together. `meanwhile` is called with the
    likely view of the first one, for there is time to load what the answer needs. Raises `QueryError` for an empty
    text or a vector of no space, `MediaError` naming the file.
    """
    with _Reading(profile, limits) as reading:
        begun = {n: reading.begin(item) for n, item in enumerate(items) if isinstance(item, Path | bytes)}
        until = None if within_s is None else time.monotonic() + within_s
        if begun:
            meanwhile(_LIKELY_VIEWS.get(_likely_modality(items[min(begun)]), View.VISUAL))
        return [
            reading.finish(item, begun[n], until) if n in begun else _read_at_once(item, profile)
            for n, item in enumerate(items)
        ]


def warm_for(items: Iterable[QueryInput], limits: Limits) -> None:
    """Start the process that will decode the first file among these, so that it is ready when the model is."""
    if (file := next((item for item in items if isinstance(item, Path | bytes)), None)) is not None:
        from mmsearch.sandbox.shared import shared_sandbox  # texts need no other process

        shared_sandbox(limits).warm(_likely_modality(file))


def _likely_modality(file: QueryInput) -> Modality | None:
    if isinstance(file, bytes):
        head = file[:HEAD_BYTES]
        return resolve(name_for(head), head)
    return by_name(str(file))


def _read_at_once(item: QueryInput, profile: Profile) -> QueryItem:
    """Return the query item of what needs no decoding."""
    if isinstance(item, str):
        return _read_text(without_invisible(item), profile)
    if kind_of(item) is InputKind.VECTOR:
        return _read_vector(as_vector(np.asarray(item)), profile)
    picture = as_picture(item)
    ends = {space.name: space.front_ends[View.VISUAL] for space in profile.spaces if View.VISUAL in space.front_ends}
    inputs = {(name, View.VISUAL): (end(picture),) for name, end in ends.items()}
    return QueryItem(frozenset({View.VISUAL}), inputs=inputs)


def _read_vector(vector: Vectors, profile: Profile) -> QueryItem:
    space = next((space for space in profile.spaces if space.dim == len(vector)), None)
    if space is None:
        dims = " or ".join(str(dim) for dim in dict.fromkeys(space.dim for space in profile.spaces))
        raise QueryError(f"the vector has {len(vector)} numbers, but those of the model {profile.name} have {dims}")
    return QueryItem(frozenset({View.TEXT}), vector=vector, space=space.name)


def _read_text(text: str, profile: Profile) -> QueryItem:
    if not text.strip():
        raise QueryError("an empty text matches nothing; give some words")
    from mmsearch.media.text import passages

    _, max_tokens, count_tokens, _ = decoding_needs(profile.front_ends.values())
    return QueryItem(frozenset({View.TEXT}), tuple(passages(text, count_tokens, max_tokens)) or (text,))


class _Reading:
    """Reads the files of one query in the sandbox, for one model; the context manager keeps those that are bytes."""

    def __init__(self, profile: Profile, limits: Limits) -> None:
        self._profile, self._limits = profile, limits
        self._kept = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def begin(self, file: Path | bytes) -> Future[PreparedContent]:
        from mmsearch.sandbox.keeper import Job, Needs  # texts need none of this
        from mmsearch.sandbox.shared import shared_sandbox
        from mmsearch.sandbox.work import Request

        self._sandbox = shared_sandbox(self._limits)
        named = self._written(file) if isinstance(file, bytes) else file
        path = absolute(named)  # the worker's folder is another
        request = Request(path, joins=False)
        _log.debug("decoding %r, which asks", path)
        return self._sandbox.submit(
            Job(request, Needs.of(self._profile.front_ends, self._limits), self._limits.query_s)
        )

    def finish(self, file: QueryInput, future: Future[PreparedContent], until: float | None) -> QueryItem:
        named = _GIVEN if isinstance(file, bytes) else file
        try:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            return _as_item(self._sandbox.take(future, left_s))
        except TimeoutError:
            future.cancel()
            took = f"decoding took more than {self._limits.query_s:.0f} s"
            raise MediaError(f"{named}: {took}; convert or shorten the file") from None
        except MediaError as error:
            error.locate(named)
            raise

    def _written(self, content: bytes) -> Path:
        """Write the bytes of a file where only this user can read them, until the query is read."""
        import tempfile

        try:
            folder = self._kept.enter_context(tempfile.TemporaryDirectory(prefix="mmsearch-"))
            file = Path(folder) / name_for(content[:HEAD_BYTES])
            file.write_bytes(content)
        except OSError as error:
            kind = DiskFullError if error.errno in FULL else MMSearchError
            raise kind(f"{_GIVEN} can't be kept for decoding: {why(error)}") from error
        return file


def _as_item(content: PreparedContent) -> QueryItem:
    """Return a decoded file as a query item: what is seen and heard in it, and what is written only in a text."""
    segments = content.segments
    audible = [segment for segment in segments if not segment.silent] or segments
    by_view = {View.VISUAL: segments, View.AUDIO: audible, View.TEXT: segments}
    views = {view for view, its in by_view.items() if any(view in segment.views for segment in its)}
    if View.VISUAL in views and all(segment.silent for segment in segments):
        views.discard(View.AUDIO)
    if content.modality is Modality.TEXT and View.TEXT in views:
        views = {View.TEXT}  # its pages are seen, too
    if len(views) > 1:
        views.discard(View.TEXT)
    inputs: dict[tuple[str, View], tuple[Prepared, ...]] = {}
    for view in views:
        own = [segment.views[view] for segment in by_view[view] if view in segment.views]
        for space in dict.fromkeys(space for one in own for space in one):
            inputs[space, view] = tuple(prepared for one in own for prepared in one.get(space, ()))
    return QueryItem(frozenset(views), inputs=inputs)


def own_contents(query: Query, catalog: Catalog) -> list[int]:
    """Return the contents of the library that are the query's own files, if the query is of files alone.

    A text, a vector or a negative term changes the meaning of the query, so that the file itself need not come first.
    """
    found: list[int | None] = []
    for term in query.terms:
        item = term.item
        if term.weight < 0 or kind_of(item) in (InputKind.TEXT, InputKind.VECTOR):
            return []
        if isinstance(item, bytes):
            if len(item) <= _HASHED_BYTES:
                found.append(catalog.content_with_hash(digest_of_bytes(item)))
            continue
        if not isinstance(item, Path):
            continue  # a picture in memory has no file that it could be
        path = absolute(item)
        try:
            found.append(_unchanged_content(path, catalog) or content_like(path, catalog))
        except (MediaError, OSError):
            continue  # it could be read a moment ago; it just doesn't come first
    return [content for content in dict.fromkeys(found) if content is not None]


def content_like(path: bytes, catalog: Catalog) -> int | None:
    """Return the content with the same bytes and captions as a file. Raises `MediaError`, `OSError`."""
    if os.stat(path).st_size > _HASHED_BYTES:  # noqa: PTH116
        return None
    return catalog.content_with_hash(content_digest(path, find_sidecars(path)))


def _unchanged_content(path: bytes, catalog: Catalog) -> int | None:
    """Return the content of a file that the library holds and that hasn't changed since, without reading the file."""
    row = catalog.media_at([path]).get(path)
    if row is None:
        return None
    status = os.stat(path)  # noqa: PTH116
    return row.content_id if (status.st_size, status.st_mtime_ns) == (row.size_bytes, row.mtime_ns) else None
