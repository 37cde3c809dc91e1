"""Towers that stay as they are: a model's vectors of all examples, on which small heads are trained.

A head that is shared by two towers is the bridge between models: trained on what CLAP and open_clip make of the same
texts, it takes CLAP's sounds into open_clip's space, since CLAP's texts and sounds are in one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from mmsearch.errors import ModelError, UsageError
from mmsearch.spaces import Adapted, AdaptedSpace, OnnxSpace, Space, embed, load_profile, normalise
from mmsearch.training.batch import Material
from mmsearch.training.heads import Head
from mmsearch.training.recipe import Recipe, TowerRecipe
from mmsearch.training.store import RATE_HZ, keep
from mmsearch.types import View

VIEWS = {"image": View.VISUAL, "text": View.TEXT, "sound": View.AUDIO}
_AT_ONCE = 256


def freeze(name: str, tower: TowerRecipe, material: Material) -> NDArray[np.float32]:
    """Return what a frozen tower makes of all pictures, sounds or texts, (n, in); kept for the next run."""
    side = tower.of or name
    space = _base(tower)
    if VIEWS[side] not in space.front_ends:
        raise UsageError(f"{tower.model} has no tower for {side}s, but the recipe's {name} stands on it")
    texts = "\n".join(text.words for text in material.examples.texts) if side == "text" else ""
    key = hashlib.blake2b(f"{space.fingerprint} {side} {texts}".encode("utf-8", "replace"), digest_size=8).hexdigest()
    file = material.store.folder / f"frozen-{key}.npy"
    if not file.is_file():
        keep(file, _embed(space, side, material))
    return np.asarray(np.load(file), np.float32)


def _base(tower: TowerRecipe) -> Space:
    """Return the space that a frozen tower is of; it hears at the rate at which sounds are stored."""
    space = load_profile(tower.model).spaces[0]
    if isinstance(space, OnnxSpace | AdaptedSpace):
        space.set_sample_rate(RATE_HZ)
    return space


def _embed(space: Space, side: str, material: Material) -> NDArray[np.float32]:
    store, view = material.store, VIEWS[side]
    many = {"image": len(store.pixels), "sound": len(store.bounds) - 1, "text": len(material.examples.texts)}[side]

    def payload(row: int) -> Any:  # noqa: ANN401  what a front end takes
        match side:
            case "image":
                return Image.fromarray(store.pixels[row])
            case "sound":
                return store.wave(row)
            case _:
                return material.examples.texts[row].words

    found = [np.zeros((0, space.dim), np.float32)]
    for start in range(0, many, _AT_ONCE):
        found.append(embed(space, view, [payload(row) for row in range(start, min(start + _AT_ONCE, many))]))
    return np.concatenate(found)


def write_heads(recipe: Recipe, towers: nn.ModuleDict, material: Material, folder: Path) -> None:
    """Write the space that heads on frozen towers make."""
    own = {name: tower for name, tower in recipe.towers.items() if name in VIEWS}
    heads = {VIEWS[name]: _head(towers[name]).weights() for name in own}
    vectors = {VIEWS[name]: heads[VIEWS[name]](normalise(material.frozen[name][: 2 * _AT_ONCE])) for name in own}
    Adapted(
        bases={VIEWS[name]: _base(tower) for name, tower in own.items()},
        profile=next(iter(own.values())).model,
        heads=heads,
        background=_background(vectors),
        gained={},
    ).write_to(folder)


def _head(module: nn.Module) -> Head:
    if not isinstance(module, Head):
        raise ModelError("a frozen tower has a head and nothing else")
    return module


def _background(vectors: Mapping[View, NDArray[np.float32]]) -> dict[tuple[View, View], tuple[float, float]]:
    found = {}
    for one, left in vectors.items():
        for other, right in vectors.items():
            cosines = (left @ right.T)[~np.eye(len(left), len(right), dtype=bool)]
            if cosines.size:
                found[one, other] = (float(cosines.mean()), float(cosines.std()))
    return found
