"""Units → batches: which examples, which view of a picture or a sound, which caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsearch.errors import UsageError
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.onnx import pad
from mmsearch.spaces.pieces import Pieces
from mmsearch.training.augment import HEARD_S, CodeSwitch, beginning, crop
from mmsearch.training.kinds import Kinds
from mmsearch.training.recipe import StageRecipe
from mmsearch.training.sources import Examples
from mmsearch.training.store import RATE_HZ, Store
from mmsearch.training.taught import Targets

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's pixels, 0 to 255: what most towers of pictures are given."""
_TAG_SHARE = 0.25
"""How often the tag speaks for an example that has captions, too."""


@dataclass(slots=True)
class Material:
    """Everything that stages draw from. `sentences` (texts, dim) are the sentence teacher's vectors."""

    examples: Examples
    store: Store
    targets: Mapping[str, Targets]
    sentences: NDArray[np.float32] | None
    tokens: Tokens | Pieces | None
    switch: CodeSwitch
    frozen: dict[str, NDArray[Any]] = field(default_factory=dict)
    """By tower: the vectors of a frozen tower, for all pictures (view 0), sounds or texts; of a grown one what its
    network says of all views of these."""
    kinds: Kinds | None = None
    """What the network of a grown picture tower can tell, where a source names it."""

    def tokenised(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (n, t) and which of them count, padded to the longest."""
        if self.tokens is None:
            raise UsageError("the recipe trains a text tower, but has no tokenizer; name one")
        ids, mask = pad([self.tokens(text) for text in texts], 0, 0)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def pixels(self, rows: NDArray[np.int64], views: NDArray[np.int64], side: int) -> Tensor:
        """Return views of pictures, (n, 3, side, side) float32, after mean and deviation."""
        crops = [crop(self.store.pixels[r], r, v, side) for r, v in zip(rows.tolist(), views.tolist(), strict=True)]
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
        mean, deviation = torch.tensor(MEAN)[:, None, None], torch.tensor(DEVIATION)[:, None, None]
        return (pixels - mean) / deviation

    def waves(self, rows: NDArray[np.int64], seconds: float) -> Tensor:
        """Return how sounds begin, (n, samples); one that is too short is repeated."""
        length = int(seconds * RATE_HZ)
        return torch.from_numpy(np.stack([beginning(self.store.wave(row), length) for row in rows.tolist()]))

    def heard(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        """Return views of sounds, (n, samples) float32; of view 0, the beginning."""
        some = [self.store.hear(row, view) for row, view in zip(rows.tolist(), views.tolist(), strict=True)]
        return torch.from_numpy(np.stack([beginning(wave, int(HEARD_S * RATE_HZ)) for wave in some]))

    def layer(self, side: str, rows: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        """Return what a teacher's inner layer says of pictures or sounds, (n, width) float32."""
        return torch.from_numpy(np.asarray(self.targets[side].layer[self.places(side, rows, views)], np.float32))

    def places(self, side: str, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of a teacher's targets."""
        return np.asarray((self.store.first_view if side == "image" else self.store.first_hearing)[rows] + views)


@dataclass(slots=True)
class Batch:
    """A drawn batch. Rows are −1 where a unit has none."""

    units: NDArray[np.int64]
    examples: NDArray[np.int64]
    tags: NDArray[np.int64]
    folds: NDArray[np.int64]
    pictures: NDArray[np.int64]
    views: NDArray[np.int64]
    sounds: NDArray[np.int64]
    hearings: NDArray[np.int64]
    texts: NDArray[np.int64]
    words: list[str]
    """What each unit's text says, code-switched or not; empty where it has none."""
    blend: tuple[NDArray[np.int64], float] | None
    """Which unit is blended into each, and how much of its own stays."""

    def has(self, side: str) -> NDArray[np.bool_]:
        """Return which units have a picture, a sound or a text."""
        rows = {"image": self.pictures, "sound": self.sounds, "text": self.texts}[side]
        return np.asarray(rows >= 0)

    def shown(self, side: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of the pictures or sounds that units have, and their views."""
        has = self.has(side)
        rows, views = (self.pictures, self.views) if side == "image" else (self.sounds, self.hearings)
        return rows[has], views[has]


class Draw:
    """Draws the batches of a stage; the same step of the same seed draws the same."""

    def __init__(self, material: Material, stage: StageRecipe) -> None:
        self._material, self._stage = material, stage
        units, rows = material.store.units, material.examples.rows
        by_source: dict[str, list[int]] = {}
        for number, unit in enumerate(units):
            row = rows[unit.example]
            if not row.held:
                by_source.setdefault(material.examples.sources[row.source].name, []).append(number)
        made = {source.name for source in material.examples.sources if source.is_made}
        mix = stage.mix or {name: float(len(found)) for name, found in by_source.items() if name not in made}
        if missing := [name for name in mix if name not in by_source]:
            raise UsageError(
                f"stage {stage.name} draws from {missing[0]}, of which all is held out or can't be decoded; mend it"
            )
        self._pools = [np.asarray(by_source[name]) for name in mix]
        self._shares = np.asarray(list(mix.values())) / sum(mix.values())

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """All units that are drawn from."""
        return np.concatenate(self._pools)

    def __call__(self, random: np.random.Generator) -> Batch:
        """Return a batch."""
        counts = random.multinomial(self._stage.batch, self._shares)
        chosen = np.concatenate(
            [random.choice(pool, n, replace=n > len(pool)) for pool, n in zip(self._pools, counts, strict=True) if n]
        )
        blended = random.random() < self._stage.mixup
        share = float(np.clip(random.beta(0.8, 0.8), 0.1, 0.9))
        return self.of(chosen, random, blend=(random.permutation(len(chosen)), share) if blended else None)

    def of(
        self,
        chosen: NDArray[np.int64],
        random: np.random.Generator,
        blend: tuple[NDArray[np.int64], float] | None = None,
    ) -> Batch:
        """Return a batch of these units, with views and captions drawn anew."""
        material = self._material
        units = [material.store.units[number] for number in chosen.tolist()]
        rows = [material.examples.rows[unit.example] for unit in units]
        pictures = np.asarray([random.choice(unit.pictures) if unit.pictures else -1 for unit in units])
        views = np.asarray([random.integers(material.store.views[p]) if p >= 0 else 0 for p in pictures.tolist()])
        sounds = np.asarray([unit.sound for unit in units])
        hearings = np.asarray([self._hearing(s, random) for s in sounds.tolist()])
        texts = [self._text(row.texts, row.tag, random) for row in rows]
        return Batch(
            chosen,
            np.asarray([unit.example for unit in units]),
            np.asarray([row.tag for row in rows]),
            np.asarray([row.fold for row in rows]),
            pictures,
            views,
            sounds,
            hearings,
            np.asarray(texts),
            [self._say(text, random) for text in texts],
            blend,
        )

    def _hearing(self, sound: int, random: np.random.Generator) -> int:
        """Return a view of a sound: view 0, which is of any length, where there is no other."""
        many = int(self._material.store.hearings[sound]) if sound >= 0 else 1
        return int(random.integers(1, many)) if many > 1 else 0

    def _text(self, own: Sequence[int], tag: int, random: np.random.Generator) -> int:
        said = self._material.examples.tag_texts[tag] if tag >= 0 else ()
        pool = said if said and (not own or random.random() < _TAG_SHARE) else own
        if pool and self._stage.english:
            pool = self._of_a_language(pool, random)
        return int(random.choice(pool)) if pool else -1

    def _of_a_language(self, rows: Sequence[int], random: np.random.Generator) -> Sequence[int]:
        """Return those of some texts that are in one language: English, as often as the stage says, else another."""
        by_language: dict[str, list[int]] = {}
        for row in rows:
            by_language.setdefault(self._material.examples.texts[row].language, []).append(row)
        others = [language for language in by_language if language != "en"]
        if not others or ("en" in by_language and random.random() < self._stage.english):
            return by_language["en"]
        shares = np.sqrt([len(by_language[language]) for language in others])
        return by_language[others[int(random.choice(len(others), p=shares / shares.sum()))]]

    def _say(self, row: int, random: np.random.Generator) -> str:
        if row < 0:
            return ""
        text = self._material.examples.texts[row]
        return self._material.switch(text.words, text.language, self._stage.switch, random)


def make_tokens(file: Path, longest: int) -> Tokens:
    """Return the front end of a text tower."""
    return Tokens(file, longest)
