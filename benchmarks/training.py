"""What each part of the training recipes is worth: the ablations of docs/training.md, several seeds each.

    MEDIA=DIR START=DIR python benchmarks/training.py --recipe recipes/mini.toml --out DIR [--seeds 3] [--only mct]

Small towers on the teachers' features, so that a run takes seconds and differences are the loss's own: an MLP for
pictures, one for sounds, and the text tower, from scratch where languages are compared. What is trained is Flickr8k
train; what is measured is Flickr8k dev and, for sounds and pictures, the recipe's held-out tenth. AVID's instances are
the clips and moments made of a photo and a sound of one thing. Prints a table for each question, with the mean over
seeds and their range, and writes `FIGURES.json` and a plot; with `--only`, the answers of other runs stay in both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmsearch.files import write_whole
from mmsearch.spaces import normalise
from mmsearch.training.batch import Draw, Material
from mmsearch.training.joint import Joint
from mmsearch.training.loop import evaluating, train
from mmsearch.training.measure import average_precision, named, recalls
from mmsearch.training.recipe import Recipe, StageRecipe, TermRecipe, TowerRecipe, read_recipe
from mmsearch.training.run import embed_texts, gather, make_towers
from mmsearch.training.sources import called
from mmsearch.training.store import Unit
from mmsearch.types import Modality

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a table."""

    name: str
    terms: tuple[TermRecipe, ...]
    switch: float = 0.0
    momentum: float = 0.0


def term(kind: str, weight: float = 1.0, **fields: Any) -> TermRecipe:  # noqa: ANN401  those of a TermRecipe
    """Return a term of a recipe."""
    return TermRecipe(kind=kind, weight=weight, **fields)


CROSS = term("contrast", between=("text", "image_head"), temperature=0.07)
PICTURES = ("flickr8k",)
MCT = (
    Variant("across only", (CROSS,)),
    Variant("+ within, shared heads", (CROSS, *(term("within", 0.3, of=side) for side in ("image_head", "text")))),
    Variant(
        "+ within, separate heads",
        (CROSS, *(term("within", 0.3, of=side, head=128) for side in ("image_head", "text"))),
    ),
    Variant("+ queue and slow keys (MoCo)", (replace(CROSS, queue=1024),), momentum=0.99),
)
TAGS = (
    Variant("each photo for itself", (CROSS,)),
    Variant("photos of one tag belong together", (replace(CROSS, tags=True),)),
)
TAGGED = {"flickr8k": 0.6, "caltech101": 0.2, "tiny_imagenet": 0.2}
"""Captions have no tags, folders have: photos of both kinds, by their shares."""
SWITCH = (Variant("English only", (CROSS,)), Variant("code-switched, 0.8", (CROSS,), switch=0.8))
MOMENTS = {"av": 0.13, "moments": 0.87}
PAIR: dict[str, Any] = {"between": ("image_head", "sound_head"), "negatives": 64, "positives": 8}
AVID = (
    Variant("within", (term("instance", mode="within", **PAIR),)),
    Variant("across (AVID)", (term("instance", mode="cross", **PAIR),)),
    Variant("both", (term("instance", mode="both", **PAIR),)),
    Variant("AVID, then CMA", (term("instance", 0.5, mode="cross", **PAIR), term("agreement", 0.5, every=75, **PAIR))),
    Variant(
        "AVID, then CMA at a tenth",
        (term("instance", mode="cross", **PAIR), term("agreement", 0.1, every=75, **PAIR)),
    ),
)
SHOWN = {"code-switching (M3P)": "text→image R@10 fr"}
"""What the plot shows of a question, where that isn't its first figure."""


def head(of: str, hidden: int = 512) -> TowerRecipe:
    """Return the recipe of an MLP on a teacher's features."""
    return TowerRecipe(kind="teacher", of=of, hidden=hidden, dropout=0.2)


