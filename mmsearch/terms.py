"""Terms and items → vectors of a space: what a text, a picture or a note asks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import MediaError, ModelError, QueryError
from mmsearch.media import DecodeOptions, decode
from mmsearch.paths import expand
from mmsearch.settings import Limits
from mmsearch.spaces import Profile, Space, Vectors, decoding_needs, embed, normalise
from mmsearch.types import Term, View

if TYPE_CHECKING:
    from mmsearch.types import Payload


@dataclass(frozen=True, slots=True)
class Asked:
    """What a text or a file asks with: the payloads of one view, several for the passages of a longer text."""

    view: View
    payloads: tuple[Payload, ...]


def read_item(item: str | Path, profile: Profile, limits: Limits) -> Asked:
    """Return the payloads of a text (str) or a file (Path): a picture's visual view, a text's passages.

    A str that is longer than the tower is cut into passages too. Raises `MediaError` naming the
    file.
    """
    ends = [end for space in profile.spaces for end in space.front_ends.values()]
    options = DecodeOptions(limits, *decoding_needs(ends))
    if isinstance(item, str):
        if not item.strip():
            raise QueryError("an empty text matches nothing; give some words")
        from mmsearch.media.text import passages

        found = tuple(passages(item, options.count_tokens, options.max_tokens))
        return Asked(View.TEXT, found or (item,))
    try:
        segments = decode(os.fsencode(expand(item)), (), options).segments
    except MediaError as error:
        raise MediaError(f"{item}: {error}") from error
    view = next(view for view in (View.VISUAL, View.AUDIO, View.TEXT) if view in segments[0].views)
    return Asked(view, tuple(segment.views[view] for segment in segments if view in segment.views))


def vector_of(space: Space, asked: Asked) -> Vectors:
    """Return (dim,) float32: the normalised mean of an item's payloads in a space."""
    return normalise(embed(space, asked.view, asked.payloads).mean(axis=0))


def combine(space: Space, terms: Sequence[Term], asked: Sequence[Asked]) -> Vectors:
    """Return (dim,) float32: normalise(Σ wᵢ eᵢ). Raises `QueryError` where the terms cancel each other out."""
    largest = max(abs(term.weight) for term in terms)  # only ratios count, and float32 overflows
    total = np.sum([term.weight / largest * vector_of(space, a) for term, a in zip(terms, asked, strict=True)], axis=0)
    if float(np.linalg.norm(total)) < 1e-4:
        raise QueryError("the terms cancel each other out; leave one out or change a weight")
    return normalise(total)


def embed_items(items: str | Path | Iterable[str | Path], profile: Profile, limits: Limits) -> Vectors:
    """Return (n, dim) float32, L2-normalised, in input order, by the profile's first space that takes every item."""
    items = [items] if isinstance(items, str | Path) else items
    asked = [read_item(item, profile, limits) for item in items]
    views = {a.view for a in asked}
    space = profile.space_for(*views)
    if space is None:
        raise ModelError(f"no space of the model {profile.name} takes {' and '.join(sorted(views))}; use model='mini'")
    if not asked:
        return np.zeros((0, space.dim), np.float32)
    # All payloads of one view go through its tower together; then each item is the mean of its own.
    out = np.zeros((len(asked), space.dim), np.float32)
    for view in views:
        rows = [i for i, a in enumerate(asked) if a.view is view]
        vectors = embed(space, view, [payload for i in rows for payload in asked[i].payloads])
        ends = np.cumsum([len(asked[i].payloads) for i in rows])[:-1]
        out[rows] = [part.mean(axis=0) for part in np.split(vectors, ends)]
    return normalise(out)
