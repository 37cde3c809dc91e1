"""Chooses the training step whose heads are best on held-out pairs, and measures their gain without bias.

Choosing a step by some pairs and measuring its gain on the same pairs would find a gain even in noise. So the held-out
pairs are split in two (cross-fitting): each half measures the step that the other half chose, and the reported gain is
over both. The heads that are kept are those of the best step on all held-out pairs; only the cross-fitted gain is
reported for them. Each choice uses only the pairs of its own half, and stops by its own patience.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmsearch.adaptation.pairs import HALF_A, HALF_B, TRAIN, Collection, Side
from mmsearch.metrics import Interval, paired_bootstrap
from mmsearch.spaces import Vectors
from mmsearch.types import Gain, View

PATIENCE = 15
"""A choice is final after this many measurements without a better one."""
_DEPTH = 10
_MIN_GALLERY = 100
"""With fewer contents to rank, recall@10 is nearly always 1, so the reciprocal rank is used instead."""
_CHUNK_ROWS = 512

Heads = Callable[[View, Vectors], Vectors]
"""Applies the head of a view to its vectors (n, dim)."""


@dataclass(frozen=True, slots=True)
class _Direction:
    """One direction of retrieval between the held-out pairs: queries of one view, items of another."""

    name: str
    queries: tuple[View, Side]
    items: tuple[View, Side]

    @property
    def contents(self) -> int:
        return len(np.unique(self.items[1].owners))

    def ranks(self, heads: Heads) -> NDArray[np.int64]:
        """Return for each query the rank, from 1, of the best item of its own pair; ties count against it."""
        (query_view, queries), (item_view, items) = self.queries, self.items
        vectors, targets = heads(query_view, queries.vectors), heads(item_view, items.vectors)
        ranks = []
        for start in range(0, len(vectors), _CHUNK_ROWS):
            scores = vectors[start : start + _CHUNK_ROWS] @ targets.T
            own = queries.owners[start : start + _CHUNK_ROWS, None] == items.owners[None, :]
            best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
            ranks.append(1 + ((scores >= best) & ~own).sum(axis=1))
        return np.concatenate(ranks)


@dataclass(slots=True)
class Trial:
    """Measures heads from time to time during training. The first measurement must be of the original space."""

    collection: Collection
    _directions: tuple[_Direction, ...] = ()
    _measured: list[tuple[NDArray[np.int64], ...]] = field(default_factory=list)
    """For each measurement the ranks of every direction."""

    def __post_init__(self) -> None:
        c, held_out = self.collection, self.collection.folds != TRAIN
        captions, pictures = (View.TEXT, c.captions.of(held_out)), (View.VISUAL, c.pictures.of(held_out))
        frames, sounds = (View.VISUAL, c.frames.of(held_out)), (View.AUDIO, c.sounds.of(held_out))
        self._directions = tuple(
            _Direction(f"{queries[0]}→{items[0]}", queries, items)
            for left, right in ((captions, pictures), (sounds, frames))
            if len(left[1].owners)
            for queries, items in ((left, right), (right, left))
        )

    @property
    def metric(self) -> str:
        """The reported metric: "recall@10", or "mrr" if few contents are ranked."""
        return "recall@10" if min(direction.contents for direction in self._directions) >= _MIN_GALLERY else "mrr"

    def measure(self, heads: Heads) -> bool:
        """Measure heads; return whether they are the best so far on all held-out pairs."""
        self._measured.append(tuple(direction.ranks(heads) for direction in self._directions))
        return self.best == len(self._measured) - 1

    @property
    def best(self) -> int:
        """The number of the measurement that is best on all held-out pairs; 0 is the original space."""
        return self._choice(HALF_A, HALF_B)[0]

    @property
    def is_over(self) -> bool:
        """Whether all choices are final."""
        return all(self._choice(*folds)[1] for folds in ((HALF_A,), (HALF_B,), (HALF_A, HALF_B)))

    def overall(self) -> Interval:
        """Return the mean gain of the new space over the original one, with its interval.

        A pair's gain is the mean over its directions. The bootstrap draws pairs rather than queries, since several
        captions of one picture aren't independent.
        """
        before, after = (np.nanmean(np.stack(rows), axis=0) for rows in (self._before(), self._after()))
        return paired_bootstrap(after, before)

    def gains(self) -> tuple[Gain, ...]:
        """Return the gain in each direction."""
        return tuple(
            Gain(
                direction=direction.name,
                queries=len(direction.queries[1].owners),
                metric=self.metric,
                before=float(np.nanmean(before)),
                after=float(np.nanmean(after)),
                difference=paired_bootstrap(after[~np.isnan(after)], before[~np.isnan(before)]),
            )
            for direction, before, after in zip(self._directions, self._before(), self._after(), strict=True)
        )

    def _choice(self, *folds: int) -> tuple[int, bool]:
        """Return the best measurement by some folds, and whether their patience is exhausted.

        It is chosen by the mean reciprocal rank, which is a finer measure than recall@10.
        """
        curve = []
        for ranks in self._measured:
            values = np.nanmean(np.stack([self._by_pair(n, 1 / rank) for n, rank in enumerate(ranks)]), axis=0)
            curve.append(float(values[np.isin(self.collection.folds[self._held_out], folds)].mean()))
        best = 0
        for number, value in enumerate(curve):
            if value > curve[best]:
                best = number
            elif number - best >= PATIENCE:
                return best, True
        return best, False

    def _before(self) -> list[NDArray[np.float64]]:
        return [self._values(n, self._measured[0][n]) for n in range(len(self._directions))]

    def _after(self) -> list[NDArray[np.float64]]:
        """Return for each direction the held-out pairs' metric, (n,), with the heads that the other half chose."""
        by_a, by_b = self._measured[self._choice(HALF_A)[0]], self._measured[self._choice(HALF_B)[0]]
        values = []
        for n, direction in enumerate(self._directions):
            folds = self.collection.folds[direction.queries[1].owners]
            values.append(self._values(n, np.where(folds == HALF_A, by_b[n], by_a[n])))
        return values

    def _values(self, n: int, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._by_pair(n, (ranks <= _DEPTH).astype(np.float64) if self.metric == "recall@10" else 1 / ranks)

    def _by_pair(self, n: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each held-out pair, (n,), the mean over its queries in a direction, NaN if it has none."""
        position = np.searchsorted(self._held_out, self._directions[n].queries[1].owners)
        counts = np.bincount(position, minlength=len(self._held_out))
        sums = np.bincount(position, values, minlength=len(self._held_out))
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)

    @property
    def _held_out(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.collection.folds != TRAIN)
