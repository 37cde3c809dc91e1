"""What heads gain on the pairs that were held out, and which step's heads to take.

To stop at the step that is best on some pairs and to judge that step by the same pairs would find a gain in noise. So
the held-out pairs are cut in two (cross-fitting): the step that is best for one half is judged by the other half, and
the verdict is on both together. The heads that are taken are those of the step that is best for all of them, about
which nothing is claimed but what the halves say of each other's choice. Each choice looks only at its own half, and
only as far as its own patience reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmsearch.adaptation.pairs import ONE, OTHER, TRAIN, Collection, Side
from mmsearch.metrics import Interval, paired_bootstrap
from mmsearch.spaces import Vectors
from mmsearch.types import Gain, View

PATIENCE = 15
"""After so many looks without a better one a choice is made."""
_DEPTH = 10
_GALLERY = 100
"""Where fewer contents are to be ranked, a place among the first ten says little, and the reciprocal rank is taken."""
_CHUNK = 512

Heads = Callable[[View, Vectors], Vectors]
"""What heads make of the vectors (n, dim) of a view."""


@dataclass(frozen=True, slots=True)
class _Direction:
    """One kind of question to the held-out pairs: whose row asks, and among what its own is to be found."""

    name: str
    asking: tuple[View, Side]
    asked: tuple[View, Side]

    @property
    def contents(self) -> int:
        return len(np.unique(self.asked[1].owners))

    def ranks(self, heads: Heads) -> NDArray[np.int64]:
        """Return for each row that asks the rank of the best of its own pair, from 1; who ties goes before it."""
        (asking, queries), (asked, items) = self.asking, self.asked
        vectors, targets = heads(asking, queries.vectors), heads(asked, items.vectors)
        found = []
        for start in range(0, len(vectors), _CHUNK):
            scores = vectors[start : start + _CHUNK] @ targets.T
            own = queries.owners[start : start + _CHUNK, None] == items.owners[None, :]
            best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
            found.append(1 + ((scores >= best) & ~own).sum(axis=1))
        return np.concatenate(found)


@dataclass(slots=True)
class Trial:
    """Looks at heads from time to time while they are trained; the first look is at the old space."""

    collection: Collection
    _directions: tuple[_Direction, ...] = ()
    _looks: list[tuple[NDArray[np.int64], ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        c, held = self.collection, self.collection.folds != TRAIN
        words, pictures = (View.TEXT, c.words.of(held)), (View.VISUAL, c.pictures.of(held))
        seen, heard = (View.VISUAL, c.seen.of(held)), (View.AUDIO, c.heard.of(held))
        self._directions = tuple(
            _Direction(f"{asking[0]}→{asked[0]}", asking, asked)
            for left, right in ((words, pictures), (heard, seen))
            if len(left[1].owners)
            for asking, asked in ((left, right), (right, left))
        )

    @property
    def metric(self) -> str:
        """What is measured: "recall@10", or "mrr" where there are few to be ranked."""
        return "recall@10" if min(direction.contents for direction in self._directions) >= _GALLERY else "mrr"

    def look(self, heads: Heads) -> bool:
        """Measure heads; return whether none before were better for all that is held out together."""
        self._looks.append(tuple(direction.ranks(heads) for direction in self._directions))
        return self.best == len(self._looks) - 1

    @property
    def best(self) -> int:
        """The look that is best for all that is held out; 0 is the old space."""
        return self._choice(ONE, OTHER)[0]

    @property
    def is_over(self) -> bool:
        """Whether further looks change no choice."""
        return all(self._choice(*folds)[1] for folds in ((ONE,), (OTHER,), (ONE, OTHER)))

    def overall(self) -> Interval:
        """Return by how much the new space differs from the old one: the mean over pairs, each that of its directions.

        Pairs are what is drawn in the bootstrap, for several captions of one picture don't judge by themselves.
        """
        before, after = (np.nanmean(np.stack(rows), axis=0) for rows in (self._before(), self._after()))
        return paired_bootstrap(after, before)

    def gains(self) -> tuple[Gain, ...]:
        """Return what was gained in each direction."""
        return tuple(
            Gain(
                direction=direction.name,
                queries=len(direction.asking[1].owners),
                metric=self.metric,
                before=float(np.nanmean(before)),
                after=float(np.nanmean(after)),
                difference=paired_bootstrap(after[~np.isnan(after)], before[~np.isnan(before)]),
            )
            for direction, before, after in zip(self._directions, self._before(), self._after(), strict=True)
        )

    def _choice(self, *folds: int) -> tuple[int, bool]:
        """Return the look that is best for some folds, and whether their patience is at its end.

        By the mean reciprocal rank, which tells more than a place among the first ten.
        """
        curve = []
        for ranks in self._looks:
            values = np.nanmean(np.stack([self._by_pair(n, 1 / one) for n, one in enumerate(ranks)]), axis=0)
            curve.append(float(values[np.isin(self.collection.folds[self._held], folds)].mean()))
        best = 0
        for look, value in enumerate(curve):
            if value > curve[best]:
                best = look
            elif look - best >= PATIENCE:
                return best, True
        return best, False

    def _before(self) -> list[NDArray[np.float64]]:
        return [self._values(n, self._looks[0][n]) for n in range(len(self._directions))]

    def _after(self) -> list[NDArray[np.float64]]:
        """Return for each direction (held-out pairs,): each half by the heads that the other half chose."""
        chosen = {ONE: self._choice(OTHER)[0], OTHER: self._choice(ONE)[0]}
        found = []
        for n, direction in enumerate(self._directions):
            folds = self.collection.folds[direction.asking[1].owners]
            ranks = np.where(folds == ONE, self._looks[chosen[ONE]][n], self._looks[chosen[OTHER]][n])
            found.append(self._values(n, ranks))
        return found

    def _values(self, n: int, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._by_pair(n, (ranks <= _DEPTH).astype(np.float64) if self.metric == "recall@10" else 1 / ranks)

    def _by_pair(self, n: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (held-out pairs,), the mean of each one's rows in a direction, nan where it has none."""
        place = np.searchsorted(self._held, self._directions[n].asking[1].owners)
        counts = np.bincount(place, minlength=len(self._held))
        sums = np.bincount(place, values, minlength=len(self._held))
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    @property
    def _held(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.collection.folds != TRAIN)
