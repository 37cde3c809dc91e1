"""How adaptation is judged: ranks, the choice among steps, and the verdict on what was held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch import View
from mmsearch.adaptation.early_stopping import Trial
from mmsearch.adaptation.pairs import HALF_A, HALF_B, TRAIN, Collection, Side
from mmsearch.spaces import Vectors, normalise


def made(count: int, dim: int = 16, per: int = 3) -> Collection:
    """Return pairs with several captions each whose vectors know nothing of each other; of what is held out, halves."""
    random = np.random.default_rng(count)
    pictures = Side(normalise(random.standard_normal((count, dim))), np.arange(count))
    words = Side(normalise(random.standard_normal((count * per, dim))), np.repeat(np.arange(count), per))
    none = Side(np.zeros((0, dim), np.float32), np.zeros(0, np.int64))
    folds = np.asarray([(TRAIN, HALF_A, HALF_B)[n % 3] for n in range(count)])
    return Collection(folds, np.full(count, -1), words, pictures, none, none)


def test_ranks_are_those_of_a_plain_count_and_ties_dont_flatter() -> None:
    collection = made(60)
    trial = Trial(collection)
    trial.measure(lambda _, rows: rows)
    held = np.flatnonzero(collection.folds != TRAIN)
    words, pictures = collection.captions, collection.pictures
    want = []
    for row, owner in zip(words.vectors, words.owners, strict=True):
        if owner in held:
            own = float(row @ pictures.vectors[owner])
            want.append(1 + sum(float(row @ pictures.vectors[n]) >= own for n in held if n != owner))
    assert trial._measured[0][0].tolist() == want
    trial.measure(lambda _, rows: np.ones_like(rows))
    assert set(trial._measured[1][0].tolist()) == {len(held)}


@dataclass(frozen=True)
class Mixed:
    """A space that means nothing."""

    mix: dict[View, NDArray[np.float64]]

    def __call__(self, view: View, rows: Vectors) -> Vectors:
        return normalise(rows @ self.mix[view])


def test_the_verdict_finds_no_gain_in_the_best_of_many_spaces_that_mean_nothing() -> None:
    """The best measurement on some pairs seems to be a gain there; on the other half it isn't one."""
    naive, crossed, adopted = [], [], 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        trial = Trial(made(90))
        for _ in range(12):
            trial.measure(Mixed({view: random.standard_normal((16, 16)) for view in View}))
        means = [np.mean([np.mean(1 / ranks) for ranks in measured]) for measured in trial._measured]
        naive.append(means[trial.best] - means[0])
        overall = trial.overall()
        crossed.append(overall.value)
        adopted += overall.low > 0
    assert np.mean(naive) > 0.02
    assert abs(np.mean(crossed)) < 0.01
    assert adopted <= 3


def test_a_choice_is_over_when_nothing_better_came_for_long_and_then_stands() -> None:
    trial = Trial(made(30, per=1))
    trial.measure(lambda _, rows: rows)
    waited = 0
    while not trial.is_over:
        trial.measure(lambda _, rows: np.ones_like(rows))  # worse than anything
        waited += 1
    assert waited == 15
    same = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    assert not trial.measure(lambda _, rows: normalise(same[: len(rows)]))  # every caption is its picture
    assert (trial._measured[-1][0] == 1).all()
    assert (trial.best, trial.overall().value) == (0, 0.0)
