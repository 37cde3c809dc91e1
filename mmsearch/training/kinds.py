"""The kinds that a picture network was trained to tell, as pictures that nobody has to hand out.

A linear classifier on features of covariance Σ, whose classes differ in their mean alone, has weights w = Σ⁻¹μ. So
Σw is the way from any picture to one of a kind (linear discriminant analysis): a picture of another kind is moved
along it, and what its features would be then is what the names of the kind are trained to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import UsageError

Array = NDArray[np.float32]
_SAMPLE = 8_000
_RIDGE = 1e-2
_BESIDE = 10
"""A picture's own kind is taken down to the score of its tenth."""
_RISE = (2.0, 6.0)
"""By how much the classifier's own score of the kind rises, at least and at most."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Pictures of kinds: `pictures` (n, width) are features, `ways` (kinds, width) raise a kind's score by 1."""

    pictures: Array
    ways: Array
    own: NDArray[np.int64]
    """The kind that the network sees in each picture."""
    strength: Array
    """By how much it stands out there."""
    names: tuple[tuple[int, ...], ...] = ()
    """Of each kind, the rows of the texts that name it."""

    def draw(self, kinds: NDArray[np.int64], random: np.random.Generator) -> Array:
        """Return features of a picture of each of some kinds, (n, width)."""
        at = random.integers(0, len(self.pictures), len(kinds))
        gone = self.ways[self.own[at]] * self.strength[at][:, None]
        rise = random.uniform(*_RISE, len(kinds)).astype(np.float32)
        moved = self.pictures[at] - gone + self.ways[kinds] * rise[:, None]
        return np.asarray(np.maximum(moved, 0.0), np.float32)


def fit_kinds(pictures: NDArray[np.float16], classifier: Array, names: Sequence[tuple[int, ...]]) -> Kinds:
    """Return the kinds of a classifier (kinds, width), for pictures' features (n, width), 0 or more.

    Raises `UsageError` where there are not as many names as kinds.
    """
    if len(names) != len(classifier):
        raise UsageError(f"the recipe names {len(names):,} kinds, but its network tells {len(classifier):,}; mend it")
    some = np.asarray(pictures[:: max(1, len(pictures) // _SAMPLE)], np.float32)
    covariance = np.cov(some.T).astype(np.float32)
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance), dtype=np.float32)
    weights = classifier - classifier.mean(axis=0)
    ways = weights @ covariance
    ways /= np.einsum("kw,kw->k", ways, weights)[:, None]
    scores = some @ weights.T
    own = scores.argmax(axis=1)
    others = -min(_BESIDE, scores.shape[1])
    strength = scores[np.arange(len(own)), own] - np.partition(scores, others, axis=1)[:, others]
    return Kinds(some, ways, own, strength.astype(np.float32), tuple(names))