@dataclass(slots=True)
class Laboratory:
    """Runs variants on the same material."""

    recipe: Recipe
    material: Material
    folder: Path
    seeds: int
    seconds: float = 0.0

    def run(
        self,
        variant: Variant,
        towers: Mapping[str, TowerRecipe],
        material: Material,
        mix: Mapping[str, float],
        steps: int,
        seed: int,
    ) -> nn.ModuleDict:
        """Train fresh towers as a variant says, and return them."""
        began = time.process_time()
        recipe = replace(self.recipe, towers=dict(towers), start=None, seed=seed)
        stage = StageRecipe(
            name="ablation",
            train=tuple(towers),
            terms=variant.terms,
            steps=steps,
            lr=1e-3,
            batch=160,
            precision="bf16",
            warmup=20,
            mix=dict(mix),
            switch=variant.switch,
            momentum=variant.momentum,
        )
        made = make_towers(recipe, material)
        folder = self.folder / f"{variant.name}-{seed}".replace(" ", "-").replace("/", "-")
        for old in folder.glob("*.checkpoint"):
            old.unlink()
        train(Joint(made, recipe.towers, stage, material, seed), stage.schedule(seed), folder)
        self.seconds += time.process_time() - began
        return made

    def repeat(self, measured: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
        """Return each figure for every seed."""
        runs = [measured(seed) for seed in range(self.seeds)]
        return {name: [run[name] for run in runs] for name in runs[0]}


def seen(towers: nn.ModuleDict, name: str, side: str, material: Material, rows: Sequence[int]) -> Vectors:
    """Return what a head says of the whole of pictures or of sounds, (n, dim)."""
    tower, places = towers[name], np.asarray(rows, np.int64)
    layer = material.layer(side, places, np.zeros(len(places), np.int64))
    with evaluating(tower):
        return normalise(tower.features(layer, torch.full((len(rows),), -1)).numpy())  # type: ignore[operator]


def held_out(material: Material, source: str) -> list[Unit]:
    """Return the units of a source that nothing is trained on."""
    examples = material.examples
    number = next(n for n, one in enumerate(examples.sources) if one.name == source)
    return [u for u in material.store.units if (row := examples.rows[u.example]).held and row.source == number]


def flickr(towers: nn.ModuleDict, material: Material, aligned: Vectors | None = None) -> dict[str, float]:
    """Return recall@10 on Flickr8k dev by language, and back for English; `aligned` maps texts to pictures."""
    units = held_out(material, "flickr8k-dev")
    pictures = seen(towers, "image_head", "image", material, [unit.pictures[0] for unit in units])
    texts, found = material.examples.texts, {}
    for language in ("en", "de", "fr", "cs"):
        said = [
            (n, t)
            for n, unit in enumerate(units)
            for t in material.examples.rows[unit.example].texts
            if texts[t].language == language
        ]
        kept, owner = np.unique([n for n, _ in said], return_inverse=True)
        words = embed_texts(towers["text"], material, [texts[t].words for _, t in said])
        words = words if aligned is None else normalise(words @ aligned)
        figures = recalls("", "image", language, pictures[kept], words, owner)
        found[f"text→image R@10 {language}"] = 100 * float(figures[4].each.mean())
        if language == "en":
            found["image→text R@10 en"] = 100 * float(figures[5].each.mean())
    return found


def tagged(towers: nn.ModuleDict, material: Material) -> dict[str, float]:
    """Return recall@10 on Flickr8k dev in English, and how many held-out photos of Caltech-101 are named right."""
    examples = material.examples
    units = held_out(material, "caltech101")
    number = examples.rows[units[0].example].source
    tags = sorted({row.tag for row in examples.rows if row.source == number})
    right = np.searchsorted(tags, [examples.rows[unit.example].tag for unit in units])
    pictures = seen(towers, "image_head", "image", material, [unit.pictures[0] for unit in units])
    names = embed_texts(towers["text"], material, [examples.texts[examples.tag_texts[tag][0]].words for tag in tags])
    called = named("", "image", pictures, names, right)
    found = {"Caltech-101 by name, top 1": 100 * float(called[0].each.mean())}
    return found | {name: value for name, value in flickr(towers, material).items() if name.endswith(" en")}


def english(material: Material) -> Material:
    """Return the material with English captions alone."""
    examples, texts = material.examples, material.examples.texts
    rows = [
        replace(row, texts=tuple(t for t in row.texts if texts[t].language == "en"))
        if examples.sources[row.source].name == "flickr8k"
        else row
        for row in examples.rows
    ]
    return replace(material, examples=replace(examples, rows=rows))


@dataclass(frozen=True, slots=True)
class Things:
    """Held-out photos and sounds: their rows in the store, and of which things each of them is, (n, things)."""

    photos: list[int]
    sounds: list[int]
    shown: NDArray[np.bool_]
    heard: NDArray[np.bool_]


def things(material: Material) -> Things:
    """Return all that is held out and called by a word of the recipe's things."""
    of = {unit.example: unit for unit in reversed(material.store.units)}
    found = material.examples.things
    sides = []
    for modality in (Modality.IMAGE, Modality.AUDIO):
        rows = called(material.examples, modality, {word for words in found for word in words}, held=True)
        by_thing = [{row for word in words for row in rows[word] if row in of} for words in found]
        every = sorted(set().union(*by_thing))
        sides.append((every, np.asarray([[row in some for some in by_thing] for row in every])))
    (photos, shown), (sounds, heard) = sides
    return Things([of[row].pictures[0] for row in photos], [of[row].sound for row in sounds], shown, heard)


def across(towers: nn.ModuleDict | None, material: Material, held: Things) -> dict[str, float]:
    """Return mAP of sounds asking for photos of the same thing and back, and of either among themselves.

    Without towers, that of random vectors.
    """
    if towers is None:
        random = np.random.default_rng(0)
        pictures, sounds = (
            normalise(random.normal(size=(len(rows), 64)).astype(np.float32)) for rows in (held.photos, held.sounds)
        )
    else:
        pictures = seen(towers, "image_head", "image", material, held.photos)
        sounds = seen(towers, "sound_head", "sound", material, held.sounds)

    def mean_precision(scores: Vectors, right: NDArray[np.bool_]) -> float:
        asked = right.any(axis=1)
        return 100 * float(
            np.mean([average_precision(*pair) for pair in zip(scores[asked], right[asked], strict=True)])
        )

    def among(vectors: Vectors, of: NDArray[np.bool_]) -> float:
        others = ~np.eye(len(vectors), dtype=bool)
        scores, right = vectors @ vectors.T, of.astype(int) @ of.T.astype(int) > 0
        return mean_precision(np.where(others, scores, -np.inf), right & others)

    right = held.heard.astype(int) @ held.shown.T.astype(int) > 0
    return {
        "sound→photo mAP": mean_precision(sounds @ pictures.T, right),
        "photo→sound mAP": mean_precision(pictures @ sounds.T, right.T),
        "photo→photo mAP": among(pictures, held.shown),
        "sound→sound mAP": among(sounds, held.heard),
    }


def questions(laboratory: Laboratory, only: str | None) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return the figures of all variants, by question."""
    joint = {"text": TowerRecipe(kind="text"), "image_head": head("image")}
    own = english(laboratory.material)
    mix = {"flickr8k": 1.0}
    answers: dict[str, dict[str, dict[str, list[float]]]] = {}

    def captioned(variant: Variant) -> Callable[[int], dict[str, float]]:
        return lambda seed: flickr(laboratory.run(variant, joint, own, mix, 200, seed), own)

    def apart(seed: int) -> dict[str, float]:
        variant = Variant("apart", tuple(term("within", of=side) for side in joint))
        towers = laboratory.run(variant, joint, own, mix, 200, seed)
        return flickr(towers, own, align(towers, own))

    if only in (None, "joint"):
        answers["joint or apart"] = {
            "apart, then a linear map": laboratory.repeat(apart),
            "joint": laboratory.repeat(captioned(Variant("joint", (CROSS,)))),
        }
    for name, variants in (("MCT", MCT), ("code-switching (M3P)", SWITCH)):
        if only in (None, name.split()[0].lower()):
            answers[name] = {variant.name: laboratory.repeat(captioned(variant)) for variant in variants}
    if only in (None, "tags"):
        answers["tags (MCT)"] = {
            variant.name: laboratory.repeat(
                lambda seed, v=variant: tagged(laboratory.run(v, joint, own, TAGGED, 200, seed), own)  # type: ignore[misc]
            )
            for variant in TAGS
        }
    if only in (None, "avid"):
        material = laboratory.material
        held = things(material)
        sides = {"image_head": head("image"), "sound_head": head("sound")}
        chance = {"random vectors": laboratory.repeat(lambda _: across(None, material, held))}
        answers["AVID and CMA"] = chance | {
            variant.name: laboratory.repeat(
                lambda seed, v=variant: across(laboratory.run(v, sides, material, MOMENTS, 300, seed), material, held)  # type: ignore[misc]
            )
            for variant in AVID
        }
    return answers


def align(towers: nn.ModuleDict, material: Material) -> Vectors:
    """Return the ridge regression from texts to pictures over the training pairs: towers that never met, introduced."""
    draw = Draw(material, StageRecipe("align", (), (), 1, 0.0, batch=4_000, mix={"flickr8k": 1.0}))
    batch = draw(np.random.default_rng(0))
    texts = embed_texts(towers["text"], material, batch.words)
    pictures = seen(towers, "image_head", "image", material, batch.pictures.tolist())
    gram = texts.T @ texts
    return np.asarray(np.linalg.solve(gram + 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram)), texts.T @ pictures))


def show(answers: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> None:
    """Print a table for each question: mean, and least to most over seeds."""
    for question, variants in answers.items():
        columns = list(next(iter(variants.values())))
        print(f"\n**{question}**\n\n| variant | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        for name, figures in variants.items():
            cells = [f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" for values in figures.values()]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def plot(answers: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], file: Path) -> None:
    """Draw a panel for each question: a bar for each variant's mean, a point for each seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    wide = min(3, len(answers))
    high = -(-len(answers) // wide)
    figure, panels = pyplot.subplots(high, wide, figsize=(4.5 * wide, 3 * high), layout="constrained", squeeze=False)
    for panel in panels.flat[len(answers) :]:
        panel.set_visible(False)
    for panel, (question, variants) in zip(panels.flat, answers.items(), strict=False):
        metric = SHOWN.get(question) or next(iter(next(iter(variants.values()))))
        for place, (name, figures) in enumerate(variants.items()):
            values = figures[metric]
            panel.barh(place, float(np.mean(values)), color="tab:blue", alpha=0.5)
            panel.plot(values, [place] * len(values), "k.", markersize=5)
            panel.text(0, place, f" {name}", va="center", fontsize=9)
        panel.set(title=question, xlabel=metric, yticks=[])
        panel.invert_yaxis()
    figure.savefig(file, dpi=90)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/mini.toml"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("joint", "mct", "tags", "code-switching", "avid"))
    parser.add_argument("--plot", type=Path, help="a picture of the tables; needs matplotlib")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    recipe = replace(recipe, teachers={side: one for side, one in recipe.teachers.items() if side != "text"})
    material = gather(recipe, arguments.out, lambda line: print(f"  {line}", flush=True))
    laboratory = Laboratory(recipe, material, arguments.out, arguments.seeds)
    figures = arguments.out / "FIGURES.json"
    others = json.loads(figures.read_text("utf-8")) if figures.is_file() else {}
    answers = questions(laboratory, arguments.only)
    show(answers)
    answers = {**others, **answers}
    write_whole(figures, json.dumps(answers, indent=1).encode())
    if arguments.plot:
        plot(answers, arguments.plot)
    print(f"\n{laboratory.seconds / 60:.0f} CPU-minutes of training")


if __name__ == "__main__":
    main()
