"""How well sounds of recordings that nothing was trained on are named: a recipe's sound stages, fold by fold.

    MEDIA=DIR START=DIR python benchmarks/recordings.py --out DIR [--variant teacher] [--by file] [--fold 0]

START holds the space whose text and picture towers stay as they are; the sound tower starts from random weights, so
that it has heard nothing of the fold that is held out. Folds are dealt out by recording (the `group` of a source), or
`--by file`, which shows what slices of one recording give away of each other. Variants: the stages of the `recipe`
that train sounds, and the `teacher`, a logistic regression on its layer: the ceiling. A fold of the recipe takes half
an hour of one core.

Other variants and folds of this recipe that are in `--out` are in the table, too. Intervals are 95 % bootstraps over
recordings; differences are paired, over the folds that both have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mmsearch.files import write_whole
from mmsearch.metrics import Interval, bootstrap
from mmsearch.training.batch import Material
from mmsearch.training.joint import Joint
from mmsearch.training.loop import train
from mmsearch.training.measure import measure, named
from mmsearch.training.recipe import Recipe, read_recipe
from mmsearch.training.run import gather, identify, make_towers
from mmsearch.training.sources import Example, Examples, read_sources

FOLDS = 5
STRENGTH = 0.1
"""Of the logistic regression: the inverse of its penalty."""
Answers = dict[str, dict[str, Any]]
"""By source: whether each file, after its recording, was named `right`, and the average `precision` of each name."""


def recording(row: Example, examples: Examples) -> str:
    """Return what the files of one recording share in their names."""
    assert row.path is not None
    shared = re.search(examples.sources[row.source].group, row.path.name)
    return shared[0] if shared else row.path.name


def deal(examples: Examples, by: str) -> dict[int, int]:
    """Return the fold of every file of a source with recordings, by its row; each class is dealt out evenly."""
    dealt: dict[int, int] = {}
    for number, source in enumerate(examples.sources):
        together: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(examples.rows):
            if source.group and row.source == number and row.path is not None:
                together[recording(row, examples) if by == "recording" else row.path.name].append(place)
        has: Counter[tuple[int, int]] = Counter()
        for _, places in sorted(together.items(), key=lambda one: (-len(one[1]), _digest(one[0]))):
            tag = Counter(examples.rows[place].tag for place in places).most_common(1)[0][0]
            fold = min(range(FOLDS), key=lambda k, tag=tag: (has[tag, k], _digest(f"{tag}{k}")))  # type: ignore[misc]
            has[tag, fold] += len(places)
            dealt |= dict.fromkeys(places, fold)
    return dealt


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode()).digest()


def hold_out(examples: Examples, dealt: Mapping[int, int], fold: int) -> Examples:
    """Return the examples with one fold held out, and the moments that were made of it."""
    rows = [replace(row, held=dealt[n] == fold) if n in dealt else row for n, row in enumerate(examples.rows)]
    rows = [replace(row, held=any(rows[n].held for n in row.made_of)) if row.made_of else row for row in rows]
    return replace(examples, rows=rows)


def train_sounds(recipe: Recipe, material: Material, folder: Path) -> nn.ModuleDict:
    """Return the towers, after the sound tower went through its stages from random weights."""
    towers = make_towers(recipe, material)
    towers["sound"] = make_towers(replace(recipe, start=None, towers={"sound": recipe.towers["sound"]}), material)[
        "sound"
    ]
    for number, stage in enumerate((one for one in recipe.stage if one.train == ("sound",)), 1):
        task = Joint(towers, recipe.towers, stage, material, recipe.seed)
        train(task, stage.schedule(recipe.seed), folder, f"{number}-{stage.name}")
    return towers


def ask(towers: nn.ModuleDict | None, material: Material, dealt: Mapping[int, int]) -> Answers:
    """Return how well towers name what is held out; without towers, a regression on the teacher's layer does it."""
    examples, answers = material.examples, Answers()
    for number in sorted({examples.rows[place].source for place in dealt}):
        name = examples.sources[number].name
        of = [unit for unit in material.store.units if examples.rows[unit.example].source == number]
        rows = [examples.rows[unit.example] for unit in of]
        held = np.asarray([row.held for row in rows])
        if towers is None:
            _, right = np.unique([row.tag for row in rows], return_inverse=True)
            layer = material.layer("sound", np.asarray([unit.sound for unit in of]), np.zeros(len(of), np.int64))
            scores = regress(layer.numpy(), right, held)
            figures = named(name, "sound", scores, np.eye(scores.shape[1], dtype=np.float32), right[held])
        else:
            figures = [one for one in measure(towers, material, [name]) if "name" in one.metric]
        first, precision = (one.each.tolist() for one in figures)
        files = [f"{recording(row, examples)} {row.path}" for row in rows if row.held]
        answers[name] = {"right": dict(zip(files, first, strict=True)), "precision": precision}
    return answers


