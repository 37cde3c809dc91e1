"""The pure functions of ranking, on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.ranking import (
    Background,
    agreement,
    best_of_each,
    estimate_background,
    fuse,
    near_duplicates,
    rerank,
    standardise,
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


def test_the_best_view_speaks_for_an_item() -> None:
    z = array([1, 3, NAN], [NAN, -2, 0])
    np.testing.assert_allclose(fuse(z, [False, False, False]), [3, 0])
    np.testing.assert_allclose(fuse(z, [True, False, False]), [3, 0])  # one view alone has nothing to be added to


def test_views_with_evidence_of_their_own_are_added_and_keep_the_spread_of_one() -> None:
    z = array([3, 1, NAN], [3, NAN, NAN], [1, 1, 5], [4, -4, NAN])
    np.testing.assert_allclose(fuse(z, [True, True, False]), [4 / 2**0.5, 3, 5, 0], rtol=1e-6)
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
    marked: list[bool] = near_duplicates(views, named, threshold).tolist()
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


def test_agreement_is_the_mean_of_the_least_over_shared_views() -> None:
    # rho_01 = min(0.8, 0.6) = 0.6; rho_02 = 0.2 and rho_12 = 0.4 by sight alone.
    found = agreement({"visual": SEEN, "audio": HEARD}, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [(0.6 + 0.2) / 2, (0.6 + 0.4) / 2, (0.2 + 0.4) / 2], atol=1e-6)


def test_agreement_looks_only_at_the_first_candidates() -> None:
    np.testing.assert_allclose(agreement({0: SEEN, 1: HEARD}, 2), [0.6, 0.6, (0.2 + 0.4) / 2], atol=1e-6)


def test_agreement_leaves_out_what_shares_no_view() -> None:
    sight = array([1.0, NAN, 0.3], [NAN, NAN, NAN], [0.3, NAN, 1.0])
    sound = array([NAN, NAN, NAN], [NAN, 1.0, NAN], [NAN, NAN, NAN])
    np.testing.assert_allclose(agreement({0: sight, 1: sound}, 3), [0.3, NAN, 0.3], atol=1e-6)


def test_a_single_candidate_agrees_with_none() -> None:
    assert np.isnan(agreement({0: array([1.0])}, 10)).tolist() == [True]


def test_agreement_changes_nothing_that_it_is_given() -> None:
    seen, heard = SEEN.copy(), HEARD.copy()
    agreement({0: seen, 1: heard}, 3)
    np.testing.assert_array_equal(seen, SEEN)
    np.testing.assert_array_equal(heard, HEARD)


def test_reranking_adds_trusted_agreement_centred_among_items_of_the_same_views() -> None:
    scores, agreed = array(3, 2, 1, 0.5), array(0.4, 0.8, 5.0, 7.0)
    trust, views = array(1, 0.5, 1, 0.25), np.asarray([3, 3, 1, 1])
    # Means: 0.6 of the first two, 6 of the others.
    expected = [3 + 2 * 1 * -0.2, 2 + 2 * 0.5 * 0.2, 1 + 2 * 1 * -1, 0.5 + 2 * 0.25 * 1]
    final = rerank(scores, agreed, trust, views, 2.0)
    assert final.dtype == np.float32
    np.testing.assert_allclose(final, expected, atol=1e-6)
    np.testing.assert_array_equal(scores, array(3, 2, 1, 0.5))


def test_without_trust_or_strength_a_score_stays() -> None:
    scores, agreed, views = array(3, 2, 1), array(9, -9, 4), np.asarray([3, 3, 3])
    np.testing.assert_array_equal(rerank(scores, agreed, array(0, 0, 0), views, 5.0), scores)
    np.testing.assert_array_equal(rerank(scores, agreed, array(1, 1, 1), views, 0.0), scores)
    assert rerank(scores, agreed, array(0, 1, 1), views, 5.0)[0] == 3


def test_what_agrees_with_none_keeps_its_score_and_moves_no_mean() -> None:
    final = rerank(array(3, 2, 1), array(NAN, 1.0, 3.0), array(1, 1, 1), np.asarray([1, 1, 1]), 1.0)
    np.testing.assert_allclose(final, [3, 2 - 1, 1 + 1], atol=1e-6)
    alone = rerank(array(1), array(NAN), array(1), np.asarray([1]), 1.0)
    np.testing.assert_array_equal(alone, [1])
