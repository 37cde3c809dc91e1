"""The stages of a query, run in their order over one library."""

from __future__ import annotations

import logging
import time

from mmsearch.catalog import Catalog
from mmsearch.indexes import Indexes
from mmsearch.search.answer import LOOKED_AT, make_answer
from mmsearch.search.calibration import Calibration
from mmsearch.search.encode import Encoder, load_tower
from mmsearch.search.items import own_contents, read_items
from mmsearch.search.query import Query
from mmsearch.search.rank import Ranking, agree, choose_feedback, first_stage, newest_first, own_first
from mmsearch.search.retrieve import Retriever
from mmsearch.search.routes import Router
from mmsearch.settings import Limits
from mmsearch.spaces import Profile
from mmsearch.types import Answer, View

_log = logging.getLogger(__name__)
DEEP = 500
"""The least number of contents to search every view for where scores of several views are summed."""


class Engine:
    """Answers queries over one library."""

    def __init__(self, catalog: Catalog, profile: Profile, indexes: Indexes, limits: Limits) -> None:
        self.catalog = catalog
        self._profile = profile
        self._indexes = indexes
        self._limits = limits
        self._router = Router(catalog, profile)
        self._retriever = Retriever(catalog, indexes)
        self._calibration = Calibration(catalog, profile, indexes)

    def over(self, catalog: Catalog, indexes: Indexes | None = None) -> Engine:
        """Return an engine that answers as this one does, from another reader of the catalog or from other indexes."""
        return Engine(catalog, self._profile, indexes or self._indexes, self._limits)

    def answer(self, query: Query, revision: int | None = None) -> Answer:
        """Return the hits of a query, best first. Raises `QueryError`, `MediaError`, `ModelError`.

        `revision` is that of the catalog, where the caller has read it already.
        """
        return self.shown(query, self.ranking(query, revision))

    def shown(self, query: Query, ranking: Ranking) -> Answer:
        """Return the hits of a ranking: the last stage of `answer`, which reads the catalog once more."""
        return make_answer(query, ranking, self.catalog, self._calibration)

    def rank(self, query: Query) -> list[int]:
        """Return the ids of the first k contents in the order of `answer`, uncut; raises what it does."""
        ranking = self.ranking(query)
        return [ranking.candidates.rows[i].content_id for i in ranking.order[: query.k]]

    def ranking(self, query: Query, revision: int | None = None) -> Ranking:
        """Return what a query finds, in order: all stages of `answer` but the last. Raises what it does."""
        if not query.terms:
            return newest_first(*self._retriever.newest(query))
        began = time.monotonic()
        asked = [term.item for term in query.terms]
        items = read_items(asked, self._profile, self._limits, self._limits.query_s, self._load_for)
        encoder = Encoder(query.terms, items)
        routes = self._router.routes(encoder, query.views, self.catalog.revision if revision is None else revision)
        read = time.monotonic()
        own = own_contents(query, self.catalog)
        joint_views = encoder.joint_views()
        least = max(2 * query.k if query.cut else query.k, DEEP if joint_views else LOOKED_AT)
        candidates = self._retriever.candidates(query, routes, own, least)
        ranking = first_stage(candidates, routes, joint_views)
        if ranking.order and (feedback := choose_feedback(query, ranking, own, self._collection_size(ranking))):
            more = self._retriever.widened(candidates, query, routes, own, feedback.targets, LOOKED_AT)
            ranking = agree(first_stage(more, routes, joint_views), feedback)
        _log.debug(
            "%d terms by %s: read and encoded in %.0f ms; %d candidates ranked in %.0f ms%s",
            len(query.terms),
            [f"{route.space.name} {route.view}" for route in routes],
            1000 * (read - began),
            len(ranking.candidates.rows),
            1000 * (time.monotonic() - read),
            " and by agreement" if ranking.agreement else "",
        )
        return own_first(ranking, own)

    def _load_for(self, view: View) -> None:
        """Load what a query by this view needs, while its file is decoded in another process."""
        space = self._profile.space_for(view)
        if space is not None and self.catalog.space_id(space.name, space.fingerprint, space.dim) is not None:
            self._indexes.get(space, view)
            load_tower(self._profile, view)

    def _collection_size(self, ranking: Ranking) -> int:
        """Return how many contents could be hits where that is few; else how many vectors the largest view has."""
        contents = len(ranking.order)
        return contents if contents < LOOKED_AT else self._retriever.count(ranking.routes)
