"""Trains small heads over frozen towers on the pairs of a library.

The loss for captions and pictures follows MCT (Yuan et al. 2021, arXiv:2104.12836): caption against picture, captions
of one picture against each other, and pairs of one folder as additional positives. The loss for frames and sounds of
clips is that of AVID, later that of CMA with moments that agree in both views as positives (Morgado et al. 2021,
arXiv:2004.12943). A further term keeps the heads close to the identity, so that content without pairs stays as it was.
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

# A good space is best after some fifty steps at a low rate; random towers need a high one. The long warm-up passes
# through all rates from low to high, and early stopping keeps the heads of the best step.
STEPS, WARMUP, LR, EVERY = 800, 400, 3e-3, 20
_BATCH, _MOMENTS = 256, 64
_TEMPERATURE = 0.07
_WITHIN, _TAGS, _KEEP, _ANCHORS = 0.2, 0.2, 1.0, 10.0
"""Weights of the terms, relative to those across views."""
_NEGATIVES, _WITHIN_NEGATIVES, _POSITIVES = 256, 64, 8
_MINED_FROM, _MINED_EVERY = 100, 100
"""The step from which CMA is used, when AVID has had time to align the views, and the interval of mining positives."""
_SAMPLE = 512
"""Number of vectors of a view from which its score distribution is measured."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The trained heads, None if they gained nothing, and their gains on the held-out pairs.

    `background` is the score distribution: mean and standard deviation of the cosines of unrelated held-out vectors.
    """

    heads: Mapping[View, HeadWeights] | None
    overall: Interval
    gains: tuple[Gain, ...]
    background: Mapping[tuple[View, View], tuple[float, float]]


def adapt(collection: Collection, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Outcome:
    """Train heads on the training pairs and measure them on the held-out ones.

    The heads are kept if the whole interval of their gain lies above 0. `progress` is called with the number of steps
    done and their maximum.
    """
    trial = Trial(collection)
    with torch.random.fork_rng(devices=()), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        task = _Task(collection, seed)
        trial.measure(lambda _, vectors: vectors)
        best: Mapping[View, HeadWeights] = {}

        def watch(step: int, _losses: Mapping[str, float]) -> bool:
            nonlocal best
            heads = task.weights()
            if trial.measure(lambda view, vectors: heads[view](vectors)):
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
    """The heads of the views that have pairs, and the losses of their training."""

    positives: Tensor
    """CMA's positives (moments, p): the moments that agree most with each; p is 0 until they are mined."""
    partitions: Tensor
    """NCE's constants Z within frames and within sounds, 0 until they are set; those across views are in the banks."""

    def __init__(self, collection: Collection, seed: int) -> None:
        super().__init__()
        training = collection.folds == TRAIN
        self._captions, self._pictures = collection.captions.of(training), collection.pictures.of(training)
        self._frames, self._sounds = collection.frames.of(training), collection.sounds.of(training)
        self._tags = torch.from_numpy(collection.tags)
        # The captions of picture i are the rows from _first[i] on, _count[i] of them.
        self._first = np.searchsorted(self._captions.owners, self._pictures.owners)
        self._count = np.searchsorted(self._captions.owners, self._pictures.owners, side="right") - self._first
        trained = [View.TEXT] * bool(collection.captioned) + [View.VISUAL] + [View.AUDIO] * bool(collection.sounding)
        self._anchors = [
            torch.from_numpy(rows) for view, rows in collection.anchors.items() if len(rows) and view not in trained
        ]
        self.heads = nn.ModuleDict({view.value: Head(collection.pictures.vectors.shape[1]) for view in trained})
        self.banks = nn.ModuleDict()
        if len(self._frames.owners) > 1:
            for view, side in ((View.VISUAL, self._frames), (View.AUDIO, self._sounds)):
                self.banks[view.value] = _filled_bank(side, seed)
        self.register_buffer("positives", torch.zeros((len(self._frames.owners), 0), dtype=torch.int64))
        self.register_buffer("partitions", torch.zeros(2))
        self._batch: tuple[Tensor, Tensor, Tensor] | None = None  # moments, and the heads' output for both views

    def weights(self) -> Mapping[View, HeadWeights]:
        """Return a copy of the heads' current weights."""
        return {View(view): head.weights() for view, head in self.heads.items() if isinstance(head, Head)}

    def terms(self, step: int, random: np.random.Generator) -> Mapping[str, Tensor]:
        """Return the weighted losses of a step by name."""
        losses: dict[str, Tensor] = {}
        if len(self._pictures.owners) > 1:
            losses |= self._caption_losses(random)
        if len(self.banks):
            losses |= self._moment_losses(random)
        return losses

    def _caption_losses(self, random: np.random.Generator) -> dict[str, Tensor]:
        """Return MCT's losses: captions and pictures, captions of one picture, and pairs of one folder."""
        rows = random.permutation(len(self._pictures.owners))[:_BATCH]
        first = random.integers(0, self._count[rows])
        second = (first + random.integers(1, np.maximum(self._count[rows], 2))) % self._count[rows]
        captions, siblings = (_tensor(self._captions, self._first[rows] + drawn) for drawn in (first, second))
        pictures = _tensor(self._pictures, rows)
        texts, images = self.heads["text"](captions), self.heads["visual"](pictures)
        losses = {"across": contrast(texts, images, _TEMPERATURE)}
        several = torch.from_numpy(self._count[rows] > 1)
        if int(several.sum()) > 1:
            within = contrast(texts[several], self.heads["text"](siblings[several]), _TEMPERATURE)
            losses["captions"] = _WITHIN * within
        tags = self._tags[torch.from_numpy(self._pictures.owners[rows])]
        if bool((tags >= 0).any()):
            bags = F.one_hot(tags.clamp(min=0)).float() * (tags >= 0)[:, None]
            positives = tag_positives(bags, bags, 1.0, own=True)
            losses["tags"] = _TAGS * contrast(texts, images, _TEMPERATURE, positives=positives)
        return losses | {"keep captions": self._keep(texts, captions), "keep pictures": self._keep(images, pictures)}

    def _moment_losses(self, random: np.random.Generator) -> dict[str, Tensor]:
        """Return AVID's losses of frames and sounds; once positives are mined, half of each and CMA's losses."""
        drawn = random.permutation(len(self._frames.owners))[:_MOMENTS]
        rows, generator = torch.from_numpy(drawn), torch.Generator().manual_seed(int(random.integers(2**62)))
        frames, sounds = _tensor(self._frames, drawn), _tensor(self._sounds, drawn)
        adapted = {"visual": self.heads["visual"](frames), "audio": self.heads["audio"](sounds)}
        self._batch = (rows, adapted["visual"].detach(), adapted["audio"].detach())
        positives = self.positives[rows]
        mined = positives.shape[1] > 0
        losses = {
            "keep frames": self._keep(adapted["visual"], frames),
            "keep sounds": self._keep(adapted["audio"], sounds),
        }
        for n, (view, other) in enumerate((("visual", "audio"), ("audio", "visual"))):
            own, bank, vectors = self._bank(view), self._bank(other), adapted[view]
            negatives = bank.negatives(rows, _NEGATIVES, generator, exclude=positives if mined else None)
            if not float(bank.partition):
                bank.partition.copy_(partition(vectors, negatives, _TEMPERATURE))
            across = noise_contrastive(vectors, bank.entries(rows), negatives, _TEMPERATURE, bank.partition)
            losses[f"{view}→{other}"] = across * (0.5 if mined else 1.0)
            if mined:
                negatives = own.negatives(rows, _WITHIN_NEGATIVES, generator, exclude=positives)
                if not float(self.partitions[n]):
                    self.partitions[n] = partition(vectors, negatives, _TEMPERATURE)
                within = noise_contrastive(vectors, own.entries(positives), negatives, _TEMPERATURE, self.partitions[n])
                losses[f"{view} agreeing"] = within * 0.5
        return losses

    def _keep(self, adapted: Tensor, original: Tensor) -> Tensor:
        """Return the loss that keeps a head close to the identity and the scores with anchors unchanged."""
        loss = _KEEP * cosine_distance(adapted, original)
        for anchors in self._anchors:
            loss = loss + _ANCHORS * F.mse_loss(adapted @ anchors.T, original @ anchors.T)
        return loss

    def stepped(self, step: int) -> None:
        """Update the memory banks with the batch's vectors, and mine positives at regular intervals."""
        if self._batch is None:
            return
        rows, frames, sounds = self._batch
        visual, audio = self._bank("visual"), self._bank("audio")
        visual.update(rows, frames)
        audio.update(rows, sounds)
        if step + 1 >= _MINED_FROM and (step + 1 - _MINED_FROM) % _MINED_EVERY == 0:
            # At most a quarter of the moments are positives, so that three quarters are left as negatives.
            count = min(_POSITIVES, (len(visual) - 1) // 4)
            self.positives = mine_positives(visual.memory, audio.memory, count)

    def _bank(self, view: str) -> MemoryBank:
        bank = self.banks[view]
        assert isinstance(bank, MemoryBank)
        return bank


def _filled_bank(side: Side, seed: int) -> MemoryBank:
    """Return a bank that is filled with the original vectors, which are a better start than random ones."""
    bank = MemoryBank(len(side.owners), side.vectors.shape[1], seed)
    bank.update(torch.arange(len(bank)), torch.from_numpy(side.vectors), momentum=0.0)
    return bank


def _tensor(side: Side, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(side.vectors[rows])


def _backgrounds(
    collection: Collection, heads: Mapping[View, HeadWeights]
) -> dict[tuple[View, View], tuple[float, float]]:
    """Return mean and standard deviation of the cosines of held-out vectors of different pairs, by their two views."""
    held_out = collection.folds != TRAIN
    sides = {View.TEXT: collection.captions, View.VISUAL: collection.pictures, View.AUDIO: collection.sounds}
    if not collection.captioned:
        sides[View.VISUAL] = collection.frames
    random = np.random.default_rng(0)
    samples: dict[View, tuple[Vectors, NDArray[np.int64]]] = {}
    for view, side in sides.items():
        available = side.of(held_out)
        rows = random.permutation(len(available.owners))[:_SAMPLE]
        if view in heads and len(rows):
            samples[view] = heads[view](available.vectors[rows]), available.owners[rows]
    distributions = {}
    for first, second in combinations_with_replacement(sorted(samples), 2):
        (left, left_owners), (right, right_owners) = samples[first], samples[second]
        cosines = (left @ right.T)[left_owners[:, None] != right_owners[None, :]]
        if len(cosines) > 1 and float(cosines.std()) > 0:
            distributions[first, second] = float(cosines.mean()), float(cosines.std())
    return distributions