def regress(layer: NDArray[np.float32], right: NDArray[np.int64], held: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the logits of what is held out, (n, classes), by a logistic regression on the rest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1_000))
    return np.asarray(fitted.fit(layer[~held], right[~held]).decision_function(layer[held]), np.float32)


def over_recordings(values: Mapping[str, float]) -> Interval:
    """Return the mean over files, with an interval that counts a recording, not its slices, as one observation."""
    by: dict[str, list[float]] = defaultdict(list)
    for file, value in values.items():
        by[file.split(" ")[0]].append(value)
    sums, counts = (np.asarray([count(one) for one in by.values()], float) for count in (sum, len))
    return bootstrap(
        np.arange(len(by), dtype=np.float64),
        lambda drawn: sums[(rows := drawn.astype(int))].sum(axis=-1) / counts[rows].sum(axis=-1),
    )


def show(kept: Mapping[str, Mapping[int, Answers]]) -> None:
    """Print how well each variant names each source, and by how much the recipe does so better."""
    heads = ("source", "variant", "folds", "sounds", "top 1", "mAP", "the recipe is better by")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")

    def said(interval: Interval, form: str) -> str:
        return "{} [{}, {}]".format(*(format(100 * one, form) for one in (interval.value, interval.low, interval.high)))

    for name, folds in kept.items():
        recipe = kept.get(f"recipe-{name.partition('-')[2]}", {})
        for source in next(iter(folds.values())):
            right, others = (
                {file: value for one in some.values() for file, value in one[source]["right"].items()}
                for some in (folds, recipe)
            )
            gains = {file: others[file] - value for file, value in right.items() if file in others}
            gain = said(over_recordings(gains), "+.1f") if gains and recipe is not folds else ""
            precision = 100 * float(np.mean([one[source]["precision"] for one in folds.values()]))
            top = said(over_recordings(right), ".1f")
            print(f"| {source} | {name} | {len(folds)} | {len(right)} | {top} | {precision:.1f} | {gain} |", flush=True)


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/mini.toml"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", choices=("recipe", "teacher"), default="recipe")
    parser.add_argument("--by", choices=("recording", "file"), default="recording")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="this one alone")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    recipe = replace(recipe, teachers={side: one for side, one in recipe.teachers.items() if side != "text"})
    whole = arguments.variant == "teacher"  # it is asked for whole sounds
    sources = [replace(one, views=1) if whole and one.group else one for one in recipe.data]
    examples = read_sources(sources, recipe.held)
    out = arguments.out / identify(recipe, len(recipe.stage) - 1, "")
    dealt = deal(examples, arguments.by)
    for fold in range(FOLDS) if arguments.fold is None else [arguments.fold]:
        run = out / f"{arguments.variant}-{arguments.by}-{fold}"
        if not run.with_suffix(".json").is_file():
            run.mkdir(parents=True, exist_ok=True)
            held = hold_out(examples, dealt, fold)
            material = gather(recipe, run, lambda line: print(f"  {line}", flush=True), held)
            towers = train_sounds(recipe, material, run) if arguments.variant != "teacher" else None
            write_whole(run.with_suffix(".json"), json.dumps(ask(towers, material, dealt)).encode())
    kept: dict[str, dict[int, Answers]] = defaultdict(dict)
    for file in sorted(out.glob("*-*-*.json")):
        variant, _, fold = file.stem.rpartition("-")
        kept[variant][int(fold)] = json.loads(file.read_text("utf-8"))
    show(kept)


if __name__ == "__main__":
    main()
