"""Heads on frozen towers: recipes over models that stay as they are, and the bridge from one model to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from support.small_clap import make_clap
from support.small_clip import FAMILIES, make_clip

import mmsearch
from mmsearch.errors import UsageError
from mmsearch.spaces import AdaptedSpace, embed, load_profile
from mmsearch.training.run import train_recipe
from mmsearch.types import View

THINGS = ("red door", "blue sea", "old bell", "quiet rain", "loud engine", "small dog", "green hill", "night train")
BRIDGE = """
name = "bridged"
dim = {dim}
held = 0
stored = 32

[towers.image]
kind = "frozen"
model = "{clip}"

[towers.text]
kind = "frozen"
model = "{clip}"

[towers.sound]
kind = "frozen"
model = "{clap}"

[towers.bridge]
kind = "frozen"
of = "text"
model = "{clap}"
shares = "sound"

[[data]]
kind = "folders"
path = "media"
prompts = ["{{}}", "the sound of a {{}}", "a photo of a {{}}", "{{}} at noon", "one {{}} more"]

[[stage]]
name = "bridge"
train = ["sound", "bridge"]
steps = 250
batch = 16
lr = 1e-2

[[stage.terms]]
kind = "match"
of = "bridge"
to = "text"

[[stage.terms]]
kind = "contrast"
between = ["bridge", "text"]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small random open_clip and a small random CLAP."""
    clip = make_clip(tmp_path_factory.mktemp("clip"), next(iter(FAMILIES)))
    return clip, make_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def recipe(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bridge")
    random = np.random.default_rng(0)
    for n, thing in enumerate(THINGS):
        (folder / "media" / thing).mkdir(parents=True)
        Image.new("RGB", (40, 40), tuple(random.integers(0, 255, 3).tolist())).save(
            folder / "media" / thing / f"{n}.png"
        )
        tone = 0.3 * np.sin(2 * np.pi * 200 * (n + 1) * np.arange(24_000) / 16_000)
        soundfile.write(folder / "media" / thing / f"{n}.wav", tone.astype(np.float32), 16_000)
    clip, clap = models
    file = folder / "bridge.toml"
    file.write_text(BRIDGE.format(dim=load_profile(clip).spaces[0].dim, clip=clip, clap=clap), "utf-8")
    return file


def test_the_bridge_takes_claps_sounds_into_an_open_clip_space_through_texts_that_both_embed(
    recipe: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    lines: list[str] = []
    folder = train_recipe(recipe, tmp_path / "space", lines.append)
    space = load_profile(folder).spaces[0]
    assert isinstance(space, AdaptedSpace)
    clip, clap = (load_profile(model).spaces[0] for model in models)
    assert (space.dim, set(space.front_ends)) == (clip.dim, {View.TEXT, View.VISUAL, View.AUDIO})

    texts = list(THINGS)
    wanted, known = (embed(one, View.TEXT, texts) for one in (clip, clap))
    bridged = space.head(View.AUDIO, known)
    assert (bridged * wanted).sum(axis=1).mean() > 0.8
    assert (bridged @ wanted.T).argmax(axis=1).tolist() == list(range(len(texts)))

    wave = 0.3 * np.sin(np.arange(16_000) / 9).astype(np.float32)
    heard = embed(space, View.AUDIO, [wave])
    assert heard.shape == (1, clip.dim)
    picture = Image.new("RGB", (50, 50), (10, 200, 30))
    same = (embed(space, View.VISUAL, [picture]) * embed(clip, View.VISUAL, [picture])).sum()
    assert same == pytest.approx(1.0, abs=1e-5), "what wasn't trained is as it was"


def test_a_library_can_be_searched_in_a_bridged_space(recipe: Path, tmp_path: Path) -> None:
    folder = train_recipe(recipe, tmp_path / "space", lambda _: None)
    with mmsearch.open(tmp_path / "library", model=folder) as library:
        assert library.index(recipe.parent / "media").failed == 0
        hits = library.query("quiet rain", k=5, modalities={"audio"})
    assert {hit.modality for hit in hits} == {"audio"}
    assert len(hits) == 5


def test_heads_come_with_a_model_card_that_says_what_they_stand_on_and_know(
    recipe: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    some = recipe.parent / "held.toml"
    words = recipe.read_text("utf-8").replace("steps = 250", "steps = 2").replace("held = 0", "held = 2")
    some.write_text(words, "utf-8")
    card = (train_recipe(some, tmp_path / "space", lambda _: None) / "MODEL_CARD.md").read_text("utf-8")
    assert f"**Stands on** {', '.join(sorted(map(str, models)))}, under the terms of each." in card
    figures = [line.split(" | ")[1] for line in card.splitlines() if line.startswith("| media")]
    assert {"image by name, top 1", "name→sound mAP"} <= set(figures)


def test_frozen_towers_and_others_do_not_mix_in_one_space(recipe: Path, tmp_path: Path) -> None:
    mixed = recipe.parent / "mixed.toml"
    words = recipe.read_text("utf-8").replace("steps = 250", "steps = 1")
    first = words.index("[towers.image]")
    mixed.write_text(
        words[:first] + words[first:].replace('kind = "frozen"', 'kind = "image"\nnet = "test_byobnet"\nside = 32', 1),
        "utf-8",
    )
    with pytest.raises(UsageError, match="mixes frozen towers with others"):
        train_recipe(mixed, tmp_path / "space", lambda _: None)


def test_a_model_without_the_tower_that_a_recipe_stands_on_is_named(
    recipe: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    wrong = recipe.parent / "wrong.toml"
    words = recipe.read_text("utf-8")
    wrong.write_text(
        words.replace(
            f'[towers.sound]\nkind = "frozen"\nmodel = "{models[1]}"',
            f'[towers.sound]\nkind = "frozen"\nmodel = "{models[0]}"',
        ),
        "utf-8",
    )
    with pytest.raises(UsageError, match="has no tower for sounds, but the recipe's sound stands on it"):
        train_recipe(wrong, tmp_path / "space", lambda _: None)
