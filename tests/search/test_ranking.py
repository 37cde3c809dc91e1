"""The pure functions of ranking, on cases small enough to work out by hand."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.search.scoring import (
    STRENGTH,
    Background,
    agreeing,
    agreement,
    bank,
    best_of_each,
    estimate_background,
    evidence,
    fit_reach,
    fuse,
    how_many,
    hubness,
    near_duplicates,
    positives,
    rerank,
    standardise,
    strength,
    trust,
)

NAN = float("nan")


def array(*values: object) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


# One scale


def test_without_a_sample_the_background_is_the_prior() -> None:
    assert estimate_background(array(), Background(0.1, 0.2)) == Background(0.1, 0.2)


def test_32_samples_count_as_much_as_the_prior() -> None:
    # Median 0.1; the lower half lies 0.1 below it, so the variance is 0.01. Prior: mean 0.3, variance 0.04.
    found = estimate_background(array(*[0.0] * 16, *[0.2] * 16), Background(0.3, 0.2))
    assert found.mean == pytest.approx((0.1 + 0.3) / 2, abs=1e-6)
    assert found.std == pytest.approx(((0.01 + 0.04) / 2) ** 0.5, abs=1e-6)


def test_one_sample_moves_the_prior_by_a_thirty_third() -> None:
    found = estimate_background(array(0.9), Background(0.0, 0.33))
    assert found.mean == pytest.approx(0.9 / 33, abs=1e-6)
    assert found.std == pytest.approx((0.33**2 * 32 / 33) ** 0.5, abs=1e-6)


def test_a_large_sample_outweighs_the_prior() -> None:
    drawn = np.random.default_rng(0).normal(0.2, 0.05, 100_000).astype(np.float32)
    found = estimate_background(drawn, Background(0.9, 0.9))
    assert found.mean == pytest.approx(0.2, abs=0.002)
    assert found.std == pytest.approx(0.05, abs=0.006)


def test_related_items_in_the_sample_dont_move_the_background() -> None:
    plain = array(*np.linspace(-0.1, 0.1, 41))
    related = plain.copy()
    related[-10:] = 0.95
    assert estimate_background(related, Background(0, 0.1)) == estimate_background(plain, Background(0, 0.1))


def test_a_background_always_has_a_spread() -> None:
    found = estimate_background(array(*[0.5] * 10), Background(0.5, 0.0))
    assert found.mean == pytest.approx(0.5)
    assert found.std == 1e-6


def test_standardised_scores_are_standard_deviations_from_the_background() -> None:
    z = standardise(array([0.1, 0.5], [NAN, -0.1]), Background(0.1, 0.2))
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, array([0, 2], [NAN, -1]), atol=1e-6)


# One hit a content


def test_any_view_may_answer_and_evidence_of_several_adds_up() -> None:
    z = array([1, 3, NAN], [NAN, -2, NAN], [2, 2, NAN], [9, NAN, -9])
    expected = [np.log(np.exp(1) + np.exp(3)), -2, 2 + np.log(2), 9]
    np.testing.assert_allclose(fuse(z, [False, False, False]), expected, rtol=1e-6)
    np.testing.assert_allclose(fuse(z, [True, False, False]), expected, rtol=1e-6)  # with nothing to be added to
    assert np.isfinite(fuse(array([500, 499]), [False, False])).all()


def test_a_handicap_is_taken_off_first() -> None:
    np.testing.assert_allclose(fuse(array([3, NAN], [NAN, 3]), [False, False], [0.0, 1.0]), [3, 2])


def test_views_with_evidence_of_their_own_are_added_and_keep_the_spread_of_one() -> None:
    z = array([3, 1, NAN], [3, NAN, NAN], [1, 1, 5], [4, -4, NAN])
    both = [4 / 2**0.5, 3, np.log(np.exp(2 / 2**0.5) + np.exp(5)), 0]
    np.testing.assert_allclose(fuse(z, [True, True, False]), both, rtol=1e-6, atol=1e-6)
    unrelated = np.random.default_rng(0).standard_normal((20_000, 2)).astype(np.float32)
    assert abs(float(fuse(unrelated, [True, True]).std()) - 1) < 0.02


def test_the_best_segment_of_each_content_answers_best_first() -> None:
    assert best_of_each(array(0.1, 0.9, 0.5, 0.7), [1, 1, 2, 3], [b"a", b"a", b"b", b"c"]) == [1, 3, 2]


def test_equal_scores_are_ordered_by_path_bytes_and_then_by_position() -> None:
    scores = array(0.5, 0.5, 0.5, 0.5)
    assert best_of_each(scores, [4, 3, 2, 1], [b"d", b"Z", "é".encode(), b"a"]) == [1, 3, 0, 2]
    assert best_of_each(scores, [7, 7, 8, 8], [b"a"] * 4) == [0, 2]


def test_nothing_has_no_best() -> None:
    assert best_of_each(array(), [], []) == []


def unit(*degrees: float) -> NDArray[np.float32]:
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def alike(*views: NDArray[np.float32], threshold: float = 0.99, kinds: list[str] | None = None) -> list[bool]:
    named = np.asarray(kinds or ["image"] * len(views[0]))
    marked: list[bool] = near_duplicates(views, named, [threshold] * len(views)).tolist()
    return marked


def test_an_item_near_one_before_it_is_marked_and_the_first_never() -> None:
    assert alike(unit(0, 90, 1, 91, 180)) == [False, False, True, True, False]


def test_a_chain_of_neighbours_is_cut_at_what_is_still_shown() -> None:
    # Each lies 5° from the next. 5° is near 0°; 10° is near only 5°, which is hidden, so it is shown and hides 15°.
    nearer_than_6_degrees = float(np.cos(np.radians(6)))
    assert alike(unit(0, 5, 10, 15), threshold=nearer_than_6_degrees) == [False, True, False, True]


def test_items_are_as_alike_as_in_the_view_that_differs_most() -> None:
    missing = array([np.nan, np.nan])
    seen = unit(0, 0, 0, 0)
    written = np.concatenate([unit(0, 0, 90), missing])
    # The second says the same, the third something else; the fourth says nothing and looks like the first.
    assert alike(seen, written) == [False, True, False, True]


def test_each_view_has_a_threshold_of_its_own() -> None:
    five_degrees, kinds = unit(0, 5), np.asarray(["video"] * 2)
    assert near_duplicates([five_degrees, five_degrees], kinds, [0.99, 0.99]).tolist() == [False, True]
    assert near_duplicates([five_degrees, five_degrees], kinds, [0.99, 0.999]).tolist() == [False, False]


def test_items_that_share_no_view_or_are_of_different_kinds_are_not_alike() -> None:
    missing = array([np.nan, np.nan])
    assert alike(np.concatenate([unit(0), missing]), np.concatenate([missing, unit(0)])) == [False, False]
    assert alike(unit(0, 0), kinds=["image", "text"]) == [False, False]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_items_have_no_duplicate(n: int) -> None:
    assert alike(np.ones((n, 3), np.float32), threshold=0.5) == [False] * n


# Agreement

SEEN = array([1.0, 0.8, 0.2], [0.8, 1.0, 0.4], [0.2, 0.4, 1.0])
HEARD = array([1.0, 0.6, NAN], [0.6, 1.0, NAN], [NAN, NAN, NAN])  # the third has no sound
EVEN = array(0.5, 0.25, 0.25)


def test_positives_are_the_first_and_weigh_by_how_far_they_are_ahead() -> None:
    # Half a standard deviation behind weighs 1/e of the first.
    first, weights = positives(array(1.0, 3.0, 2.5, -4.0), k=2)
    assert first.tolist() == [1, 2]
    np.testing.assert_allclose(weights, [1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1))], rtol=1e-6)
    assert positives(array(2.0, 2.0, 2.0), k=16)[1].tolist() == pytest.approx([1 / 3] * 3)
    assert positives(array(), k=4)[1].shape == (0,)


def test_of_few_items_few_are_taken_for_answers() -> None:
    assert [how_many(items) for items in (0, 31, 32, 128, 512, 10_000_000)] == [0, 0, 1, 4, 16, 16]


def test_agreement_is_the_weighted_mean_over_the_positives_of_the_mean_over_shared_views() -> None:
    # rho_01 = (0.8 + 0.6) / 2 = 0.7; the third is compared by sight alone.
    found = agreement(agreeing([SEEN, HEARD]), EVEN)
    assert found.dtype == np.float32
    expected = [0.5 * 1 + 0.25 * 0.7 + 0.25 * 0.2, 0.5 * 0.7 + 0.25 * 1 + 0.25 * 0.4, 0.5 * 0.2 + 0.25 * 0.4 + 0.25 * 1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_least_view_is_cmas_own_and_the_soft_least_lies_between() -> None:
    least, soft, mean = (agreement(agreeing([SEEN, HEARD], how), EVEN) for how in ("min", "soft-min", "mean"))
    np.testing.assert_allclose(least[0], 0.5 * 1 + 0.25 * 0.6 + 0.25 * 0.2, atol=1e-6)
    soft_01 = -np.log((np.exp(-0.8) + np.exp(-0.6)) / 2)
    np.testing.assert_allclose(soft[0], 0.5 * 1 + 0.25 * soft_01 + 0.25 * 0.2, atol=1e-6)
    assert np.all(least[:2] < soft[:2])
    assert np.all(soft[:2] < mean[:2])


def test_positives_that_share_no_view_add_nothing() -> None:
    sight = array([1.0, NAN, 0.3], [NAN, NAN, NAN], [0.3, NAN, 1.0])
    sound = array([NAN, NAN, NAN], [NAN, 1.0, NAN], [NAN, NAN, NAN])
    rho = agreeing([sight, sound])
    np.testing.assert_allclose(rho, array([1, NAN, 0.3], [NAN, 1, NAN], [0.3, NAN, 1]), atol=1e-6)
    np.testing.assert_allclose(agreement(rho, EVEN), [0.5 + 0.25 * 0.3, 0.25, 0.5 * 0.3 + 0.25], atol=1e-6)
    assert agreement(array([NAN, NAN]), array(0.5, 0.5)).tolist() == [0]


@pytest.mark.parametrize("views", ["mean", "min", "soft-min"])
def test_agreement_changes_nothing_that_it_is_given_and_stays_finite(views: Literal["mean", "min", "soft-min"]) -> None:
    seen, heard = SEEN.copy(), HEARD.copy()
    agreement(agreeing([seen, heard], views), EVEN)
    np.testing.assert_array_equal(seen, SEEN)
    np.testing.assert_array_equal(heard, HEARD)
    extreme = array([1e4, -1e4], [-1e4, 1e4])
    assert np.isfinite(agreeing([extreme, -extreme], views)).all()


def test_one_that_carries_all_the_weight_stays_first() -> None:
    # The first is a standard deviation ahead; the others are much alike, and would outvote it but for its own vote.
    scores = array(4.0, 2.5, 2.5, 2.5)
    between = array([8, 0, 0, 0], [0, 8, 6, 6], [0, 6, 8, 6], [0, 6, 6, 8])
    first, weights = positives(scores, k=4)
    final = rerank(scores, agreement(between[:, first], weights), first, weights, np.ones(4, np.int64), 0.6)
    assert final.argmax() == 0
    assert final[0] - final[1] > 1.5


def test_reranking_keeps_the_mean_of_the_positives_of_each_set_of_views() -> None:
    scores, agreed = array(3, 2, 1, 0.5), array(0.4, 0.8, 5.0, 7.0)
    first, weights, views = np.asarray([0, 1, 2]), array(0.5, 0.25, 0.25), np.asarray([3, 3, 1, 1])
    # Of views 3: (0.5 * 0.4 + 0.25 * 0.8) / 0.75; of views 1 the third alone, 5.
    centre = 0.4 / 0.75
    final = rerank(scores, agreed, first, weights, views, 2.0)
    assert final.dtype == np.float32
    np.testing.assert_allclose(final, [3 + 2 * (0.4 - centre), 2 + 2 * (0.8 - centre), 1, 0.5 + 2 * 2], atol=1e-6)
    np.testing.assert_array_equal(scores, array(3, 2, 1, 0.5))


def test_what_has_views_that_no_positive_has_is_measured_by_all_positives() -> None:
    # A note that answers lets photos fall by as much as notes that don't agree, however like each other they may be.
    final = rerank(array(5, 4, 1, 1), array(8.0, 0, 0, 0.5), np.asarray([0]), array(1), np.asarray([1, 1, 2, 2]), 0.5)
    np.testing.assert_allclose(final, [5, 0, -3, -2.75])


def test_without_strength_a_score_stays() -> None:
    scores, first, weights, views = array(3, 2, 1), np.asarray([0, 1]), array(0.5, 0.5), np.asarray([1, 1, 2])
    np.testing.assert_array_equal(rerank(scores, array(9, -9, 4), first, weights, views, 0.0), scores)
    np.testing.assert_allclose(rerank(scores, array(1, 3, 0), first, weights, views, 1.0), [2, 3, -1])


def test_the_strength_follows_the_query() -> None:
    unsure, sure = array(*[2.5] * 8), array(*[3.5] * 8)
    assert strength(unsure, ["rose"]) == STRENGTH
    assert strength(sure, ["rose"]) == 0
    assert strength(array(*[3.25] * 8), ["rose"]) == pytest.approx(STRENGTH / 4)
    assert strength(unsure, ["two dogs run along the beach"]) == 0
    assert strength(unsure, ["rose", "two dogs run along the beach"]) == 0
    assert strength(sure, []) == STRENGTH  # files ask


def test_an_item_is_trusted_as_far_as_its_views_agree() -> None:
    # The normal distribution's 2.3 %, 50 %, 97.7 %; a single view can't disagree.
    np.testing.assert_allclose(trust(array(-2, 0, 2, NAN)), [0.02275, 0.5, 0.97725, 1], atol=1e-5)


# Hubness


def test_a_hub_is_what_the_nearest_of_the_bank_are_near_to() -> None:
    z = array([1, 4], [3, 0], [2, -1])
    np.testing.assert_allclose(hubness(z, k=2), [2.5, 2])
    np.testing.assert_allclose(hubness(z, k=99), [2, 1])
    assert hubness(np.empty((0, 2), np.float32)).tolist() == [0, 0]


# Confidence


def test_evidence_is_an_items_own_and_the_firsts_with_how_alike_those_are() -> None:
    # Without 0.75 of their hubness 2.5, 2 and 1 are left: half of each, and half of their mean. Two are the same, the
    # third at right angles, so the mean cosine of pairs is 1/3; of two unrelated ones it is 0.1 ± 0.1.
    vectors = array([1, 0], [1, 0], [0, 1])
    found = evidence(array(4, 2, 1), array(2, 0, 0), vectors, Background(0.1, 0.1))
    np.testing.assert_allclose(found, (array(2.5, 2, 1) + 5.5 / 3 + (1 / 3 - 0.1) / 0.1) / 2, rtol=1e-5)
    np.testing.assert_allclose(evidence(array(3), array(0), vectors[:1], Background(0, 1)), [3])  # alone


def test_evidence_looks_at_no_more_than_the_first_five() -> None:
    alike, other = array(*[[1, 0]] * 5), array(*[[0, 1]] * 3)
    few = evidence(array(*[3] * 5), np.zeros(5, np.float32), alike, Background(0, 1))
    more = evidence(array(*[3] * 5, 0, 0, 0), np.zeros(8, np.float32), np.concatenate([alike, other]), Background(0, 1))
    np.testing.assert_array_equal(few, more[:5])


def test_confidence_is_the_share_of_unrelated_queries_that_reach_less() -> None:
    # Median 3; of the lower half 1, 2 and 3 the squares are 4, 1, 0. The two that have an answer change nothing.
    reach = fit_reach(array(1, 2, 3, 20, 30))
    assert reach.median == 3
    assert reach.spread == pytest.approx((5 / 3) ** 0.5)
    assert reach.confidence(3) == 0.5
    assert reach.confidence(3 + reach.spread) == pytest.approx(0.8413, abs=1e-4)
    assert reach.confidence(1e9) == 1
    assert reach.confidence(-1e9) == 0


def test_a_bank_that_reaches_the_same_everywhere_still_has_a_spread() -> None:
    assert fit_reach(array(2, 2, 2)).confidence(2.2) > 0.99


def test_the_bank_is_varied_and_its_first_lines_stand_for_all() -> None:
    everything = bank(10_000)
    assert len({text.casefold() for text in everything}) == len(everything) == 1_024
    assert all(text == text.strip() and text.isprintable() for text in everything)
    lengths = [[len(text.split()) for text in texts] for texts in (bank(), everything)]
    assert len(bank()) == 512
    assert abs(float(np.mean(lengths[0])) - float(np.mean(lengths[1]))) < 0.3
