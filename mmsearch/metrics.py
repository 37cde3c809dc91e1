"""Retrieval metrics with confidence intervals.

The metrics are those of trec_eval for binary judgements. Intervals are the 2.5th and 97.5th percentile of a bootstrap
over queries; comparisons use paired samples (Sakai 2006, https://doi.org/10.1145/1148170.1148261).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

DRAWS = 1_000
_SEED = 0
_DRAWN_AT_ONCE = 4_000_000
"""Number of queries drawn in one array of 32 MB."""

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""Reduces values (…, n) over the n queries to (…)."""


# Metrics


@dataclass(frozen=True, slots=True)
class Ranking:
    """The sorted ranks, from 1, of the relevant contents that a query found.

    `relevant` is the number of relevant contents, found or not; `candidates` that of all contents that could be found.
    """

    ranks: tuple[int, ...]
    relevant: int
    candidates: int


def recall(ranking: Ranking, k: int) -> float:
    """Return 1 if any relevant content is among the first k, else 0."""
    return float(bool(ranking.ranks) and ranking.ranks[0] <= k)


def set_recall(ranking: Ranking, k: int) -> float:
    """Return the share of the relevant contents that are among the first k."""
    return sum(rank <= k for rank in ranking.ranks) / ranking.relevant


def first_rank(ranking: Ranking) -> float:
    """Return the rank of the first relevant content, or the number of candidates + 1 if none was found."""
    return float(ranking.ranks[0] if ranking.ranks else ranking.candidates + 1)


def reciprocal_rank(ranking: Ranking) -> float:
    """Return the reciprocal of the first relevant rank, 0 if none was found."""
    return 1 / ranking.ranks[0] if ranking.ranks else 0.0


def ndcg(ranking: Ranking, k: int) -> float:
    """Return the nDCG of the first k: the gain, discounted by log2(1 + rank), divided by the maximum gain."""
    gain = sum(1 / math.log2(1 + rank) for rank in ranking.ranks if rank <= k)
    return gain / sum(1 / math.log2(1 + rank) for rank in range(1, min(k, ranking.relevant) + 1))


def average_precision(ranking: Ranking) -> float:
    """Return the mean precision at the ranks of the relevant contents; one that wasn't found counts as 0."""
    return sum(n / rank for n, rank in enumerate(ranking.ranks, 1)) / ranking.relevant


METRICS: Mapping[str, Callable[[Ranking], float]] = MappingProxyType(
    {
        "recall@1": partial(recall, k=1),
        "recall@5": partial(recall, k=5),
        "recall@10": partial(recall, k=10),
        "set_recall@10": partial(set_recall, k=10),
        "median_rank": first_rank,
        "mrr": reciprocal_rank,
        "ndcg@10": partial(ndcg, k=10),
        "map": average_precision,
    }
)


# Intervals


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic over queries, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def mean(values: Values) -> Values:
    """Return the mean over the last axis."""
    return np.asarray(values.mean(axis=-1))


def median(values: Values) -> Values:
    """Return the median over the last axis."""
    return np.asarray(np.median(values, axis=-1))


def bootstrap(values: Values, statistic: Statistic = mean) -> Interval:
    """Return a statistic of (n,) values, one for each query, with its interval."""
    return _interval(len(values), lambda drawn: statistic(values[drawn]))


def paired_bootstrap(after: Values, before: Values, statistic: Statistic = mean) -> Interval:
    """Return the difference of a statistic of (n,) values before and after a change, for the same queries."""
    return _interval(len(after), lambda drawn: statistic(after[drawn]) - statistic(before[drawn]))


def _interval(queries: int, measure: Callable[[NDArray[np.int64]], Values]) -> Interval:
    random = np.random.default_rng(_SEED)
    step = max(1, _DRAWN_AT_ONCE // queries)
    sizes = [min(step, DRAWS - start) for start in range(0, DRAWS, step)]
    samples = np.concatenate([measure(random.integers(0, queries, (size, queries))) for size in sizes])
    low, high = np.percentile(samples, (2.5, 97.5))
    return Interval(float(measure(np.arange(queries))), float(low), float(high))
