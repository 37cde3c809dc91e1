"""What a library holds, read from its catalog: its items, and their vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmsearch.catalog import Catalog, Ids
from mmsearch.errors import NoItemError, UsageError, WrongModelError
from mmsearch.records import FileFacts, Item, Segment
from mmsearch.spaces import Profile, Vectors
from mmsearch.types import Facets, View

_TOGETHER = 500
"""How many items are read of one moment."""


def read_items(catalog: Catalog) -> Iterator[Item]:
    """Yield the items of a library by id. What is taken out meanwhile may be missing, and so may what is new."""
    ids = sorted(catalog.contents())
    for some in (ids[at : at + _TOGETHER] for at in range(0, len(ids), _TOGETHER)):
        yield from _items(catalog, some)


def read_item(catalog: Catalog, number: int) -> Item:
    """Return the item of this number. Raises `NoItemError`."""
    for item in _items(catalog, [number]):
        return item
    raise _no_item(number)


def read_segments(catalog: Catalog, number: int) -> list[Segment[None]]:
    """Return the segments of an item, with their texts, in the order of their ids. Raises `NoItemError`."""
    with catalog.one_read():
        rows = catalog.segment_rows(catalog.segment_ids(number))
        texts = catalog.texts_of(rows)
    if not rows:
        raise _no_item(number)
    return [Segment(None, row.start_s, row.end_s, texts.get(id_, ()), row.silent) for id_, row in sorted(rows.items())]


def read_facets(catalog: Catalog) -> Facets:
    """Return by what a library's contents can be told apart."""
    years, cameras = catalog.count_facts()
    return Facets(catalog.count_media(), years, cameras)


def _items(catalog: Catalog, ids: list[int]) -> Iterator[Item]:
    with catalog.one_read():
        rows = catalog.segment_rows(segment for content in ids for segment in catalog.segment_ids(content))
        texts_of, facts_of = catalog.texts_of(rows), catalog.facts_of(ids)
    by_content: dict[int, list[int]] = {}
    for segment, row in sorted(rows.items()):
        by_content.setdefault(row.content_id, []).append(segment)
    for content, segments in sorted(by_content.items()):
        first = rows[segments[0]]
        texts = dict.fromkeys(text for segment in segments for text in texts_of.get(segment, ()))
        facts = facts_of.get(content, FileFacts())
        yield Item(content, Path(os.fsdecode(first.path)), first.modality, tuple(texts), facts)


def _no_item(number: int) -> NoItemError:
    return NoItemError(f"the library holds no item {number}; it may have been removed since it was found")


def read_vectors(catalog: Catalog, profile: Profile, view: str | View) -> tuple[Ids, Vectors]:
    """Return the item of each vector of a view, (n,) int64 ascending, and these, (n, dim) float32: see `Library`."""
    try:
        wanted = View(view)
    except ValueError:
        raise UsageError(f"there is no view {view!r}; views are {', '.join(View)}") from None
    space = profile.space_for(wanted)
    if space is None:
        raise WrongModelError(f"no space of the model {profile.name} has the {wanted} view; use another model")
    space_id = catalog.space_id(space.name, space.fingerprint, space.dim)
    if space_id is None:
        return np.empty(0, np.int64), np.empty((0, space.dim), np.float32)
    with catalog.one_read():
        ids, vectors = catalog.vectors(catalog.embedding_ids(space_id, wanted), space.dim)
        segment_of = catalog.segments_of(ids.tolist())
        content_of = catalog.contents_of(segment_of.values())
    owners = np.asarray([content_of[segment_of[i]] for i in ids.tolist()], np.int64)
    order = np.argsort(owners, kind="stable")
    return owners[order], vectors[order]
