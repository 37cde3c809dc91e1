"""Every loss against a number worked by hand or NumPy's, and its gradient against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsearch.training.losses import (
    contrast,
    cosine_distance,
    cross_entropy,
    distil_classes,
    distil_features,
    info_nce,
    noise_contrastive,
    partition,
    tag_positives,
)

Doubles = NDArray[np.float64]
E = math.e


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Float64, for finite differences need the digits."""
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(size=shape))
    return torch.nn.functional.normalize(drawn, dim=-1)


def log_softmax(logits: Doubles) -> Doubles:
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def rows(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def gradients_are_right(loss: Callable[..., Tensor], *inputs: Tensor) -> bool:
    """Of all inputs at once; a loss that is flat would agree with anything, so each has to matter."""
    asked = [tensor.clone().requires_grad_() for tensor in inputs]
    assert all(found.abs().max() > 1e-6 for found in torch.autograd.grad(loss(*asked), asked))
    return torch.autograd.gradcheck(loss, asked)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


TEMPERATURE = torch.tensor(0.3, dtype=torch.float64)

# Contrast


def test_info_nce_of_two_orthogonal_pairs_is_worked_by_hand() -> None:
    # Scores 1 on the diagonal, 0 off it: −log(e^(1/τ) / (e^(1/τ) + 1)).
    eye = torch.eye(2)
    assert float(info_nce(eye, eye, 1.0)) == pytest.approx(math.log(1 + 1 / E), abs=1e-6)
    assert float(info_nce(eye, eye, 0.5)) == pytest.approx(math.log(1 + E**-2), abs=1e-6)


def test_info_nce_goes_one_way_only() -> None:
    queries, keys = rows([1, 0], [1, 0]), rows([1, 0], [0, 1])
    # Query to key: both rows score (1, 0), the second's positive is the 0. Back: (1, 1), then (0, 0).
    forth = (math.log(1 + 1 / E) + math.log(1 + E)) / 2
    assert float(info_nce(queries, keys, 1.0)) == pytest.approx(forth, abs=1e-6)
    assert float(info_nce(keys, queries, 1.0)) == pytest.approx(math.log(2), abs=1e-6)
    assert float(contrast(queries, keys, 1.0)) == pytest.approx((forth + math.log(2)) / 2, abs=1e-6)


def test_a_queue_of_negatives_only_adds_to_the_denominator() -> None:
    eye = torch.eye(2)
    negatives = rows([-1, 0], [0, -1], [0, 1])
    # First row: e against 1, and e^−1, 1, 1; second: e against 1, and 1, e^−1, e.
    expected = (math.log((E + 1 + 1 / E + 2) / E) + math.log((E + 1 + 1 + 1 / E + E) / E)) / 2
    assert float(info_nce(eye, eye, 1.0, negatives)) == pytest.approx(expected, abs=1e-6)


def test_positives_are_averaged_over_a_row_and_rows_without_one_do_not_count() -> None:
    queries, keys, negatives = unit(3, 4), unit(3, 4, seed=1), unit(2, 4, seed=2)
    marked = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 0, 1]], dtype=torch.bool)
    log = log_softmax(queries.numpy() @ np.concatenate([keys, negatives]).T / 0.2)
    expected = -((log[0, 0] + log[0, 3]) / 2 + (log[2, 1] + log[2, 2] + log[2, 4]) / 3) / 2
    for positives in (marked, marked.float()):
        found = info_nce(queries, keys, 0.2, negatives, positives)
        assert float(found) == pytest.approx(expected, abs=1e-9)


def test_weights_below_1_still_average() -> None:
    eye = torch.eye(2)
    found = info_nce(eye, eye, 1.0, positives=0.25 * torch.eye(2))
    assert float(found) == pytest.approx(math.log(1 + 1 / E), abs=1e-6)


def test_a_diagonal_of_positives_is_what_no_positives_mean() -> None:
    left, right = unit(5, 3), unit(5, 3, seed=1)
    assert float(contrast(left, right, 0.1, torch.eye(5))) == pytest.approx(float(contrast(left, right, 0.1)), abs=1e-9)


