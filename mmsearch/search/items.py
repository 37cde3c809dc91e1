"""Stage 1: texts and files → query items, each with what the towers take of its views."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.catalog import Catalog
from mmsearch.errors import MediaError, QueryError
from mmsearch.media import by_name, content_digest, find_sidecars
from mmsearch.paths import expand
from mmsearch.search.query import Query
from mmsearch.settings import Limits
from mmsearch.spaces import Prepared, Profile, Space, decoding_needs
from mmsearch.types import Modality, View

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mmsearch.sandbox.work import PreparedContent

_HASHED_BYTES = 2**28
"""A larger query file isn't hashed to find out whether the library holds a copy of it."""
_LIKELY_VIEWS: Mapping[Modality | None, View] = {Modality.AUDIO: View.AUDIO, Modality.TEXT: View.TEXT}
"""The main view of most files of a kind, where that isn't the visual one."""


@dataclass(frozen=True, slots=True)
class QueryItem:
    """A text or a file of a query: for each of its views one input or more, which are averaged.

    A longer text has several passages, in `texts`. A file has `inputs`, which went through the front ends already: a
    clip those of the frames of its shots, and of their sound.
    """

    views: frozenset[View]
    texts: tuple[str, ...] = ()
    inputs: Mapping[tuple[str, View], tuple[Prepared, ...]] = field(default_factory=dict)

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
    items: Sequence[str | Path],
    profile: Profile,
    limits: Limits,
    within_s: float | None = None,
    meanwhile: Callable[[View], None] = lambda _: None,
) -> list[QueryItem]:
    """Return the query items of texts (str) and files (Path).

    A str that is longer than the text tower takes is cut into passages. Captions and other text of a picture, a sound
    or a clip are not part of the query, and of a long sound or clip only the first part is. Files are decoded in other
    processes, several at a time; `within_s` is how long all of them may take together. `meanwhile` is called with the
    likely view of the first one, for there is time to load what the answer needs. Raises `QueryError` for an empty
    text, `MediaError` naming the file.
    """
    reading = _Reading(profile, limits)
    begun = {n: reading.begin(item) for n, item in enumerate(items) if isinstance(item, Path)}
    until = None if within_s is None else time.monotonic() + within_s
    if begun:
        meanwhile(_LIKELY_VIEWS.get(by_name(str(items[min(begun)])), View.VISUAL))
    return [
        _read_text(item, profile) if isinstance(item, str) else reading.finish(item, begun[n], until)
        for n, item in enumerate(items)
    ]


def warm_for(items: Iterable[str | Path], limits: Limits) -> None:
    """Start the process that will decode the first file among these, so that it is ready when the model is."""
    if (file := next((item for item in items if isinstance(item, Path)), None)) is not None:
        from mmsearch.sandbox import shared  # texts need no other process

        shared.warm_for(file, limits)


def _read_text(text: str, profile: Profile) -> QueryItem:
    if not text.strip():
        raise QueryError("an empty text matches nothing; give some words")
    from mmsearch.media.text import passages

    ends = [end for space in profile.spaces for end in space.front_ends.values()]
    _, max_tokens, count_tokens, _ = decoding_needs(ends)
    return QueryItem(frozenset({View.TEXT}), tuple(passages(text, count_tokens, max_tokens)) or (text,))


class _Reading:
    """Reads files in the sandbox, for one model."""

    def __init__(self, profile: Profile, limits: Limits) -> None:
        self._profile, self._limits = profile, limits

    def begin(self, file: Path) -> Future[PreparedContent]:
        from mmsearch.sandbox.keeper import Job, Needs  # texts need none of this
        from mmsearch.sandbox.shared import shared_sandbox
        from mmsearch.sandbox.work import Request

        ends = {(space.name, view): end for space in self._profile.spaces for view, end in space.front_ends.items()}
        self._sandbox = shared_sandbox(self._limits)
        path = os.path.abspath(os.fsencode(expand(file)))  # noqa: PTH100  the worker's folder is another
        request = Request(path, joins=False)
        return self._sandbox.submit(Job(request, Needs.of(ends, self._limits), self._limits.query_s))

    def finish(self, file: Path, future: Future[PreparedContent], until: float | None) -> QueryItem:
        try:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            return _as_item(self._sandbox.take(future, left_s))
        except TimeoutError:
            future.cancel()
            took = f"decoding took more than {self._limits.query_s:.0f} s"
            raise MediaError(f"{file}: {took}; convert or shorten the file") from None
        except MediaError as error:
            raise type(error)(f"{file}: {error}") from error


def _as_item(content: PreparedContent) -> QueryItem:
    """Return a decoded file as a query item: what is seen and heard in it, and what is written only in a text."""
    segments = content.segments
    audible = [segment for segment in segments if not segment.silent] or segments
    by_view = {View.VISUAL: segments, View.AUDIO: audible, View.TEXT: segments}
    views = {view for view, its in by_view.items() if any(view in segment.views for segment in its)}
    if View.VISUAL in views and all(segment.silent for segment in segments):
        views.discard(View.AUDIO)
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

    A text or a negative term changes the meaning of the query, so that the file itself need not come first.
    """
    found: list[int | None] = []
    for term in query.terms:
        item = term.item
        if isinstance(item, str) or term.weight < 0:
            return []
        path = os.path.abspath(os.fsencode(expand(item)))  # noqa: PTH100  paths are bytes here
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
