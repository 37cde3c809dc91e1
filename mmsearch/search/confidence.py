"""Stage 6: how sure hits are, by what unrelated queries find in this library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmsearch.search.calibration import Calibration
from mmsearch.search.query import Query
from mmsearch.search.rank import Ranking
from mmsearch.search.scoring import HUB_SHARE, evidence, hubness, standardise

WEAK = 0.1
"""The confidence below which a match is cut: nine of ten unrelated queries find something better in this library."""
_POOL = 60
"""How many of the best candidates of a view the evidence is estimated from."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a hit is, in [0, 1], and the hubness of its item in standard deviations."""

    value: float
    hubness: float


def measure(query: Query, ranking: Ranking, rows: Sequence[int], calibration: Calibration) -> dict[int, Confidence]:
    """Return the confidence of candidates by their row, each in the view that contributes most to its score.

    Only queries of one text have one, as the query bank has: the difference of two vectors is no text's.
    """
    measured: dict[int, Confidence] = {}
    if len(query.terms) != 1 or not isinstance(query.terms[0].item, str):
        return measured
    for r in np.unique(ranking.leading[list(rows)]).tolist():
        route, z = ranking.routes[r], ranking.candidates.z[:, r]
        bank = calibration.bank_scores(route.space, route.view, route.revision)
        if bank is None:
            continue
        pool = np.argsort(np.where(np.isnan(z), np.inf, -z), kind="stable")[:_POOL]
        pool = pool[~np.isnan(z[pool])]
        mine = [i for i in rows if ranking.leading[i] == r]
        vectors = ranking.candidates.vectors[r][np.concatenate([pool, np.asarray(mine, np.intp)])]
        hubs = hubness(bank.z(vectors))
        z_of_bank = standardise(vectors @ route.vector, bank.background(route.background))
        found = evidence(z_of_bank, hubs, vectors, route.item_background, len(pool))
        for at, i in enumerate(mine, len(pool)):
            measured[i] = Confidence(bank.reach.confidence(float(found[at])), HUB_SHARE * float(hubs[at]))
    return measured
