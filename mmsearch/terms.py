"""Terms and items → vectors of a space: what a text, a picture or a note asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import MediaError, ModelError, QueryError
from mmsearch.media import by_name
from mmsearch.paths import expand
from mmsearch.settings import Limits
from mmsearch.spaces import Prepared, Profile, Space, Vectors, decoding_needs, normalise
from mmsearch.types import Modality, Term, View

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mmsearch.sandbox.work import PreparedContent


_VIEWS: Mapping[Modality | None, View] = {Modality.AUDIO: View.AUDIO, Modality.TEXT: View.TEXT}
"""The view by which a file of a kind asks in most cases, where that isn't what is seen."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a text or a file asks with: some inputs for each of its views, whose mean it is.

    A longer text has several passages, in `texts`. A file has `inputs`, which went through the front ends already: a
    clip those of the frames of its shots, and of their sound.
    """

    views: frozenset[View]
    texts: tuple[str, ...] = ()
    inputs: Mapping[tuple[str, View], tuple[Prepared, ...]] = field(default_factory=dict)

    def sides(self, view: View) -> tuple[View, ...]:
        """Return the views that ask for items of a view: the same one if it is there, else all of them together."""
        return (view,) if view in self.views else tuple(sorted(self.views))

    @property
    def main(self) -> View:
        """The view that stands for the whole where there can be but one: what is seen before what is heard."""
        return next(view for view in (View.VISUAL, View.AUDIO, View.TEXT) if view in self.views)

    def prepare(self, space: Space, view: View) -> Sequence[Prepared]:
        """Return what a space's tower takes of a view, which it must have."""
        if self.texts:
            return [space.front_ends[view](text) for text in self.texts]
        return self.inputs[space.name, view]


def read_items(
    items: Sequence[str | Path],
    profile: Profile,
    limits: Limits,
    within_s: float | None = None,
    meanwhile: Callable[[View], None] = lambda _: None,
) -> list[Asked]:
    """Return what texts (str) and files (Path) ask with.

    A str that is longer than the tower is cut into passages. What is written beside or in a picture, a sound or a clip
    doesn't ask, and of a long sound or clip only the first part does. Files are decoded in other processes, several at
    a time; `within_s` is how long all of them may take together. `meanwhile` is called with the view that the first one
    is likely to ask by, for there is time to load what that needs. Raises `MediaError` naming the file, `QueryError`.
    """
    reading = _Reading(profile, limits)
    begun = {n: reading.begin(item) for n, item in enumerate(items) if isinstance(item, Path)}
    until = None if within_s is None else time.monotonic() + within_s
    if begun:
        meanwhile(_VIEWS.get(by_name(str(items[min(begun)])), View.VISUAL))
    return [
        _read_text(item, profile) if isinstance(item, str) else reading.finish(item, begun[n], until)
        for n, item in enumerate(items)
    ]


def warm_for(items: Iterable[str | Path], limits: Limits) -> None:
    """Start the process that will decode the first file among these, so that it is ready when the model is."""
    if (file := next((item for item in items if isinstance(item, Path)), None)) is not None:
        from mmsearch.sandbox.shared import warm_for

        warm_for(file, limits)


def _read_text(text: str, profile: Profile) -> Asked:
    if not text.strip():
        raise QueryError("an empty text matches nothing; give some words")
    from mmsearch.media.text import passages

    ends = [end for space in profile.spaces for end in space.front_ends.values()]
    _, max_tokens, count_tokens, _ = decoding_needs(ends)
    return Asked(frozenset({View.TEXT}), tuple(passages(text, count_tokens, max_tokens)) or (text,))


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
        request = Request(os.path.abspath(os.fsencode(expand(file))))  # noqa: PTH100  the worker stays where it began
        return self._sandbox.submit(Job(request, Needs.of(ends, self._limits), self._limits.query_s))

    def finish(self, file: Path, future: Future[PreparedContent], until: float | None) -> Asked:
        try:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            return _asked_by(self._sandbox.take(future, left_s))
        except TimeoutError:
            future.cancel()
            raise MediaError(
                f"{file}: decoding took more than {self._limits.query_s:.0f} s; convert or shorten it"
            ) from None
        except MediaError as error:
            raise type(error)(f"{file}: {error}") from error


def _asked_by(content: PreparedContent) -> Asked:
    """Return what a decoded file asks with: what is seen and heard in it, and what is written only in a text."""
    segments = content.segments
    audible = [segment for segment in segments if not segment.silent] or segments
    by_view = {View.VISUAL: segments, View.AUDIO: audible, View.TEXT: segments}
    views = {view for view, its in by_view.items() if any(view in segment.views for segment in its)}
    if View.VISUAL in views and all(segment.silent for segment in segments):
        views.discard(View.AUDIO)
    if len(views) > 1:
        views.discard(View.TEXT)
    keys = dict.fromkeys(key for segment in segments for key in segment.inputs if key[1] in views)
    inputs = {
        key: tuple(prepared for segment in by_view[key[1]] for prepared in segment.inputs.get(key, ())) for key in keys
    }
    return Asked(frozenset(views), inputs=inputs)


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
            self._known[key] = normalise(space.encode(side, self.asked[n].prepare(space, side)).mean(axis=0))
        return self._known[key]


def embed_items(items: str | Path | Iterable[str | Path], profile: Profile, limits: Limits) -> Vectors:
    """Return (n, dim) float32, L2-normalised, in input order, by the profile's first space that takes every item."""
    asked = read_items([items] if isinstance(items, str | Path) else list(items), profile, limits)
    views = {a.main for a in asked}
    space = profile.space_for(*views)
    if space is None:
        raise ModelError(f"no space of the model {profile.name} takes {' and '.join(sorted(views))}; use model='mini'")
    if not asked:
        return np.zeros((0, space.dim), np.float32)
    # All inputs of one view go through its tower together; then each item is the mean of its own.
    out = np.zeros((len(asked), space.dim), np.float32)
    for view in views:
        rows = [i for i, a in enumerate(asked) if a.main is view]
        inputs = [asked[i].prepare(space, view) for i in rows]
        vectors = space.encode(view, [prepared for own in inputs for prepared in own])
        ends = np.cumsum([len(own) for own in inputs])[:-1]
        out[rows] = [part.mean(axis=0) for part in np.split(vectors, ends)]
    return normalise(out)
