"""What the towers of a stage say of one batch, each asked once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as fn

from mmsearch.training.batch import Batch, Material
from mmsearch.training.recipe import TowerRecipe

Towers = Mapping[str, Any]
"""By name: modules with `features` and `project`."""
_READ = 64
"""How many texts of similar length are read together."""


class Look:
    """Feeds towers with batches, on the device that they are on. `trained` are the names of those that need gradients.

    `precision` bf16 computes features and projections in half precision; what follows, losses above all, is float32.
    """

    def __init__(
        self,
        material: Material,
        recipes: Mapping[str, TowerRecipe],
        trained: Collection[str] = (),
        precision: str = "fp32",
        device: str = "cpu",
    ) -> None:
        self.material, self.recipes, self.trained = material, recipes, frozenset(trained)
        self._half, self.device = precision == "bf16", device

    def side(self, name: str) -> str:
        """Return what a tower looks at: image, sound or text."""
        return self.recipes[name].of or name

    def features(self, tower: Any, name: str, batch: Batch) -> Tensor:  # noqa: ANN401
        """Return the layer before the projection, (m, width), for the m units that have the tower's side."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and name in self.trained):
            if self.recipes[name].kind == "text":
                return self._read(tower, batch)
            return self._run(tower, self._inputs(name, batch))

    def project(self, tower: Any, features: Tensor) -> Tensor:  # noqa: ANN401
        """Return what a tower makes of its features, (m, dim) float32, L2-normalised rows."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self._half):
            projected = tower.project(features)
        return fn.normalize(projected.float(), dim=1)

    def _run(self, tower: Any, inputs: tuple[Tensor, ...]) -> Tensor:  # noqa: ANN401
        with torch.autocast(self.device, torch.bfloat16, enabled=self._half):
            return torch.as_tensor(tower.features(*(one.to(self.device) for one in inputs))).float()

    def _read(self, tower: Any, batch: Batch) -> Tensor:  # noqa: ANN401
        """Return the features of a batch's texts, read by length: padding all to the longest would triple the work."""
        words = [words for words, kept in zip(batch.words, batch.has("text"), strict=True) if kept]
        order = np.argsort([len(text) for text in words], kind="stable")
        parts = [order[start : start + _READ] for start in range(0, len(order), _READ)]
        read = [self._run(tower, self.material.tokenised([words[n] for n in part])) for part in parts]
        return torch.cat(read)[torch.from_numpy(np.argsort(order, kind="stable"))]

    def _inputs(self, name: str, batch: Batch) -> tuple[Tensor, ...]:
        material, side, recipe = self.material, self.side(name), self.recipes[name]
        has = batch.has(side)
        if recipe.kind == "frozen":
            rows = {"image": batch.pictures, "sound": batch.sounds, "text": batch.texts}[side][has]
            return (torch.from_numpy(np.asarray(material.frozen[name][rows], np.float32)),)
        if recipe.kind == "grown":
            rows = batch.texts[has] if side == "text" else material.places(side, *batch.shown(side))
            said = torch.from_numpy(np.asarray(material.frozen[name][rows], np.float32))
            return (blended(said, batch, side),)
        match side:
            case "sound" if recipe.kind == "sound":
                return (blended(material.heard(*batch.shown(side)), batch, side),)
            case "image" if recipe.kind == "image":
                pixels = material.pixels(*batch.shown(side), recipe.side)
                return (blended(pixels, batch, side).contiguous(memory_format=torch.channels_last),)
            case _:
                return self.layer(side, batch), torch.from_numpy(batch.folds[has])

    def layer(self, side: str, batch: Batch) -> Tensor:
        """Return what a side's teacher has in its inner layer, (m, width)."""
        return self.material.layer(side, *batch.shown(side)).to(self.device)

    def believed(self, side: str, batch: Batch) -> Tensor:
        """Return what a side's teacher believes of all of its classes, (m, classes), rows of sum 1."""
        targets, rows = self.material.targets[side], self.material.places(side, *batch.shown(side))
        dense = torch.zeros(len(rows), len(targets.names))
        dense.scatter_(1, torch.from_numpy(targets.classes[rows]), torch.from_numpy(targets.believed[rows]))
        return (dense / dense.sum(1, keepdim=True).clamp(min=1e-6)).to(self.device)


def blended(values: Tensor, batch: Batch, side: str) -> Tensor:
    """Blend the rows of a side in pairs where a batch says so (mixup, Zhang et al. 2018, arXiv:1710.09412)."""
    if batch.blend is None or side == "text":
        return values
    partner, share = batch.blend
    has = batch.has(side)
    place = np.cumsum(has) - 1
    other = np.where(has[partner], place[partner], place)[has]
    return share * values + (1.0 - share) * values[torch.from_numpy(other)]


class Outputs:
    """What the towers say of a batch; `again` draws the same units anew."""

    def __init__(self, look: Look, towers: Towers, slow: Towers, batch: Batch, again: Callable[[], Batch]) -> None:
        self.look, self.batch = look, batch
        self._towers, self._slow, self._again = towers, slow, again
        self._kept: dict[tuple[str, str], Tensor] = {}
        self._other: Outputs | None = None

    @property
    def other(self) -> Outputs:
        """The same units with other views and captions."""
        if self._other is None:
            self._other = Outputs(self.look, self._towers, self._slow, self._again(), self._again)
        return self._other

    def has(self, name: str) -> Tensor:
        """Return which units a tower has something to look at for, (n,) bool."""
        return torch.from_numpy(self.batch.has(self.look.side(name))).to(self.look.device)

    @property
    def ids(self) -> Tensor:
        """The example of each unit, (n,) int64."""
        return torch.from_numpy(self.batch.examples).to(self.look.device)

    @property
    def tags(self) -> Tensor:
        """The tag of each unit, (n,) int64, -1 for none."""
        return torch.from_numpy(self.batch.tags).to(self.look.device)

    def features(self, name: str) -> Tensor:
        """Return the layer before the projection, (m, width)."""
        return self._keep("features", name, lambda: self.look.features(self._towers[name], name, self.batch))

    def embedded(self, name: str) -> Tensor:
        """Return (m, dim), L2-normalised rows."""

        def embed() -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and name in self.look.trained):
                return self.look.project(self._towers[name], self.features(name))

        return self._keep("embedded", name, embed)

    def key(self, name: str) -> Tensor:
        """Return (m, dim) by the slow encoder of a tower, without a gradient."""

        def embed() -> Tensor:
            with torch.no_grad():
                slow = self._slow[name]
                return self.look.project(slow, self.look.features(slow, name, self.batch))

        return self._keep("key", name, embed)

    def among(self, name: str, units: Tensor) -> Tensor:
        """Return which rows of a tower's outputs are of these units, (n,) bool."""
        return units[self.has(name)]

    def _keep(self, what: str, name: str, make: Callable[[], Tensor]) -> Tensor:
        if (what, name) not in self._kept:
            self._kept[what, name] = make()
        return self._kept[what, name]
