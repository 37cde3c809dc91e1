"""Adapting a space to a collection: frozen towers, small heads, and what the collection's own pairs say.

Captions and pictures are contrasted as in MCT (Yuan et al. 2021, arXiv:2104.12836): across, within several captions
of one picture, and with those of a folder as positives too. Pictures and sounds of clips are told apart as in AVID,
and clips that agree in both are drawn together as in CMA (Morgado et al. 2021, arXiv:2004.12943). Another term keeps
heads near the identity: what pairs don't tell of should stay as it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.adaptation.early_stopping import Trial
from mmsearch.adaptation.pairs import TRAIN, Collection, Side
from mmsearch.metrics import Interval
from mmsearch.spaces import HeadWeights, Vectors
from mmsearch.training.heads import Head
from mmsearch.training.loop import Schedule, train
from mmsearch.training.losses import contrast, cosine_distance, noise_contrastive, partition, tag_positives
from mmsearch.training.memory import MemoryBank, mine_positives
from mmsearch.types import Gain, View

# Warming up for so long, the rate passes all that is slow enough for a good space, which is best after some fifty
# steps, before it comes to what random towers want; the early stop takes the heads of the right moment.
STEPS, WARMUP, LR, EVERY = 800, 400, 3e-3, 20
_BATCH, _MOMENTS = 256, 64
_TEMPERATURE = 0.07
_WITHIN, _TAGS, _KEEP, _ANCHORS = 0.2, 0.2, 1.0, 10.0
"""How much the terms weigh beside those across views."""
_NEGATIVES, _WITHIN_NEGATIVES, _POSITIVES = 256, 64, 8
_MINED_FROM, _MINED_EVERY = 100, 100
"""CMA begins when AVID has found its way, and looks again for who agrees."""
_SAMPLE = 512
"""How many vectors of a view its background is measured by."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The heads that were found, None where nothing was gained, and what they gained on the held-out pairs.

    `background` is mean and standard deviation of the cosines of unrelated held-out vectors.
    """

    heads: Mapping[View, HeadWeights] | None
    overall: Interval
    gains: tuple[Gain, ...]
    background: Mapping[tuple[View, View], tuple[float, float]]


def adapt(collection: Collection, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Outcome:
    """Train heads on the pairs that weren't held out, and judge them by those that were.

    They are taken if the interval of what they gain there lies above 0. `progress` is told steps done of at most all.
    """
    trial = Trial(collection)
    with torch.random.fork_rng(devices=()), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        task = _Task(collection, seed)
        trial.look(lambda _, vectors: vectors)
        best: Mapping[View, HeadWeights] = {}

        def watch(step: int, _losses: Mapping[str, float]) -> bool:
            nonlocal best
            heads = task.weights()
            if trial.look(lambda view, vectors: heads[view](vectors)):
                best = heads
            if progress:
                progress(step, STEPS)
            return trial.is_over

        schedule = Schedule(STEPS, LR, WARMUP, seed=seed, checkpoint_s=float("inf"), log_every=EVERY)
        train(task, schedule, Path(folder), "adapt", watch)
    overall = trial.overall()
    gained = bool(best) and overall.low > 0
    return Outcome(best if gained else None, overall, trial.gains(), _backgrounds(collection, best) if gained else {})


class _Task(nn.Module):
    """The heads of the views that have pairs, and what a step of their training lowers."""

    positives: Tensor
    """(moments, p), CMA's: the moments that agree most with each; p is 0 until they are mined."""
    partitions: Tensor
    """Z among pictures and among sounds, 0 is not yet set; those across views are the banks' own."""

    def __init__(self, collection: Collection, seed: int) -> None:
        super().__init__()
        training = collection.folds == TRAIN
        self._words, self._pictures = collection.words.of(training), collection.pictures.of(training)
        self._seen, self._heard = collection.seen.of(training), collection.heard.of(training)
        self._tags = torch.from_numpy(collection.tags)
        self._first = np.searchsorted(self._words.owners, self._pictures.owners)  # of each picture's sentences
        self._count = np.searchsorted(self._words.owners, self._pictures.owners, side="right") - self._first
        moved = [View.TEXT] * bool(collection.captioned) + [View.VISUAL] + [View.AUDIO] * bool(collection.sounding)
        self._anchors = [
            torch.from_numpy(some) for view, some in collection.anchors.items() if len(some) and view not in moved
        ]
        self.heads = nn.ModuleDict({view.value: Head(collection.pictures.vectors.shape[1]) for view in moved})
        self.banks = nn.ModuleDict()
        if len(self._seen.owners) > 1:
            for view, side in ((View.VISUAL, self._seen), (View.AUDIO, self._heard)):
                self.banks[view.value] = _filled_bank(side, seed)
        self.register_buffer("positives", torch.zeros((len(self._seen.owners), 0), dtype=torch.int64))
        self.register_buffer("partitions", torch.zeros(2))
        self._batch: tuple[Tensor, Tensor, Tensor] | None = None  # moments, and what they were moved to

    def weights(self) -> Mapping[View, HeadWeights]:
        """Return the heads as they are."""
        return {View(view): head.weights() for view, head in self.heads.items() if isinstance(head, Head)}

    def terms(self, step: int, random: np.random.Generator) -> Mapping[str, Tensor]:
        """Return the losses of a step, each with its weight in it."""
        found: dict[str, Tensor] = {}
        if len(self._pictures.owners) > 1:
            found |= self._captions(random)
        if len(self.banks):
            found |= self._moments(random)
        return found

    def _captions(self, random: np.random.Generator) -> dict[str, Tensor]:
        """MCT: captions and pictures, captions among themselves, and what one folder holds."""
        rows = random.permutation(len(self._pictures.owners))[:_BATCH]
        drawn = random.integers(0, self._count[rows])
        other = (drawn + random.integers(1, np.maximum(self._count[rows], 2))) % self._count[rows]
        words, again = (_tensor(self._words, self._first[rows] + one) for one in (drawn, other))
        pictures = _tensor(self._pictures, rows)
        said, shown = self.heads["text"](words), self.heads["visual"](pictures)
        found = {"across": contrast(said, shown, _TEMPERATURE)}
        several = torch.from_numpy(self._count[rows] > 1)
        if int(several.sum()) > 1:
            within = contrast(said[several], self.heads["text"](again[several]), _TEMPERATURE)
            found["captions"] = _WITHIN * within
        tags = self._tags[torch.from_numpy(self._pictures.owners[rows])]
        if bool((tags >= 0).any()):
            bags = F.one_hot(tags.clamp(min=0)).float() * (tags >= 0)[:, None]
            alike = tag_positives(bags, bags, 1.0, own=True)
            found["tags"] = _TAGS * contrast(said, shown, _TEMPERATURE, positives=alike)
        return found | {"keep words": self._keep(said, words), "keep pictures": self._keep(shown, pictures)}

    def _moments(self, random: np.random.Generator) -> dict[str, Tensor]:
        """AVID: the picture and the sound of a moment; from the first mining on, CMA: moments that agree in both."""
        drawn = random.permutation(len(self._seen.owners))[:_MOMENTS]
        rows, generator = torch.from_numpy(drawn), torch.Generator().manual_seed(int(random.integers(2**62)))
        seen, heard = _tensor(self._seen, drawn), _tensor(self._heard, drawn)
        moved = {"visual": self.heads["visual"](seen), "audio": self.heads["audio"](heard)}
        self._batch = (rows, moved["visual"].detach(), moved["audio"].detach())
        alike = self.positives[rows]
        mined = alike.shape[1] > 0
        found = {"keep seen": self._keep(moved["visual"], seen), "keep heard": self._keep(moved["audio"], heard)}
        for n, (view, other) in enumerate((("visual", "audio"), ("audio", "visual"))):
            own, bank = self._bank(view), self._bank(other)
            wrong = bank.negatives(rows, _NEGATIVES, generator, exclude=alike if mined else None)
            if not float(bank.partition):
                bank.partition.copy_(partition(moved[view], wrong, _TEMPERATURE))
            across = noise_contrastive(moved[view], bank.entries(rows), wrong, _TEMPERATURE, bank.partition)
            found[f"{view}→{other}"] = across * (0.5 if mined else 1.0)
            if mined:
                wrong = own.negatives(rows, _WITHIN_NEGATIVES, generator, exclude=alike)
                if not float(self.partitions[n]):
                    self.partitions[n] = partition(moved[view], wrong, _TEMPERATURE)
                within = noise_contrastive(moved[view], own.entries(alike), wrong, _TEMPERATURE, self.partitions[n])
                found[f"{view} agreeing"] = within * 0.5
        return found

    def _keep(self, moved: Tensor, before: Tensor) -> Tensor:
        """Hold a head near the identity, and what it gives as near to the views without a pair as it was."""
        kept = _KEEP * cosine_distance(moved, before)
        for anchors in self._anchors:
            kept = kept + _ANCHORS * F.mse_loss(moved @ anchors.T, before @ anchors.T)
        return kept

    def stepped(self, step: int) -> None:
        """Remember a batch's moments as they were moved, and from time to time look for who agrees."""
        if self._batch is None:
            return
        rows, seen, heard = self._batch
        visual, audio = self._bank("visual"), self._bank("audio")
        visual.update(rows, seen)
        audio.update(rows, heard)
        if step + 1 >= _MINED_FROM and (step + 1 - _MINED_FROM) % _MINED_EVERY == 0:
            # Three of four stay, from which negatives are drawn.
            count = min(_POSITIVES, (len(visual) - 1) // 4)
            self.positives = mine_positives(visual.memory, audio.memory, count)

    def _bank(self, view: str) -> MemoryBank:
        bank = self.banks[view]
        assert isinstance(bank, MemoryBank)
        return bank


def _filled_bank(side: Side, seed: int) -> MemoryBank:
    """Return a bank that begins with the old space's vectors: they mean something already."""
    bank = MemoryBank(len(side.owners), side.vectors.shape[1], seed)
    bank.update(torch.arange(len(bank)), torch.from_numpy(side.vectors), momentum=0.0)
    return bank


def _tensor(side: Side, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(side.vectors[rows])


def _backgrounds(
    collection: Collection, heads: Mapping[View, HeadWeights]
) -> dict[tuple[View, View], tuple[float, float]]:
    """Return mean and standard deviation of the cosines of held-out vectors that aren't of one pair."""
    held = collection.folds != TRAIN
    sides = {View.TEXT: collection.words, View.VISUAL: collection.pictures, View.AUDIO: collection.heard}
    if not collection.captioned:
        sides[View.VISUAL] = collection.seen
    random = np.random.default_rng(0)
    some: dict[View, tuple[Vectors, NDArray[np.int64]]] = {}
    for view, side in sides.items():
        mine = side.of(held)
        rows = random.permutation(len(mine.owners))[:_SAMPLE]
        if view in heads and len(rows):
            some[view] = heads[view](mine.vectors[rows]), mine.owners[rows]
    found = {}
    for one, other in combinations_with_replacement(sorted(some), 2):
        (left, left_owners), (right, right_owners) = some[one], some[other]
        cosines = (left @ right.T)[left_owners[:, None] != right_owners[None, :]]
        if len(cosines) > 1 and float(cosines.std()) > 0:
            found[one, other] = float(cosines.mean()), float(cosines.std())
    return found