def test_contrast_turns_the_positives_for_the_way_back() -> None:
    left, right = unit(2, 3), unit(2, 3, seed=1)
    scores = left.numpy() @ right.numpy().T
    forth, back = log_softmax(scores), log_softmax(scores.T)
    # Left 0 has both, left 1 none: so right 0 and right 1 both have left 0.
    expected = (-(forth[0, 0] + forth[0, 1]) / 2 - (back[0, 0] + back[1, 0]) / 2) / 2
    assert float(contrast(left, right, 1.0, rows([1, 1], [0, 0]))) == pytest.approx(expected, abs=1e-7)


def test_without_any_positive_info_nce_is_zero_and_has_a_gradient_of_zero() -> None:
    queries = unit(3, 4).requires_grad_()
    loss = info_nce(queries, unit(3, 4), 0.07, positives=torch.zeros(3, 3))
    assert float(loss.detach()) == 0
    assert not gradient(loss, queries).any()


def test_the_gradient_of_info_nce_is_probability_less_the_positive() -> None:
    queries, keys = unit(3, 4).requires_grad_(), unit(3, 4, seed=1)
    found = gradient(info_nce(queries, keys, 0.2), queries)
    probability = np.exp(log_softmax(queries.detach().numpy() @ keys.numpy().T / 0.2))
    np.testing.assert_allclose(found, (probability - np.eye(3)) @ keys.numpy() / 0.2 / 3, atol=1e-9)


def test_gradients_of_the_contrasts_reach_all_embeddings_and_the_temperature() -> None:
    left, right, queue = unit(3, 4), unit(3, 4, seed=1), unit(2, 4, seed=2)
    marked = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 0, 1]])
    assert gradients_are_right(lambda q, k, n, t: info_nce(q, k, t, n), left, right, queue, TEMPERATURE)
    assert gradients_are_right(lambda q, k, n, t: info_nce(q, k, t, n, marked), left, right, queue, TEMPERATURE)
    assert gradients_are_right(contrast, left, right, TEMPERATURE)
    assert gradients_are_right(lambda x, y, t: contrast(x, y, t, marked[:, :3]), left, right, TEMPERATURE)


# Tags


def test_tags_are_positives_from_the_threshold_on() -> None:
    left, right = rows([1, 0, 0], [1, 1, 0]), rows([1, 0, 0], [0, 1, 1], [0, 0, 1])
    # Cosines: 1, 0, 0; and √½, ½, 0.
    assert tag_positives(left, right, 0.5).tolist() == [[1, 0, 0], [1, 1, 0]]
    assert tag_positives(left, right, 0.6).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert tag_positives(left, right, 0.8).tolist() == [[1, 0, 0], [0, 0, 0]]
    assert tag_positives(left.long(), right.bool(), 0.6).dtype == torch.float32


def test_the_same_tags_are_alike_at_a_threshold_of_1_whatever_they_round_to() -> None:
    tags = torch.from_numpy(np.random.default_rng(0).random((200, 7), np.float32))
    assert tag_positives(tags, tags, 1.0).diagonal().all()


def test_what_has_no_tags_is_like_nothing_at_any_threshold_but_its_own_partner() -> None:
    left, right = rows([0, 0], [1, 0]), rows([0, 0], [1, 0], [0, 0])
    assert tag_positives(left, right, -1.0).tolist() == [[0, 0, 0], [0, 1, 0]]
    assert tag_positives(left, right, 0.5, own=True).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert tag_positives(right, left, 0.5, own=True).tolist() == [[1, 0], [0, 1], [0, 0]]


# Noise contrast


def nce(queries: Doubles, positives: Doubles, negatives: Doubles, temperature: float, z: float) -> float:
    """The formula as it is printed, row by row, of one positive a row."""
    noise, total = negatives.shape[1] * z, 0.0
    for query, positive, others in zip(queries, positives, negatives, strict=True):
        right, wrong = np.exp(query @ positive / temperature), np.exp(others @ query / temperature)
        total += -np.log(right / (right + noise)) - np.log(noise / (wrong + noise)).sum()
    return float(total / len(queries))


