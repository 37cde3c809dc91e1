"""Stage 3: which views of the library are searched, each in which space and with which vector."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog
from mmsearch.search.calibration import SAMPLE, item_distribution
from mmsearch.search.encode import Encoder
from mmsearch.search.scoring import Background, estimate_background
from mmsearch.spaces import Profile, Space, Vectors
from mmsearch.types import View

CROSS_VIEW_PENALTY = 1.0
"""Penalty, in standard deviations, for a view that is searched with a query of another modality while some other view
is searched with its own."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to find candidates: one view of the items is searched in one space by one vector (dim,).

    `query_views` are the views of the query that the vector is made from. `background` is the distribution of the
    query's cosines with unrelated items, `item_background` that of two unrelated items. `penalty` is subtracted from z.
    `revision` is that of the catalog which the query began with.
    """

    space: Space
    space_id: int
    view: View
    query_views: frozenset[View]
    vector: Vectors
    background: Background
    item_background: Background
    penalty: float
    revision: int


class Router:
    """Chooses the routes of queries in one library, and keeps the samples that their distributions are taken from."""

    def __init__(self, catalog: Catalog, profile: Profile) -> None:
        self._catalog = catalog
        self._profile = profile
        self._space_ids: dict[str, tuple[int, int | None]] = {}
        self._samples: dict[tuple[str, View], tuple[int, NDArray[np.float32], Background]] = {}

    def routes(self, encoder: Encoder, views: Collection[View], revision: int) -> list[Route]:
        """Return one route for each view of the items (of `views`, or of all) that the library holds.

        Each is searched in the first space of the model that covers it and every term of the query. `revision` is
        the catalog's.
        """
        own_views = any(encoder.query_views(view) == {view} for view in View)
        routes: list[Route] = []
        for view in View:
            if views and view not in views:
                continue
            query_views = encoder.query_views(view)
            space = self._profile.space_for(*query_views, view)
            if space is None or not encoder.fits(space):
                continue
            space_id = self._space_id(space, revision)
            if space_id is None:
                continue
            sample, item_background = self._sample(space, space_id, view, revision)
            if not len(sample):
                continue
            vector = encoder.vector(space, view)
            priors = np.mean([space.background(query_view, view) for query_view in query_views], axis=0)
            background = estimate_background(sample @ vector, Background(*priors))
            crosses = own_views and query_views != {view} and View.TEXT not in query_views
            penalty = CROSS_VIEW_PENALTY if crosses else 0.0
            routes.append(
                Route(
                    space,
                    space_id,
                    view,
                    frozenset(query_views),
                    vector,
                    background,
                    item_background,
                    penalty,
                    revision,
                )
            )
        return routes

    def _space_id(self, space: Space, revision: int) -> int | None:
        known = self._space_ids.get(space.name)
        if known is None or known[0] != revision:
            space_id = self._catalog.space_id(space.name, space.fingerprint, space.dim)
            known = self._space_ids[space.name] = (revision, space_id)
        return known[1]

    def _sample(self, space: Space, space_id: int, view: View, revision: int) -> tuple[NDArray[np.float32], Background]:
        """Return vectors of a view (n, dim), and the distribution of the cosine of two unrelated ones."""
        key = (space.name, view)
        known = self._samples.get(key)
        if known is None or known[0] != revision:
            sample = self._catalog.sample(space_id, view, SAMPLE, space.dim)
            known = self._samples[key] = (revision, sample, item_distribution(sample, space, view))
        return known[1], known[2]
