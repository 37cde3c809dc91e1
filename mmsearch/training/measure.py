"""What towers know of examples that they were not trained on: recall between sides, names, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as fn

from mmsearch.metrics import Interval, bootstrap
from mmsearch.spaces import normalise
from mmsearch.training.batch import Material
from mmsearch.training.grown import GrownTower
from mmsearch.training.loop import evaluating
from mmsearch.training.store import Unit

Vectors = NDArray[np.float32]
_LEVELS = (1, 5, 10)
_CHUNK = 64
_LONGEST_S = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: a source, a metric, its value for each query or unit, and what chance would give."""

    source: str
    metric: str
    each: NDArray[np.float64]
    chance: float

    @property
    def value(self) -> Interval:
        """The mean with its 95 % interval."""
        return bootstrap(self.each)


@dataclass(slots=True)
class Embedded:
    """The held-out units of one source. `pictures` and `sounds` are (units, dim), zeros where a unit has none."""

    examples: list[int]
    pictures: Vectors | None
    sounds: Vectors | None


def measure(towers: nn.ModuleDict, material: Material, sources: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of every source of which something was held out, by the towers image, sound and text."""
    figures: list[Figure] = []
    texts = _Texts(towers, material)
    for number, source in enumerate(material.examples.sources):
        if sources and source.name not in sources:
            continue
        held = [
            unit
            for unit in material.store.units
            if (row := material.examples.rows[unit.example]).held and row.source == number
        ]
        if held:
            figures += _figures(source.name, _embed(towers, material, held), texts, material)
    return figures


def _embed(towers: nn.ModuleDict, material: Material, units: Sequence[Unit]) -> Embedded:
    return Embedded(
        [unit.example for unit in units],
        picture_vectors(towers, material, [unit.pictures for unit in units]),
        sound_vectors(towers, material, [unit.sound for unit in units]),
    )


def picture_vectors(towers: nn.ModuleDict, material: Material, rows: Sequence[tuple[int, ...]]) -> Vectors | None:
    """Return (n, dim): for each unit the normalised mean of its whole pictures."""
    if "image" not in towers or not any(rows):
        return None
    tower = towers["image"]
    flat = np.asarray([row for some in rows for row in some], np.int64)
    if "image" in material.frozen:
        places = material.store.first_view[flat] if isinstance(tower, GrownTower) else flat
        return _mean_by(_moved(tower, material.frozen["image"][places]), [len(some) for some in rows])
    parts = []
    with evaluating(tower):
        for start in range(0, len(flat), _CHUNK):
            some = flat[start : start + _CHUNK]
            pixels = material.pixels(some, np.zeros(len(some), np.int64), side_of(tower))
            parts.append(fn.normalize(tower(pixels), dim=1).numpy())
    return _mean_by(np.concatenate(parts), [len(some) for some in rows])


def side_of(tower: nn.Module) -> int:
    """Return the side of the pictures that a tower takes."""
    return int(getattr(tower, "side", 128))


def sound_vectors(towers: nn.ModuleDict, material: Material, rows: Sequence[int]) -> Vectors | None:
    """Return (n, dim), of whole sounds; zeros where a unit has none."""
    if "sound" not in towers or max(rows) < 0:
        return None
    tower = towers["sound"]
    out = np.zeros((len(rows), int(getattr(tower, "dim", 0))), np.float32)
    if "sound" in material.frozen and not isinstance(tower, GrownTower):  # what one says is of the beginning only
        heard = np.flatnonzero(np.asarray(rows) >= 0)
        out[heard] = _moved(tower, material.frozen["sound"][np.asarray(rows)[heard]])
        return out
    with evaluating(tower):
        for n, row in enumerate(rows):
            if row >= 0:
                seconds = max(1.0, min(_LONGEST_S, np.diff(material.store.bounds[row : row + 2])[0] / 16_000))
                out[n] = fn.normalize(tower(material.waves(np.asarray([row]), seconds)), dim=1)[0].numpy()
    return out


def _moved(head: nn.Module, vectors: Vectors) -> Vectors:
    """Return what a head makes of its frozen tower's vectors, (n, dim), L2-normalised."""
    with evaluating(head):
        said = torch.from_numpy(np.asarray(vectors, np.float32))
        moved = head.project(head.features(said))  # type: ignore[operator]
        return np.asarray(fn.normalize(moved, dim=1).numpy())


def _mean_by(vectors: Vectors, counts: Sequence[int]) -> Vectors:
    out = np.zeros((len(counts), vectors.shape[1]), np.float32)
    np.add.at(out, np.repeat(np.arange(len(counts)), counts), vectors)
    return normalise(out)


class _Texts:
    def __init__(self, towers: nn.ModuleDict, material: Material) -> None:
        self._tower, self._material = towers["text"], material

    def __call__(self, rows: Sequence[int]) -> Vectors:
        """Return (n, dim) of these rows of the examples' texts."""
        if "text" in self._material.frozen:
            return _moved(self._tower, self._material.frozen["text"][np.asarray(rows)])
        words = [self._material.examples.texts[row].words for row in rows]
        parts = []
        with evaluating(self._tower), torch.inference_mode():
            for start in range(0, len(words), 4 * _CHUNK):
                tokens = self._material.tokenised(words[start : start + 4 * _CHUNK])
                parts.append(fn.normalize(self._tower(*tokens), dim=1).numpy())
        return np.concatenate(parts)


def _figures(source: str, held: Embedded, texts: _Texts, material: Material) -> list[Figure]:
    found: list[Figure] = []
    examples = material.examples
    rows = [examples.rows[number] for number in held.examples]
    firsts = sorted({number: n for n, number in reversed([*enumerate(held.examples)])}.values())
    for side, vectors in (("image", held.pictures), ("sound", held.sounds)):
        if vectors is None:
            continue
        for language in dict.fromkeys(examples.texts[t].language for row in rows for t in row.texts):
            said = [(n, t) for n in firsts for t in rows[n].texts if examples.texts[t].language == language]
            units, owner = np.unique([n for n, _ in said], return_inverse=True)
            words = texts([t for _, t in said])
            found += recalls(source, side, language, vectors[units], words, owner)
        tagged = np.asarray([n for n, row in enumerate(rows) if row.tag >= 0 and vectors[n].any()], np.int64)
        if len({rows[n].tag for n in tagged}) > 1:
            number = rows[0].source
            names = sorted({row.tag for row in examples.rows if row.source == number and row.tag >= 0})
            right = np.searchsorted(names, [rows[n].tag for n in tagged])
            found += named(source, side, vectors[tagged], np.stack([_spoken(texts, material, n) for n in names]), right)
    return found


def _spoken(texts: _Texts, material: Material, tag: int) -> Vectors:
    """Return the normalised mean of the ways a tag is said."""
    return normalise(texts(material.examples.tag_texts[tag]).mean(axis=0))


def recalls(
    source: str, side: str, language: str, vectors: Vectors, texts: Vectors, owner: NDArray[np.int64]
) -> list[Figure]:
    """Return recall of units (n, dim) by their texts (m, dim), and back; text i is of unit `owner[i]`.

    Values are one a unit, the mean over its texts: texts of one unit are no independent queries.
    """
    scores = texts @ vectors.T
    own = scores[np.arange(len(owner)), owner]
    to_unit = (scores > own[:, None]).sum(axis=1)
    best = np.full(len(vectors), -np.inf)
    np.maximum.at(best, owner, own)
    to_text = (scores > best).sum(axis=0)
    many = np.bincount(owner, minlength=len(vectors))
    found = []
    for level in _LEVELS:
        hits = np.bincount(owner, (to_unit < level).astype(float), minlength=len(vectors)) / many
        chance = level / len(vectors)
        found.append(Figure(source, f"text ({language})→{side} R@{level}", hits, chance))
        found.append(Figure(source, f"{side}→text ({language}) R@{level}", (to_text < level).astype(float), chance))
    return found


def named(source: str, side: str, vectors: Vectors, names: Vectors, right: NDArray[np.int64]) -> list[Figure]:
    """Return how often the right one of names (c, dim) is the nearest to a unit, and how well names find units."""
    scores = vectors @ names.T
    correct = (scores.argmax(axis=1) == right).astype(float)
    known = np.unique(right)
    precision = np.asarray([average_precision(scores[:, name], right == name) for name in known])
    share = float(np.mean([(right == name).mean() for name in known]))
    return [
        Figure(source, f"{side} by name, top 1", correct, 1 / len(names)),
        Figure(source, f"name→{side} mAP", precision, share),
    ]


def average_precision(scores: Vectors, relevant: NDArray[np.bool_]) -> float:
    """Return the average precision of one query, 0 to 1; `relevant` (n,) holds at least one that is."""
    hits = relevant[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())


def table(figures: Sequence[Figure]) -> str:
    """Return figures as a Markdown table."""
    lines = ["| source | figure | value | chance |", "|---|---|---|---|"]
    for one in figures:
        value = f"{100 * one.value.value:.1f} [{100 * one.value.low:.1f}, {100 * one.value.high:.1f}]"
        lines.append(f"| {one.source} | {one.metric} | {value} | {100 * one.chance:.1f} |")
    return "\n".join(lines)