def test_noise_contrast_of_one_row_is_worked_by_hand() -> None:
    query, positive, negatives = rows([1, 0]), rows([1, 0]), rows([[0, 1], [-1, 0]])
    # s = 1, s⁻ = 0 and −1, K·Z = 2·3 = 6.
    expected = -math.log(E / (E + 6)) - math.log(6 / (1 + 6)) - math.log(6 / (1 / E + 6))
    assert float(noise_contrastive(query, positive, negatives, 1.0, 3.0)) == pytest.approx(expected, abs=1e-6)
    assert float(noise_contrastive(query, positive, negatives, 1.0, torch.tensor(3.0))) == pytest.approx(
        expected, abs=1e-6
    )


def test_noise_contrast_is_the_printed_formula() -> None:
    queries, positives, negatives = unit(4, 8), unit(4, 8, seed=1), unit(4, 16, 8, seed=2)
    expected = nce(queries.numpy(), positives.numpy(), negatives.numpy(), 0.07, 50.0)
    assert float(noise_contrastive(queries, positives, negatives, 0.07, 50.0)) == pytest.approx(expected, rel=1e-7)


def test_several_positives_are_scored_with_the_same_negatives_and_averaged() -> None:
    queries, positives, negatives = unit(4, 8), unit(4, 3, 8, seed=1), unit(4, 16, 8, seed=2)
    each = [nce(queries.numpy(), positives[:, p].numpy(), negatives.numpy(), 0.2, 5.0) for p in range(3)]
    assert float(noise_contrastive(queries, positives, negatives, 0.2, 5.0)) == pytest.approx(np.mean(each), rel=1e-7)


def test_gradients_of_noise_contrast_are_right() -> None:
    queries, one, several = unit(3, 4), unit(3, 4, seed=1), unit(3, 2, 4, seed=2)
    negatives, z = unit(3, 5, 4, seed=3), torch.tensor(2.5, dtype=torch.float64)
    assert gradients_are_right(noise_contrastive, queries, one, negatives, TEMPERATURE, z)
    assert gradients_are_right(noise_contrastive, queries, several, negatives, TEMPERATURE, z)


def test_the_partition_is_the_mean_of_all_scores_to_the_power_of_e_and_holds_no_graph() -> None:
    queries, negatives = rows([1, 0], [0, 1]).requires_grad_(), rows([[1, 0], [0, 1]], [[0, -1], [0, 1]])
    # s / ½: 2, 0; −2, 2.
    found = partition(queries, negatives, 0.5)
    assert float(found) == pytest.approx((E**2 + 1 + E**-2 + E**2) / 4, rel=1e-6)
    assert not found.requires_grad


# Numbers that overflow when written as the formulas are


@pytest.mark.parametrize("temperature", [0.07, 0.001])
def test_the_worst_scores_stay_finite_and_cost_their_distance(temperature: float) -> None:
    s = 1 / temperature
    queries = rows([1, 0], [0, 1]).requires_grad_()
    wrong = -queries.detach()
    # Row by row the positive scores −s and the other key 0.
    expected = s + math.log1p(math.exp(-s))
    assert float(info_nce(queries, wrong, temperature).detach()) == pytest.approx(expected, rel=1e-5)
    # The positive costs s + log 2Z; the two negatives score s, and cost s − log 2Z each where e^s is far above 2Z.
    negatives = queries.detach()[:, None].expand(2, 2, 2)
    loss = noise_contrastive(queries, wrong, negatives, temperature, 5.0)
    assert float(loss.detach()) == pytest.approx(3 * s - math.log(10), rel=1e-4)
    assert gradient(loss, queries).isfinite().all()
    # All right: nothing is left but what chance leaves.
    right = noise_contrastive(queries.detach(), queries.detach(), -negatives, temperature, 5.0)
    assert float(right) == pytest.approx(math.log1p(10 * math.exp(-s)), abs=1e-6)


def test_distillation_stays_finite_where_teacher_and_student_are_certain_of_opposites() -> None:
    student = rows([1, 0], [1, 0], [-1, 0]).requires_grad_()
    # The teacher is certain of the first class: the student is, of the second, twice.
    classes = distil_classes(student, rows([-1, 0], [1, 0]), rows([1, 0], [1, 0], [1, 0]), 100)
    assert float(classes.detach()) == pytest.approx(400 / 3, rel=1e-6)
    assert gradient(classes, student).isfinite().all()


