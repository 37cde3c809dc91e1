"""Measure class-level retrieval from and to sounds and videos in a real library: precision@5 and mAP against chance.

    python benchmarks/directions.py --media DIR [--model mini]

DIR holds `esc10/<class>`, `urbansound8k/<class>`, `sounds/{animals,instruments}/<class>` and `av/*.mp4` with
`av/labels.csv`. Each collection is indexed into a temporary library. Every query ranks the whole collection, and a hit
is relevant if it has the query's class.

- ESC-10: the files of each fold (the first number of a name) are queries for the other folds. A class name is a query
  for the complement of each fold, and counts once with the mean.
- UrbanSound8K: names contain the recording (the first number), not the fold. Each file is a query, and all slices of
  its own recording are left out, so that it isn't found by its background noise. Class names are queries for all files.
- av: the class is the visible subject in `labels.csv`. `SEEN` merges labels of the same subject; any other label is its
  own class. Each class name is a text query. `HEARD` assigns sounds of `ESC-10`, `UrbanSound8K` and `sounds` to
  classes. For video→video, clips of the same source video (by name) are left out, and so are queries without another
  clip of their class. Most classes have few clips, which limits precision@5: see the column "at most".

Intervals are 95 % bootstraps over queries: texts, sounds or clips. Queries of one class or recording aren't
independent, so the intervals are somewhat too narrow. Chance is the mean over random orders of the same candidates.
Files that can't be indexed, and silent ones, count as candidates that are never found. `python -m doctest` on this file
runs its examples.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import mmsearch
from mmsearch.errors import MediaError
from mmsearch.library import Library
from mmsearch.search import rank as ranking
from mmsearch.types import Modality

DEPTH = 5
BOOTSTRAPS = 1_000
PERMUTATIONS = 10_000
CAVEAT = (
    "mini was trained on nine in ten of these sounds and four in five clips: benchmarks/mini.py measures the others"
)

SEEN = {
    "baby": ("a baby", "a baby crying"),
    "car": ("a car engine running", "a drag race car accelerating", "cars racing on a track", "race car, auto racing"),
    "dog": (
        "a dog barking",
        "a dog riding a skateboard",
        "a man in a room and a dog barking",
        "a puppy barking on a bed",
        "dog barking",
    ),
    "double bass": ("a man playing the double bass", "plucking a double bass"),
    "drums": ("a man playing a drum kit", "a man playing hand drums"),
    "guitar": (
        "a man playing an electric or acoustic guitar",
        "playing an acoustic guitar",
        "playing steel guitar, slide guitar",
    ),
    "gun shot": ("a man firing a rifle outdoors", "a person firing a rifle", "a tank firing in a field"),
    "person speaking": ("a man speaking on a stage", "a woman speaking"),
}
"""The labels of a visible subject, by class of clips."""

HEARD = {
    "a bull mooing in a field": ("sounds/animals/cow",),
    "a flock of sheep": ("sounds/animals/sheep",),
    "baby": ("esc10/baby_cry",),
    "car": ("urbansound8k/engine_idling",),
    "dog": ("esc10/dog_bark", "sounds/animals/dog", "urbansound8k/dog_bark"),
    "double bass": ("sounds/instruments/double_bass",),
    "driving in rain with windscreen wipers": ("esc10/rain",),
    "drums": ("sounds/instruments/bass_drum", "sounds/instruments/hi_hat", "sounds/instruments/snare_drum"),
    "guitar": ("sounds/instruments/acoustic_guitar",),
    "gun shot": ("urbansound8k/gun_shot",),
    "sneezing": ("esc10/person_sneeze",),
}
"""The folders of recordings of the same sound source, by class of clips."""

_SOURCE = re.compile(r"av_[a-z0-9]+_(?:(?P<ucf>v_\w+_g\d+)_c\d+|(?P<id>[\w-]{10,11}?)(?:_\d+)+)")
"""The source video in a clip's name: UCF-101's group, or a video's id before the times that were cut."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a collection; items of one group come from one recording or fold."""

    path: Path
    label: str
    group: str


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query, a text or a file, with its class, and for each ranking a group of items to leave out (or None)."""

    term: str | Path
    label: str
    without: tuple[str | None, ...] = (None,)


def average_precision(relevant: NDArray[np.bool_], total_relevant: int) -> float:
    """Return the mean precision at the ranks of all relevant items; one that isn't found counts as 0.

    >>> average_precision(np.array([True, False, True, False]), 2)  # (1/1 + 2/3) / 2
    0.8333333333333333
    >>> average_precision(np.array([True, False, True, False]), 4)
    0.41666666666666663
    """
    found = np.flatnonzero(relevant)
    return float(np.sum(np.arange(1, len(found) + 1) / (found + 1)) / total_relevant)


def precision_at(relevant: NDArray[np.bool_], depth: int) -> float:
    """Return the share of relevant items among the first `depth`; missing ranks count as irrelevant.

    >>> precision_at(np.array([True, False, True, False, False, True]), 5)
    0.4
    """
    return float(np.sum(relevant[:depth]) / depth)


@cache
def chance(candidates: int, total_relevant: int) -> tuple[float, float]:
    """Return the mean precision@5 and average precision over `PERMUTATIONS` random orders.

    With one relevant item of two, the average precision is 1 or 1/2.

    >>> [round(mean, 2) for mean in chance(2, 1)]
    [0.2, 0.75]
    """
    random = np.random.default_rng(0)
    relevant = np.arange(candidates) < total_relevant
    orders = [random.permutation(relevant) for _ in range(PERMUTATIONS)]
    return (
        float(np.mean([precision_at(order, DEPTH) for order in orders])),
        float(np.mean([average_precision(order, total_relevant) for order in orders])),
    )


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of (n,) values.

    >>> interval(np.full(7, 0.5))
    (0.5, 0.5)
    """
    drawn = np.random.default_rng(0).integers(0, len(values), (BOOTSTRAPS, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def sounds(folder: Path) -> list[Item]:
    """Return the sounds of `folder`/<class>, grouped by the first number of their names."""
    files = sorted(file for file in folder.glob("*/*") if file.is_file())
    return [Item(file, file.parent.name.replace("_", " "), file.name.split("-")[0]) for file in files]


def clips(folder: Path) -> list[Item]:
    """Return the clips that `folder`/labels.csv names, grouped by their source video."""
    classes = {label: name for name, labels in SEEN.items() for label in labels}
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    return [Item(folder / r["file"], classes.get(r["label"], r["label"]), source_of(r["file"])) for r in rows]


def source_of(name: str) -> str:
    """Return the source video in a clip's name, or the stem of the name if there is none.

    >>> source_of("av_v2apiano_nwwHuxHMIpc_00000001.mp4"), source_of("av_ucf101_v_Archery_g05_c01.mp4")
    ('nwwHuxHMIpc', 'v_Archery_g05')
    >>> source_of("av_specvqgan_video_00331.mp4")
    'av_specvqgan_video_00331'
    """
    stem = Path(name).stem
    match = _SOURCE.fullmatch(stem)
    return match["ucf"] or match["id"] if match else stem


def rank(library: Library, items: Sequence[Item], query: LabelledQuery, modality: Modality) -> list[int]:
    """Return the numbers of the found items, best first; nothing if the query's file can't be read."""
    numbers = {item.path: i for i, item in enumerate(items)}
    try:
        hits = library.query(query.term, k=len(items), modalities={modality})
    except MediaError as error:
        print(f"  skipped a query: {error}")
        return []
    return [numbers[hit.path] for hit in hits]


def measure(
    library: Library, items: Sequence[Item], queries: Sequence[LabelledQuery], modality: Modality
) -> NDArray[np.float64]:
    """Return (queries, 5): precision@5, its chance, its maximum, average precision, its chance.

    Queries without a relevant candidate are skipped.
    """
    labels = np.asarray([item.label for item in items])
    rows: list[NDArray[np.float64]] = []
    for query in queries:
        of_class = labels == query.label
        candidates = [np.asarray([item.group != group for item in items]) for group in query.without]
        totals = [int((of_class & among).sum()) for among in candidates]
        if not all(totals):
            continue
        order = np.asarray(rank(library, items, query, modality), np.intp)
        values: list[tuple[float, ...]] = []
        for among, total in zip(candidates, totals, strict=True):
            relevant = of_class[order[among[order]]]
            at_random = chance(int(among.sum()), total)
            precision, mean_precision = precision_at(relevant, DEPTH), average_precision(relevant, total)
            values.append((precision, at_random[0], min(DEPTH, total) / DEPTH, mean_precision, at_random[1]))
        rows.append(np.mean(values, axis=0))
    return np.stack(rows)


@contextmanager
def indexed(items: Sequence[Item], model: str) -> Iterator[Library]:
    """Open a temporary library of the items' files."""
    with tempfile.TemporaryDirectory() as folder, mmsearch.open(folder, model=model) as library:
        report = library.index(*(item.path for item in items))
        print(f"  indexed {report.added:,} of {len(items):,} files in {report.seconds:.1f} s, {report.failed} failed")
        for failure in report.failures:
            print(f"  {failure.path}: {failure.stage}: {failure.reason}")
        yield library


def texts_of(items: Sequence[Item], *without: str) -> list[LabelledQuery]:
    """Return a text query for each class name."""
    names = sorted({item.label for item in items})
    print(f"  texts: {'; '.join(names)}")
    return [LabelledQuery(name, name, without or (None,)) for name in names]


def files_of(items: Sequence[Item]) -> list[LabelledQuery]:
    """Return a query by each item's file, which leaves out the item's group."""
    return [LabelledQuery(item.path, item.label, (item.group,)) for item in items]


def sound_directions(media: Path, collection: str, model: str, *, folds: bool) -> list[str]:
    """Index a collection of sounds; return a line for each of text→sound and sound→sound."""
    print(f"{collection}:")
    items = sounds(media / collection)
    with indexed(items, model) as library:
        texts = texts_of(items, *(sorted({item.group for item in items}) if folds else ()))
        return [
            line("text→sound", collection, measure(library, items, texts, Modality.AUDIO)),
            line("sound→sound", collection, measure(library, items, files_of(items), Modality.AUDIO)),
        ]


def video_directions(media: Path, model: str) -> list[str]:
    """Index the clips; return a line for each of text→video, sound→video and video→video."""
    print("av:")
    items = clips(media / "av")
    recordings = {file: label for label, names in HEARD.items() for name in names for file in (media / name).iterdir()}
    sound_queries = [LabelledQuery(file, label) for file, label in sorted(recordings.items())]
    with indexed(items, model) as library:
        return [
            line("text→video", "av", measure(library, items, texts_of(items), Modality.VIDEO)),
            line("sound→video", "av", measure(library, items, sound_queries, Modality.VIDEO)),
            line("video→video", "av", measure(library, items, files_of(items), Modality.VIDEO)),
        ]


def compare_fusions(media: Path) -> list[str]:
    """Index the clips; return a line for each other fusion of a clip's picture and sound, compared with the current."""
    items = clips(media / "av")
    others: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "best view": lambda z: z.max(axis=1),
        "least view": lambda z: z.min(axis=1),
        "mean of e^-z": lambda z: -np.log(np.exp(-z).mean(axis=1)),
    }
    lines: list[str] = []
    with indexed(items, "mini") as library:
        current = measure(library, items, files_of(items), Modality.VIDEO)[:, 3]
        for name, other in others.items():

            def fuse(
                z: NDArray[np.float32],
                together: Sequence[bool],
                _handicaps: Sequence[float],
                other: Any = other,  # noqa: ANN401
            ) -> NDArray[np.float32]:
                joint = z[:, np.asarray(together)]
                both = np.full(len(z), np.nan) if joint.shape[1] < 2 else other(joint)
                return np.asarray(np.where(np.isnan(both), np.nanmax(z, axis=1), both), np.float32)

            with mock.patch.object(ranking, "fuse", fuse):
                values = measure(library, items, files_of(items), Modality.VIDEO)[:, 3]
            low, high = interval(values - current)
            lines.append(
                f"video→video by {name}: mAP {values.mean():.3f}, "
                f"{(values - current).mean():+.3f} [{low:+.3f}, {high:+.3f}] to Σz/√2"
            )
    return lines


def line(direction: str, collection: str, rows: NDArray[np.float64]) -> str:
    """Return a line of the table for a result of `measure`."""
    precision, at_random, bound, mean, mean_at_random = rows.mean(axis=0)
    (low, high), (mean_low, mean_high) = interval(rows[:, 0]), interval(rows[:, 3])
    first = f"{precision:.3f} [{low:.3f}, {high:.3f}] {at_random:>7.3f} {bound:>8.3f}"
    second = f"{mean:.3f} [{mean_low:.3f}, {mean_high:.3f}] {mean_at_random:>7.3f}"
    return f"{direction:<12} {collection:<18} {len(rows):>7}  {first}  {second}"


def main() -> None:
    """Measure every direction and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    media, model = arguments.media.resolve(), arguments.model
    started = time.perf_counter()
    lines = sound_directions(media, "esc10", model, folds=True)
    lines += sound_directions(media, "urbansound8k", model, folds=False)
    for unseen in ("sounds/animals", "sounds/instruments"):
        lines += sound_directions(media, unseen, model, folds=False)
    lines += video_directions(media, model)
    head = (
        f"{'direction':<12} {'collection':<18} {'queries':>7}  {f'P@{DEPTH} [95 %]':<20} {'chance':>7} {'at most':>8}"
    )
    print(f"\n{head}  {'mAP [95 %]':<20} {'chance':>7}", *lines, sep="\n")
    print("", *compare_fusions(media), sep="\n")
    print(f"\n{time.perf_counter() - started:.0f} s in all; {CAVEAT}")


if __name__ == "__main__":
    main()
