"""What a library holds, read from its catalog: its items, and their vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmsearch.catalog import Catalog, Ids
from mmsearch.errors import UsageError, WrongModelError
from mmsearch.records import FileFacts, Item
from mmsearch.spaces import Profile, Vectors
from mmsearch.types import View

_TOGETHER = 500
"""How many items are read of one moment."""


def read_items(catalog: Catalog) -> Iterator[Item]:
    """Yield the items of a library by id. What is taken out meanwhile may be missing, and so may what is new."""
    ids = sorted(catalog.contents())
    for some in (ids[at : at + _TOGETHER] for at in range(0, len(ids), _TOGETHER)):
        with catalog.one_read():
            rows = catalog.segment_rows(segment for content in some for segment in catalog.segment_ids(content))
            texts_of, facts_of = catalog.texts_of(rows), catalog.facts_of(some)
        by_content: dict[int, list[int]] = {}
        for segment, row in sorted(rows.items()):
            by_content.setdefault(row.content_id, []).append(segment)
        for content, segments in sorted(by_content.items()):
            first = rows[segments[0]]
            texts = dict.fromkeys(text for segment in segments for text in texts_of.get(segment, ()))
            facts = facts_of.get(content, FileFacts())
            yield Item(content, Path(os.fsdecode(first.path)), first.modality, tuple(texts), facts)


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
