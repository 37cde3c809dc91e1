"""Stage 7: a ranking → hits: copies hidden, weak matches cut, each hit with its reasons."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmsearch.catalog import Catalog
from mmsearch.records import Text
from mmsearch.search.calibration import Calibration
from mmsearch.search.confidence import WEAK, Confidence, measure
from mmsearch.search.query import Query
from mmsearch.search.rank import Ranking
from mmsearch.search.scoring import near_duplicates
from mmsearch.types import Answer, Hit, Modality, Neighbour, View, Why

NEAR_DUPLICATE = {View.VISUAL: 0.98, View.AUDIO: 0.999, View.TEXT: 0.995}
"""The cosine in a view from which on two contents look, sound or read the same: see benchmarks/confidence.py.

For sounds only the very same: in a space that was trained on their kinds, two barking dogs are nearly one point.
"""
MAIN_VIEW = {
    Modality.IMAGE: View.VISUAL,
    Modality.VIDEO: View.VISUAL,
    Modality.AUDIO: View.AUDIO,
    Modality.TEXT: View.TEXT,
}
"""The view of a hit that was found by a filter alone."""
COMPARED = 2_000
"""How many of the first contents are compared with each other, in pairs."""
LOOKED_AT = 30
"""The least number of contents among which copies and weak matches are looked for."""
NEIGHBOURS = 3
"""How many of the items that agree with a hit are named."""


def make_answer(query: Query, ranking: Ranking, catalog: Catalog, calibration: Calibration) -> Answer:
    """Return the hits of a ranking, best first; where the query cuts, without copies and weak matches."""
    if not ranking.order:
        return Answer([])
    order, copies, weak = ranking.order, set[int](), set[int]()
    looked_at = order[: query.k]
    if query.cut and ranking.routes:
        enough = max(2 * query.k, LOOKED_AT)
        copies = _copies(ranking, enough)
        looked_at = [i for i in order if i not in copies][:enough]
    confidences = measure(query, ranking, looked_at, calibration)
    if query.cut:
        weak = {i for i, confidence in confidences.items() if confidence.value < WEAK}
    shown = [i for i in looked_at if i not in weak][: query.k]
    texts = catalog.texts_of(ranking.candidates.rows[i].id for i in shown)
    paths = matching_paths(query, [ranking.candidates.rows[i].content_id for i in shown], catalog)
    hits = [
        _hit(ranking, n, i, confidences.get(i), texts, paths, explain=query.explain) for n, i in enumerate(shown, 1)
    ]
    passed = order[: order.index(shown[-1])] if len(shown) == query.k else order
    return Answer(hits, sum(i in copies for i in passed), sum(i in weak for i in passed))


def matching_paths(query: Query, contents: Collection[int], catalog: Catalog) -> Mapping[int, bytes]:
    """Return the paths by which a filter holds for contents that have several: empty where it asks for none."""
    return catalog.matcher().paths(query.filter.expression, contents) if query.filter else {}


def _copies(ranking: Ranking, enough: int) -> set[int]:
    """Return the rows that look, sound and read the same as one before them, until `enough` others are found."""
    candidates, window = ranking.candidates, enough
    thresholds = [NEAR_DUPLICATE[route.view] for route in ranking.routes]
    while True:
        looked_at = ranking.order[: min(window, max(enough, COMPARED))]
        # One shot says little of a long video: many begin with the same titles, or in black.
        rows = [candidates.rows[i] for i in looked_at]
        kinds = np.asarray([f"{row.modality} {candidates.segment_counts.get(row.content_id)}" for row in rows])
        views = [vectors[looked_at[:COMPARED]] for vectors in candidates.vectors]
        marked = near_duplicates(views, kinds[:COMPARED], thresholds)
        if len(looked_at) - int(marked.sum()) >= enough or len(looked_at) < window:
            return {i for i, copy in zip(looked_at, marked.tolist(), strict=False) if copy}
        window *= 4


def _hit(
    ranking: Ranking,
    rank: int,
    i: int,
    confidence: Confidence | None,
    texts: Mapping[int, Sequence[Text]],
    paths: Mapping[int, bytes],
    *,
    explain: bool,
) -> Hit:
    row = ranking.candidates.rows[i]
    route = ranking.routes[int(ranking.leading[i])] if ranking.routes else None
    return Hit(
        rank=rank,
        score=float(ranking.scores[i]),
        confidence=confidence.value if confidence else None,
        path=Path(os.fsdecode(paths.get(row.content_id, row.path))),
        modality=row.modality,
        view=route.view if route else MAIN_VIEW[row.modality],
        start_s=row.start_s,
        end_s=row.end_s,
        text=next((text.words for text in texts.get(row.id, ())), None),
        space=route.space.name if route else "",
        why=_why(ranking, i, confidence) if explain and route else None,
        id=row.content_id,
        page=row.page,
        heading=row.heading,
    )


def _why(ranking: Ranking, i: int, confidence: Confidence | None) -> Why:
    score, hubs = float(ranking.scores[i]), confidence.hubness if confidence else None
    if (agreement := ranking.agreement) is None:
        return Why(first_stage=score, hubness=hubs, agreement=0.0, neighbours=())
    rows = ranking.candidates.rows
    alike = agreement.similarity[i]
    items = [rows[row] for row in agreement.feedback.tolist()]
    agreeing = [n for n in np.argsort(-alike).tolist() if alike[n] > 0]
    others: Sequence[int] = [n for n in agreeing if items[n].content_id != rows[i].content_id][:NEIGHBOURS]
    added = float(agreement.added[i])
    return Why(
        first_stage=score - added,
        hubness=hubs,
        agreement=added,
        neighbours=tuple(Neighbour(Path(os.fsdecode(items[n].path)), float(alike[n])) for n in others),
    )