# Distillation


def test_cosine_distance_ignores_length_and_is_1_from_nothing() -> None:
    student, target = rows([3, 0], [0, 5], [1, 1], [0, 0]), rows([1, 0], [0, -1], [7, 0], [1, 0])
    # 0, 2, 1 − √½, 1.
    assert float(cosine_distance(student, target)) == pytest.approx((0 + 2 + 1 - 0.5**0.5 + 1) / 4, abs=1e-6)


def test_features_are_compared_by_their_standard_deviations_from_the_mean() -> None:
    mean, std = rows(100, 0).flatten(), rows(50, 0.5).flatten()
    # Standardised: (1, 1) and (−1, 1), at right angles; (2, 0) and (1, 0), the same way.
    student, target = rows([150, 0.5], [200, 0]), rows([50, 0.5], [150, 0])
    assert float(distil_features(student, target, mean, std)) == pytest.approx((1 + 0) / 2, abs=1e-6)
    assert float(cosine_distance(student, target)) < 0.01


def test_a_dimension_that_never_varies_does_not_count() -> None:
    mean, std = rows(0, 0, 4).flatten(), rows(1, 1, 0).flatten()
    student, target = rows([1, 0, 9]).requires_grad_(), rows([1, 1, 4])
    loss = distil_features(student, target, mean, std)
    assert float(loss.detach()) == pytest.approx(1 - 0.5**0.5, abs=1e-6)
    found = gradient(loss, student)
    assert found.isfinite().all()
    assert found[0, 1] != 0
    assert found[0, 2] == 0


def test_class_distillation_is_the_divergence_from_the_teacher_and_takes_a_certain_one() -> None:
    embeddings, labels, said = rows([1, 0], [0, 1]), rows([1, 0], [0, 1], [0, -1]), rows([0.5, 0.25, 0.25], [0, 1, 0])
    # At scale 2: logits (2, 0, 0) and (0, 2, −2).
    first, second = math.log(E**2 + 2), math.log(1 + E**2 + E**-2)
    halves = 0.5 * (math.log(0.5) - (2 - first)) + 0.5 * (math.log(0.25) - (0 - first))
    expected = (halves - (2 - second)) / 2
    assert float(distil_classes(embeddings, labels, said, 2.0)) == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_counts_only_rows_with_a_class() -> None:
    embeddings, labels = rows([1, 0], [0, 1], [1, 0]), rows([1, 0], [0, 1], [0, -1])
    # At scale 2, row 0 of class 1: logits (2, 0, 0); row 2 of class 0: the same.
    total = math.log(E**2 + 2)
    found = cross_entropy(embeddings, labels, torch.tensor([1, -1, 0]), 2.0)
    assert float(found) == pytest.approx((total + total - 2) / 2, abs=1e-6)


def test_without_any_class_cross_entropy_is_zero_and_has_a_gradient_of_zero() -> None:
    embeddings = unit(2, 3).requires_grad_()
    loss = cross_entropy(embeddings, unit(4, 3), torch.tensor([-1, -1]), 10.0)
    assert float(loss.detach()) == 0
    assert not gradient(loss, embeddings).any()


def test_gradients_of_distillation_are_right() -> None:
    student, teacher, labels = unit(4, 3), unit(4, 3, seed=1), unit(5, 3, seed=2)
    mean, std = torch.tensor([0.1, -0.2, 0.3]).double(), torch.tensor([0.5, 2.0, 1.0]).double()
    said = torch.softmax(unit(4, 5, seed=3), dim=1)
    assert gradients_are_right(cosine_distance, 2 * student, teacher)
    assert gradients_are_right(lambda s: distil_features(s, teacher, mean, std), student)
    assert gradients_are_right(lambda s, c, t: distil_classes(s, c, said, 1 / t), student, labels, TEMPERATURE)
    classes = torch.tensor([3, -1, 0, 0])
    assert gradients_are_right(lambda s, c, t: cross_entropy(s, c, classes, 1 / t), student, labels, TEMPERATURE)
