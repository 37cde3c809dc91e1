"""Stage 2: query items → vectors of a space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.errors import QueryError, WrongModelError
from mmsearch.search.inputs import InputKind, is_several, kind_of
from mmsearch.search.items import QueryItem, read_items
from mmsearch.settings import Limits
from mmsearch.spaces import OnnxSpace, Profile, Space, Vectors, normalise
from mmsearch.types import Term, View

if TYPE_CHECKING:
    from mmsearch.types import QueryInput


@dataclass(slots=True)
class Encoder:
    """Encodes the terms of one query; each input is encoded once per space, when it is first needed."""

    terms: Sequence[Term]
    items: Sequence[QueryItem]
    _encoded: dict[tuple[str, int, View], Vectors] = field(default_factory=dict)

    def query_views(self, item_view: View) -> set[View]:
        """Return the views of the query that are compared with a view of the library's items."""
        return {view for n in self._compared(item_view) for view in self.items[n].query_views(item_view)}

    def _compared(self, item_view: View) -> list[int]:
        """Return the positions of the terms that are compared with a view.

        If a query has both a picture and a sound, the picture is compared with visual views only and the sound with
        audio views only: together they find clips that look like the one and sound like the other. A text term is
        compared with every view, and every term with text views.
        """
        pairs = list(zip(self.terms, self.items, strict=True))
        has_own = item_view is not View.TEXT and any(
            item_view in item.views and term.weight > 0 for term, item in pairs
        )
        return [
            n for n, (_, item) in enumerate(pairs) if not has_own or item_view in item.views or View.TEXT in item.views
        ]

    def joint_views(self) -> set[View]:
        """Return the views for which the query has evidence of its own, where these are several; else none.

        An item that has all of them is judged by all of them together.
        """
        views = {
            view
            for term, item in zip(self.terms, self.items, strict=True)
            for view in item.views
            if term.weight > 0 and (view is not View.TEXT or len(item.views) > 1)
        }
        return views if len(views) > 1 else set()

    def vector(self, space: Space, item_view: View) -> Vectors:
        """Return (dim,) float32, the query vector for a view of the library: normalise(Σ wᵢ eᵢ).

        Raises `QueryError` where the terms cancel each other out.
        """
        largest = max(abs(term.weight) for term in self.terms)  # only ratios count, and float32 overflows
        compared = self._compared(item_view)
        total = np.sum([self.terms[n].weight / largest * self._term(space, n, item_view) for n in compared], axis=0)
        if float(np.linalg.norm(total)) < 1e-4:
            raise QueryError("the terms cancel each other out; leave one out or change a weight")
        return normalise(total)

    def fits(self, space: Space) -> bool:
        """Return whether every vector among the items is one of this space."""
        return all(item.vector is None or item.space == space.name for item in self.items)

    def _term(self, space: Space, n: int, item_view: View) -> Vectors:
        views = self.items[n].query_views(item_view)
        return normalise(np.mean([self._view(space, n, view) for view in views], axis=0))

    def _view(self, space: Space, n: int, view: View) -> Vectors:
        key = (space.name, n, view)
        if (vector := self.items[n].vector) is not None:
            return vector
        if key not in self._encoded:
            self._encoded[key] = normalise(space.encode(view, self.items[n].prepare(space, view)).mean(axis=0))
        return self._encoded[key]


def load_tower(profile: Profile, view: View) -> None:
    """Load the tower that encodes a view, so that the first input of it doesn't wait. Raises `ModelError`."""
    space = profile.space_for(view)
    if isinstance(space, OnnxSpace):
        space.load(view)


def embed_items(items: QueryInput | Iterable[QueryInput], profile: Profile, limits: Limits) -> Vectors:
    """Return (n, dim) float32, L2-normalised, in input order, by the profile's first space that takes every item."""
    several: list[Any] = list(items) if is_several(items) else [items]
    if any(kind_of(item) is InputKind.VECTOR for item in several):
        raise QueryError("a vector is embedded already; leave it out")
    query_items = read_items(several, profile, limits, meanwhile=lambda view: load_tower(profile, view))
    views = {item.main for item in query_items}
    space = profile.space_for(*views)
    if space is None:
        raise WrongModelError(
            f"no space of the model {profile.name} takes {' and '.join(sorted(views))}; use model='mini'"
        )
    if not query_items:
        return np.zeros((0, space.dim), np.float32)
    # All inputs of one view go through its tower together; then each item is the mean of its own.
    out = np.zeros((len(query_items), space.dim), np.float32)
    for view in views:
        rows = [i for i, item in enumerate(query_items) if item.main is view]
        inputs = [query_items[i].prepare(space, view) for i in rows]
        vectors = space.encode(view, [prepared for own in inputs for prepared in own])
        ends = np.cumsum([len(own) for own in inputs])[:-1]
        out[rows] = [part.mean(axis=0) for part in np.split(vectors, ends)]
    return normalise(out)
