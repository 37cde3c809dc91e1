"""Metrics of rankings by hand and against ir_measures, and their intervals."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from support.evaluations import KEYS

from mmsearch import metrics
from mmsearch.metrics import METRICS, Interval, Ranking, bootstrap, median, paired_bootstrap


def test_metrics_are_what_a_hand_works_out() -> None:
    found = {name: metric(Ranking((2, 5, 12), relevant=4, candidates=20)) for name, metric in METRICS.items()}
    assert list(found) == KEYS
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert found == pytest.approx(
        {
            "recall@1": 0.0,
            "recall@5": 1.0,
            "recall@10": 1.0,
            "set_recall@10": 2 / 4,
            "median_rank": 2.0,
            "mrr": 1 / 2,
            "ndcg@10": (1 / math.log2(3) + 1 / math.log2(6)) / ideal,
            "map": (1 / 2 + 2 / 5 + 3 / 12) / 4,
        }
    )


def test_what_is_never_found_counts_as_nothing_and_ranks_behind_every_candidate() -> None:
    found = {name: metric(Ranking((), relevant=2, candidates=20)) for name, metric in METRICS.items()}
    assert found == {**dict.fromkeys(KEYS, 0.0), "median_rank": 21.0}


def test_a_perfect_ranking_of_more_than_ten_is_perfect_up_to_where_it_is_looked_at() -> None:
    found = {name: metric(Ranking(tuple(range(1, 13)), relevant=12, candidates=12)) for name, metric in METRICS.items()}
    assert (found["ndcg@10"], found["map"]) == (1.0, 1.0)
    assert found["set_recall@10"] == 10 / 12


def test_metrics_are_those_of_ir_measures() -> None:
    random = np.random.default_rng(7)
    theirs = {
        "recall@1": ir_measures.Success @ 1,
        "recall@5": ir_measures.Success @ 5,
        "recall@10": ir_measures.Success @ 10,
        "set_recall@10": ir_measures.R @ 10,
        "mrr": ir_measures.RR,
        "ndcg@10": ir_measures.nDCG @ 10,
        "map": ir_measures.AP,
    }
    rankings: list[Ranking] = []
    judgements: dict[str, dict[str, int]] = {}
    answers: dict[str, dict[str, float]] = {}
    for query in range(50):
        found = int(random.integers(1, 40))
        ranks = sorted(random.choice(np.arange(1, 60), found, replace=False).tolist())
        missing = int(random.integers(0, 4))
        rankings.append(Ranking(tuple(ranks), found + missing, 60))
        names = [*map(str, ranks), *(f"missing {n}" for n in range(missing))]
        judgements[str(query)] = dict.fromkeys(names, 1)
        answers[str(query)] = {str(rank): -float(rank) for rank in range(1, 60)}
    told = ir_measures.calc_aggregate(theirs.values(), judgements, answers)
    for name, measure in theirs.items():
        assert np.mean([METRICS[name](ranking) for ranking in rankings]) == pytest.approx(told[measure]), name


def test_queries_that_all_fare_the_same_have_an_interval_of_no_width() -> None:
    for statistic in (metrics.mean, median):
        assert bootstrap(np.full(7, 1 / 3), statistic) == Interval(1 / 3, 1 / 3, 1 / 3)
    assert bootstrap(np.asarray([0.25])) == Interval(0.25, 0.25, 0.25)


def test_the_interval_of_a_mean_is_that_of_the_normal_law_where_queries_are_many() -> None:
    tossed = (np.arange(5000) % 2).astype(float)
    found = bootstrap(tossed)
    assert found == bootstrap(tossed)  # the seed is fixed
    assert found.value == 0.5
    half = 1.96 * 0.5 / math.sqrt(5000)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=half / 8)


def test_a_median_has_the_interval_of_medians() -> None:
    ranks = np.asarray([1.0] * 40 + [2.0] * 2 + [50.0] * 40)
    assert bootstrap(ranks, median) == Interval(2.0, 1.0, 50.0)


def test_a_paired_difference_is_narrower_where_queries_are_hard_or_easy_for_both() -> None:
    random = np.random.default_rng(1)
    before = random.uniform(size=200)
    after = before + 0.05 + random.normal(0, 0.01, 200)
    paired = paired_bootstrap(after, before)
    shuffled = paired_bootstrap(random.permutation(after), before)
    assert paired.value == pytest.approx(shuffled.value)
    assert paired.high - paired.low < (shuffled.high - shuffled.low) / 10
    assert paired.low > 0 > shuffled.low


def test_draws_in_parts_are_as_many_and_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def mean(drawn: metrics.Values) -> metrics.Values:
        sizes.append(len(drawn) if drawn.ndim == 2 else 0)
        return metrics.mean(drawn)

    each = np.linspace(0, 1, 300)
    whole = bootstrap(each)
    monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 300 * 7)
    parts = bootstrap(each, mean)
    assert (max(sizes), sum(sizes)) == (7, metrics.DRAWS)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.005)
