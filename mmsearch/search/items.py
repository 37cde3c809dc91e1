"""Stage 1: texts and files → query items, each with the payloads of its views."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.catalog import Catalog
from mmsearch.errors import MediaError, QueryError
from mmsearch.media import DecodeOptions, content_digest, decode, find_sidecars
from mmsearch.paths import expand
from mmsearch.search.query import Query
from mmsearch.settings import Limits
from mmsearch.spaces import Profile, decoding_needs
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.types import Payload

_HASHED_BYTES = 2**28
"""A larger query file isn't hashed to find out whether the library holds a copy of it."""


@dataclass(frozen=True, slots=True)
class QueryItem:
    """A text or a file of a query: for each of its views one payload or more, which are averaged.

    A longer text has several passages, a clip the frames of its shots and their sound.
    """

    views: Mapping[View, tuple[Payload, ...]]

    def query_views(self, item_view: View) -> tuple[View, ...]:
        """Return the views that are compared with a view of the library: the same one if there is one, else all."""
        return (item_view,) if item_view in self.views else tuple(self.views)

    @property
    def main(self) -> View:
        """The view that stands for the whole where only one can: visual before audio before text."""
        return next(view for view in (View.VISUAL, View.AUDIO, View.TEXT) if view in self.views)


def read_item(item: str | Path, profile: Profile, limits: Limits) -> QueryItem:
    """Return the query item of a text (str) or a file (Path).

    A str that is longer than the text tower takes is cut into passages. Captions and other text of a picture, a sound
    or a clip are not part of the query, and of a long sound or clip only the first part is. Raises `QueryError` for an
    empty text, `MediaError` naming the file.
    """
    ends = [end for space in profile.spaces for end in space.front_ends.values()]
    options = DecodeOptions(limits, *decoding_needs(ends))
    if isinstance(item, str):
        if not item.strip():
            raise QueryError("an empty text matches nothing; give some words")
        from mmsearch.media.text import passages

        found = tuple(passages(item, options.count_tokens, options.max_tokens))
        return QueryItem({View.TEXT: found or (item,)})
    try:
        segments = decode(os.fsencode(expand(item)), (), options).segments
    except MediaError as error:
        raise MediaError(f"{item}: {error}") from error
    audible = [segment for segment in segments if not segment.silent] or segments
    visual = tuple(payload for segment in segments for payload in segment.views.get(View.VISUAL, ()))
    audio = tuple(payload for segment in audible for payload in segment.views.get(View.AUDIO, ()))
    if visual or audio:
        silent = bool(visual) and all(segment.silent for segment in segments)
        views = {View.VISUAL: visual, View.AUDIO: () if silent else audio}
    else:
        views = {View.TEXT: tuple(payload for segment in segments for payload in segment.views.get(View.TEXT, ()))}
    return QueryItem({view: payloads for view, payloads in views.items() if payloads})


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
