"""Terms and items → vectors of a space: what a text, a picture or a note asks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """What a text or a file asks with: for each of its views some payloads, whose mean it is.

    A longer text has several passages, a clip the frames of its shots and their sound.
    """

    views: Mapping[View, tuple[Payload, ...]]

    def sides(self, view: View) -> tuple[View, ...]:
        """Return the views that ask for items of a view: the same one if it is there, else all of them together."""
        return (view,) if view in self.views else tuple(self.views)

    @property
    def main(self) -> View:
        """The view that stands for the whole where there can be but one: what is seen before what is heard."""
        return next(view for view in (View.VISUAL, View.AUDIO, View.TEXT) if view in self.views)


def read_item(item: str | Path, profile: Profile, limits: Limits) -> Asked:
    """Return what a text (str) or a file (Path) asks with.

    A str that is longer than the tower is cut into passages. What is written beside or in a picture, a sound or a clip
    doesn't ask, and of a long sound or clip only the first part does. Raises `MediaError` naming the file.
    """
    ends = [end for space in profile.spaces for end in space.front_ends.values()]
    options = DecodeOptions(limits, *decoding_needs(ends), joins=False)
    if isinstance(item, str):
        if not item.strip():
            raise QueryError("an empty text matches nothing; give some words")
        from mmsearch.media.text import passages

        found = tuple(passages(item, options.count_tokens, options.max_tokens))
        return Asked({View.TEXT: found or (item,)})
    try:
        segments = decode(os.fsencode(expand(item)), (), options).segments
    except MediaError as error:
        raise MediaError(f"{item}: {error}") from error
    audible = [segment for segment in segments if not segment.silent] or segments
    seen = tuple(payload for segment in segments for payload in segment.views.get(View.VISUAL, ()))
    heard = tuple(payload for segment in audible for payload in segment.views.get(View.AUDIO, ()))
    if seen or heard:
        silent = bool(seen) and all(segment.silent for segment in segments)
        views = {View.VISUAL: seen, View.AUDIO: () if silent else heard}
    else:
        views = {View.TEXT: tuple(payload for segment in segments for payload in segment.views.get(View.TEXT, ()))}
    return Asked({view: payloads for view, payloads in views.items() if payloads})


@dataclass(slots=True)
class Encoder:
    """The terms of a query as vectors, each payload embedded once for each space."""

    terms: Sequence[Term]
    asked: Sequence[Asked]
    _known: dict[tuple[str, int, View], Vectors] = field(default_factory=dict)

    def sides(self, view: View) -> set[View]:
        """Return the views of the terms that ask for items of a view."""
        return {side for n in self._asking(view) for side in self.asked[n].sides(view)}

    def _asking(self, view: View) -> list[int]:
        """Return the terms that ask for items of a view.

        Beside a picture, a sound doesn't ask for what is seen, nor the picture for what is heard: together they ask for
        clips that look like the one and sound like the other. Words ask for everything, and everything for words.
        """
        pairs = list(zip(self.terms, self.asked, strict=True))
        by_its_own = view is not View.TEXT and any(view in one.views and term.weight > 0 for term, one in pairs)
        return [n for n, (_, one) in enumerate(pairs) if not by_its_own or view in one.views or View.TEXT in one.views]

    def together(self) -> set[View]:
        """Return the views of which the query has evidence of its own, which a clip that has all of them answers to."""
        views = {
            view
            for term, one in zip(self.terms, self.asked, strict=True)
            for view in one.views
            if term.weight > 0 and (view is not View.TEXT or len(one.views) > 1)
        }
        return views if len(views) > 1 else set()

    def vector(self, space: Space, view: View) -> Vectors:
        """Return (dim,) float32, what asks for items of a view: normalise(Σ wᵢ eᵢ).

        Raises `QueryError` where the terms cancel each other out.
        """
        largest = max(abs(term.weight) for term in self.terms)  # only ratios count, and float32 overflows
        parts = [self.terms[n].weight / largest * self._term(space, n, view) for n in self._asking(view)]
        total = np.sum(parts, axis=0)
        if float(np.linalg.norm(total)) < 1e-4:
            raise QueryError("the terms cancel each other out; leave one out or change a weight")
        return normalise(total)

    def _term(self, space: Space, n: int, view: View) -> Vectors:
        return normalise(np.mean([self._side(space, n, side) for side in self.asked[n].sides(view)], axis=0))

    def _side(self, space: Space, n: int, side: View) -> Vectors:
        key = (space.name, n, side)
        if key not in self._known:
            self._known[key] = normalise(embed(space, side, self.asked[n].views[side]).mean(axis=0))
        return self._known[key]


def embed_items(items: str | Path | Iterable[str | Path], profile: Profile, limits: Limits) -> Vectors:
    """Return (n, dim) float32, L2-normalised, in input order, by the profile's first space that takes every item."""
    items = [items] if isinstance(items, str | Path) else items
    asked = [read_item(item, profile, limits) for item in items]
    views = {a.main for a in asked}
    space = profile.space_for(*views)
    if space is None:
        raise ModelError(f"no space of the model {profile.name} takes {' and '.join(sorted(views))}; use model='mini'")
    if not asked:
        return np.zeros((0, space.dim), np.float32)
    # All payloads of one view go through its tower together; then each item is the mean of its own.
    out = np.zeros((len(asked), space.dim), np.float32)
    for view in views:
        rows = [i for i, a in enumerate(asked) if a.main is view]
        vectors = embed(space, view, [payload for i in rows for payload in asked[i].views[view]])
        ends = np.cumsum([len(asked[i].views[view]) for i in rows])[:-1]
        out[rows] = [part.mean(axis=0) for part in np.split(vectors, ends)]
    return normalise(out)
