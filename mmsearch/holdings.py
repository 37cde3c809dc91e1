"""Reads a library's items, their vectors and facets from its catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmsearch.catalog import Catalog, Ids
from mmsearch.errors import NoItemError, UsageError, WrongModelError
from mmsearch.records import Details, FileFacts, Item, Segment
from mmsearch.spaces import Profile, Vectors
from mmsearch.types import Facets, Failure, Stage, View

_PAGE = 500
"""Number of items that are read in one transaction."""


def read_items(catalog: Catalog) -> Iterator[Item]:
    """Yield the items of a library by id. Items that are added or removed meanwhile may be missing."""
    ids = sorted(catalog.contents())
    for page in (ids[at : at + _PAGE] for at in range(0, len(ids), _PAGE)):
        for item, _ in _read_some(catalog, page):
            yield item


def read_item(catalog: Catalog, number: int) -> tuple[Item, tuple[Segment[None], ...]]:
    """Return the item of this number, and its segments with their texts, in their order. Raises `NoItemError`."""
    for item_and_segments in _read_some(catalog, [number]):
        return item_and_segments
    raise NoItemError(f"the library holds no item {number}; it may have been removed since it was found")


def read_facets(catalog: Catalog) -> Facets:
    """Return the values by which a library's contents can be filtered, with their numbers."""
    years, cameras = catalog.count_facts()
    return Facets(catalog.count_media(), years, cameras)


def read_details(catalog: Catalog, path: bytes) -> Details:
    """Return everything that the library knows about the file at a path. Raises `UsageError` if it knows nothing."""
    with catalog.one_read():
        media, failed = catalog.media_at([path]).get(path), catalog.failures_at([path]).get(path)
        contents = [media.content_id] if media else []
        paths = catalog.paths_of(contents)
        read = _read_some(catalog, contents)
    failure = Failure(Path(os.fsdecode(path)), Stage(failed.stage), failed.reason) if failed else None
    if media is None and failure is None:
        raise UsageError(f"the library holds nothing at {os.fsdecode(path)}; 'mmsearch index' adds it")
    every_path = tuple(Path(os.fsdecode(name)) for name in (paths[media.content_id] if media else [path]))
    item, segments = read[0] if read else (None, ())
    return Details(every_path, item, segments, failure)


def _read_some(catalog: Catalog, contents: Sequence[int]) -> list[tuple[Item, tuple[Segment[None], ...]]]:
    """Return the existing ones of these contents as items with their segments, in one consistent state."""
    with catalog.one_read():
        rows = catalog.segment_rows(segment for content in contents for segment in catalog.segment_ids(content))
        texts_of, facts_of = catalog.texts_of(rows), catalog.facts_of(contents)
    by_content: dict[int, list[int]] = {}
    for segment, row in sorted(rows.items()):
        by_content.setdefault(row.content_id, []).append(segment)
    items: list[tuple[Item, tuple[Segment[None], ...]]] = []
    for content, ids in sorted(by_content.items()):
        segments = tuple(replace(rows[i], texts=texts_of.get(i, ())) for i in ids)
        first = rows[ids[0]]
        texts = tuple(dict.fromkeys(text for segment in segments for text in segment.texts))
        facts = facts_of.get(content, FileFacts())
        items.append((Item(content, Path(os.fsdecode(first.path)), first.modality, texts, facts), segments))
    return items


def read_vectors(catalog: Catalog, profile: Profile, view: str | View) -> tuple[Ids, Vectors]:
    """Return item ids (n,) int64, ascending, and the vectors (n, dim) float32 of a view: see `Library.vectors`."""
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
