"""What a trained space knows of media it was not trained on, beside another space: the table of docs/training.md.

    MEDIA=DIR START=DIR python benchmarks/mini.py --recipe recipes/mini.toml [--model mini] [--beside DIR] [--learnt]

Everything that the recipe holds out is embedded by both spaces. Intervals are 95 % bootstraps over photos, sounds,
clips or names; differences are paired. A space that was trained on what this recipe holds out looks better than it is.
With --learnt, a thousand photos of each captioned source that nothing is held out of are found among themselves, too:
what is better there than elsewhere was learnt by heart.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.media import by_name
from mmsearch.metrics import paired_bootstrap
from mmsearch.search.items import read_items
from mmsearch.settings import Limits
from mmsearch.spaces import Profile, Space, embed, load_profile, normalise
from mmsearch.training.measure import Figure, named, recalls
from mmsearch.training.recipe import Source, read_recipe
from mmsearch.training.sources import Example, Examples, called, read_sources
from mmsearch.types import Modality, View

Vectors = NDArray[np.float32]
SIDES = {View.VISUAL: "image", View.AUDIO: "sound"}
DEPTH = 5
FOUND = 10


@dataclass(slots=True)
class Seen:
    """The held-out files of a recipe, and what one space makes of them."""

    examples: Examples
    profile: Profile
    learnt: bool = False
    _kept: dict[tuple[int, View], Vectors] = field(default_factory=dict)
    _said: dict[str, Vectors] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The space that is measured."""
        return self.profile.spaces[0]

    def held(self, source: int) -> list[Example]:
        """Return the held-out files of a source; where there are none, a thousand others if they are asked for."""
        rows = [row for row in self.examples.rows if row.source == source]
        held = [row for row in rows if row.held]
        if self.learnt and not held and self.examples.sources[source].kind == "captions":
            return rows[:: max(1, len(rows) // 1_000)][:1_000]
        return held

    def files(self, source: int, view: View) -> Vectors:
        """Return the view of every held-out file of a source, (n, dim); zeros where it has none."""
        if (source, view) not in self._kept:
            found, empty = [], np.zeros((1, self.space.dim), np.float32)
            for row in self.held(source):
                assert row.path is not None
                (asked,) = read_items([row.path], self.profile, Limits())
                has_view = view in asked.views
                vectors = self.space.encode(view, asked.prepare(self.space, view)) if has_view else empty
                found.append(normalise(vectors.mean(axis=0)))
            self._kept[source, view] = np.stack(found)
        return self._kept[source, view]

    def texts(self, words: Sequence[str]) -> Vectors:
        """Return (n, dim)."""
        new = [word for word in dict.fromkeys(words) if word not in self._said]
        if new:
            self._said.update(zip(new, embed(self.space, View.TEXT, new), strict=True))
        return np.stack([self._said[word] for word in words])

    def tag(self, tag: int) -> Vectors:
        """Return what a tag is called, by the mean of the ways it is said."""
        return normalise(
            self.texts([self.examples.texts[row].words for row in self.examples.tag_texts[tag]]).mean(axis=0)
        )


def figures(seen: Seen) -> list[Figure]:
    """Return all lines of the table."""
    found: list[Figure] = []
    for number, source in enumerate(seen.examples.sources):
        rows = seen.held(number)
        if not rows:
            continue
        if source.kind == "clips":
            found += clips(seen, number)
            continue
        for view in views_of(rows):
            vectors = seen.files(number, view)
            found += captions(seen, source.name, SIDES[view], vectors, rows)
            if any(row.tag >= 0 for row in rows):
                names = sorted({row.tag for row in seen.examples.rows if row.source == number})
                right = np.searchsorted(names, [row.tag for row in rows])
                found += named(source.name, SIDES[view], vectors, np.stack([seen.tag(name) for name in names]), right)
    for source in seen.examples.sources:
        if source.kind == "parallel" and source.limit and len(source.languages) == len(("en", "other")):
            found += translations(seen, source)
    return [*found, *heard(seen, PHOTOS, "photo"), *heard(seen, CAPTIONED, "captioned photo")]


SOUNDS = ("esc10", "urbansound8k", "animals", "instruments")
PHOTOS = ("caltech101", "weather")
CAPTIONED = ("flickr8k-dev",)
ASKED = 1_000
"""Among how many English texts a translation finds its own."""


def views_of(rows: Sequence[Example]) -> list[View]:
    """Return what the files of a source are measured by: the sound where they are sounds, else the picture."""
    kinds = {by_name(os.fsencode(row.path.name)) for row in rows if row.path is not None}
    views = {Modality.AUDIO: View.AUDIO, Modality.IMAGE: View.VISUAL}
    return [view for modality, view in views.items() if modality in kinds]


def translations(seen: Seen, source: Source) -> list[Figure]:
    """Return how often a text finds the English one that it translates, on lines that the recipe's limit leaves out."""
    known = {text.words for text in seen.examples.texts}
    whole = read_sources([replace(source, limit=0)], 0)
    pairs = [[whole.texts[t].words for t in row.texts] for row in whole.rows]
    unseen = {english: other for english, other in pairs if not {english, other} & known}
    chosen = list(unseen.items())[:: max(1, len(unseen) // ASKED)][:ASKED]
    if len(chosen) <= DEPTH:
        return []
    english, others = (seen.texts(words) for words in zip(*chosen, strict=True))
    scores = others @ english.T
    ranks = (scores > np.diagonal(scores)[:, None]).sum(axis=1)
    metric = f"{source.languages[1]} text→its English one among {len(chosen):,}, R@10"
    return [Figure(source.name, metric, (ranks < FOUND).astype(float), FOUND / len(chosen))]


def captions(seen: Seen, source: str, side: str, vectors: Vectors, rows: Sequence[Example]) -> list[Figure]:
    """Return recall by captions, in each language, of the units that have one."""
    found: list[Figure] = []
    texts = seen.examples.texts
    for language in sorted({texts[t].language for row in rows for t in row.texts}):
        said = [(n, t) for n, row in enumerate(rows) for t in row.texts if texts[t].language == language]
        units, owner = np.unique([n for n, _ in said], return_inverse=True)
        words = seen.texts([texts[t].words for _, t in said])
        found += recalls(source, side, language, vectors[units], words, owner)
    return found


def clips(seen: Seen, source: int) -> list[Figure]:
    """Return the reciprocal rank of the first clip of each label, and of a clip's pictures by its own sound."""
    rows = seen.held(source)
    pictures, sounds = seen.files(source, View.VISUAL), seen.files(source, View.AUDIO)
    heard = sounds.any(axis=1)
    said = [seen.examples.texts[row.texts[0]].words for row in rows]
    labels, label = np.unique(said, return_inverse=True)
    right = np.arange(len(labels))[:, None] == label
    asked, own = seen.texts(labels.tolist()), np.eye(int(heard.sum()), dtype=bool)

    def ranks(scores: Vectors, right: NDArray[np.bool_]) -> NDArray[np.float64]:
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        return np.asarray(1.0 / (1 + (scores > best).sum(axis=1)))

    name, chance = "av", float(np.mean(1.0 / np.arange(1, len(rows) + 1)))
    return [
        Figure(name, "label→clip, pictures, MRR", ranks(asked @ pictures.T, right), chance),
        Figure(name, "label→clip, sound, MRR", ranks(asked @ sounds.T, right), chance),
        Figure(name, "label→clip, both, MRR", ranks(asked @ normalise(pictures + sounds).T, right), chance),
        Figure(name, "soundtrack→its clip's pictures, MRR", ranks(sounds[heard] @ pictures[heard].T, own), chance),
    ]


def heard(seen: Seen, galleries: Sequence[str], kind: str) -> list[Figure]:
    """Return how many of the five photos nearest to a sound show what it is the sound of, where a recipe says so."""
    examples = seen.examples
    numbers = {one.name: number for number, one in enumerate(examples.sources)}
    if not examples.things or not {*galleries, *SOUNDS} <= set(numbers):
        return []
    shown = called(examples, Modality.IMAGE, {word for words in examples.things for word in words}, held=True)
    gallery = np.concatenate([seen.files(numbers[name], View.VISUAL) for name in galleries])
    places = {id(row): n for n, row in enumerate(examples.rows)}
    photos = [places[id(row)] for name in galleries for row in seen.held(numbers[name])]
    each, chances = [], []
    for name in SOUNDS:
        for row, vector in zip(seen.held(numbers[name]), seen.files(numbers[name], View.AUDIO), strict=True):
            said = [word for words in examples.things if examples.tags[row.tag] in words for word in words]
            right = np.isin(photos, [place for word in said for place in shown[word]])
            if right.sum() >= DEPTH:
                each.append(float(right[np.argsort(-(gallery @ vector), kind="stable")[:DEPTH]].mean()))
                chances.append(right.mean())
    name = f"sound→{kind} of it, P@{DEPTH}"
    return [Figure("sounds", name, np.asarray(each), float(np.mean(chances)))] if each else []


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/mini.toml"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--beside")
    parser.add_argument("--learnt", action="store_true", help="recall on captioned photos that were trained on, too")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    examples = read_sources(recipe.data, recipe.held)
    measured = {}
    for model in filter(None, (arguments.beside, arguments.model)):
        measured[model] = figures(Seen(examples, load_profile(model), arguments.learnt))
        print(f"  {os.path.basename(model)} is measured", flush=True)  # noqa: PTH119
    new = measured[arguments.model]
    old = measured.get(arguments.beside, new)
    print("| source | figure | beside | model | difference | chance |\n|---|---|---|---|---|---|")
    for before, after in zip(old, new, strict=True):
        change = paired_bootstrap(after.each, before.each)
        values = [
            f"{100 * one.value.value:.1f} [{100 * one.value.low:.1f}, {100 * one.value.high:.1f}]"
            for one in (before, after)
        ]
        gained = f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
        print(f"| {after.source} | {after.metric} | {' | '.join(values)} | {gained} | {100 * after.chance:.1f} |")


if __name__ == "__main__":
    main()
