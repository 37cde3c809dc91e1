"""Class-level retrieval from and to sounds and videos, through a real library: precision@5 and mAP beside chance.

    python benchmarks/directions.py --media DIR [--model mini]

DIR holds `esc10/<class>`, `urbansound8k/<class>`, `sounds/{animals,instruments}/<class>` and `av/*.mp4` with
`av/labels.csv`. Each collection is indexed into a temporary library; every query ranks all of it, and a hit is right
if it is of the query's class.

- ESC-10: each fold (the first number of a name) asks in turn, the other folds answer. A class name asks each fold's
  complement, and counts once with the mean.
- UrbanSound8K: names show the recording (the first number), not the fold. Each file asks, and all slices of its own
  recording are left out, so that it isn't found again by its background noise. Class names ask all.
- av: the class is what `labels.csv` says is seen. `SEEN` brings labels of one thing together, any other label is a
  class of its own; each asks as it stands. Sounds of `ESC-10`, `UrbanSound8K` and `sounds` ask by `HEARD`. For
  video→video, clips of one source video (by name) don't answer each other, and classes left without another clip don't
  ask. Most classes are of few clips, which bounds precision@5: see the column "at most".

Intervals are 95 % bootstraps over queries: texts, sounds or clips. Queries of one class or recording aren't
independent, so that they are rather too narrow. Chance is the mean over random orders of the same candidates. What
can't be indexed, or is silent, stays a candidate, never found. `python -m doctest` on this file runs its examples.
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
"""Class of clips → the labels it is seen under."""

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
"""Class of clips → the folders of recordings of what sounds there."""

_SOURCE = re.compile(r"av_[a-z0-9]+_(?:(?P<ucf>v_\w+_g\d+)_c\d+|(?P<id>[\w-]{10,11}?)(?:_\d+)+)")
"""The source video in a clip's name: UCF-101's group, or a video's id before the times that were cut."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a collection; items of one group come from one recording or fold."""

    path: Path
    label: str
    group: str


@dataclass(frozen=True, slots=True)
class Asking:
    """A query: a text or a file, the class that is right, and one group to leave out (or None) for each ranking."""

    term: str | Path
    label: str
    without: tuple[str | None, ...] = (None,)


def average_precision(relevant: NDArray[np.bool_], total_relevant: int) -> float:
    """Return the mean, over all that is relevant, of the precision where it is found; 0 for what is never found.

    >>> average_precision(np.array([True, False, True, False]), 2)  # (1/1 + 2/3) / 2
    0.8333333333333333
    >>> average_precision(np.array([True, False, True, False]), 4)
    0.41666666666666663
    """
    found = np.flatnonzero(relevant)
    return float(np.sum(np.arange(1, len(found) + 1) / (found + 1)) / total_relevant)


def precision_at(relevant: NDArray[np.bool_], depth: int) -> float:
    """Return the share of the first `depth` that is relevant; a shorter ranking is filled up with what isn't.

    >>> precision_at(np.array([True, False, True, False, False, True]), 5)
    0.4
    """
    return float(np.sum(relevant[:depth]) / depth)


@cache
def chance(candidates: int, total_relevant: int) -> tuple[float, float]:
    """Return precision@5 and average precision of a random order, each the mean over `PERMUTATIONS`.

    Of one relevant in two, the average precision is 1 or 1/2.

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
    """Return the source video of a clip, or its own stem where the name shows none.

    >>> source_of("av_v2apiano_nwwHuxHMIpc_00000001.mp4"), source_of("av_ucf101_v_Archery_g05_c01.mp4")
    ('nwwHuxHMIpc', 'v_Archery_g05')
    >>> source_of("av_specvqgan_video_00331.mp4")
    'av_specvqgan_video_00331'
    """
    stem = Path(name).stem
    match = _SOURCE.fullmatch(stem)
    return match["ucf"] or match["id"] if match else stem


def rank(library: Library, items: Sequence[Item], asking: Asking, modality: Modality) -> list[int]:
    """Return the places in `items` of what a query finds, best first; nothing if its file can't be read."""
    place = {item.path: i for i, item in enumerate(items)}
    try:
        hits = library.query(asking.term, k=len(items), modalities={modality})
    except MediaError as error:
        print(f"  can't ask with {error}")
        return []
    return [place[hit.path] for hit in hits]


def measure(
    library: Library, items: Sequence[Item], queries: Sequence[Asking], modality: Modality
) -> NDArray[np.float64]:
    """Return (queries, 5): precision@5, its chance, its bound, average precision, its chance.

    A query to which nothing can answer isn't asked.
    """
    labels = np.asarray([item.label for item in items])
    rows: list[NDArray[np.float64]] = []
    for asking in queries:
        right = labels == asking.label
        candidates = [np.asarray([item.group != group for item in items]) for group in asking.without]
        totals = [int((right & among).sum()) for among in candidates]
        if not all(totals):
            continue
        order = np.asarray(rank(library, items, asking, modality), np.intp)
        each: list[tuple[float, ...]] = []
        for among, total in zip(candidates, totals, strict=True):
            relevant = right[order[among[order]]]
            at_random = chance(int(among.sum()), total)
            found = precision_at(relevant, DEPTH), average_precision(relevant, total)
            each.append((found[0], at_random[0], min(DEPTH, total) / DEPTH, found[1], at_random[1]))
        rows.append(np.mean(each, axis=0))
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


def texts_of(items: Sequence[Item], *without: str) -> list[Asking]:
    """Return a text query for each class, named as it is asked."""
    names = sorted({item.label for item in items})
    print(f"  texts: {'; '.join(names)}")
    return [Asking(name, name, without or (None,)) for name in names]


def files_of(items: Sequence[Item]) -> list[Asking]:
    """Return a query by each item's file, to all but its own group."""
    return [Asking(item.path, item.label, (item.group,)) for item in items]


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
    heard = [Asking(file, label) for file, label in sorted(recordings.items())]
    with indexed(items, model) as library:
        return [
            line("text→video", "av", measure(library, items, texts_of(items), Modality.VIDEO)),
            line("sound→video", "av", measure(library, items, heard, Modality.VIDEO)),
            line("video→video", "av", measure(library, items, files_of(items), Modality.VIDEO)),
        ]


def compare_fusions(media: Path) -> list[str]:
    """Index the clips; return how else a clip's picture and sound could be put together, each beside what is done."""
    items = clips(media / "av")
    others: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "best view": lambda z: z.max(axis=1),
        "least view": lambda z: z.min(axis=1),
        "mean of e^-z": lambda z: -np.log(np.exp(-z).mean(axis=1)),
    }
    found: list[str] = []
    with indexed(items, "mini") as library:
        done = measure(library, items, files_of(items), Modality.VIDEO)[:, 3]
        for name, other in others.items():

            def instead(
                z: NDArray[np.float32],
                together: Sequence[bool],
                _handicaps: Sequence[float],
                other: Any = other,  # noqa: ANN401
            ) -> NDArray[np.float32]:
                joint = z[:, np.asarray(together)]
                both = np.full(len(z), np.nan) if joint.shape[1] < 2 else other(joint)
                return np.asarray(np.where(np.isnan(both), np.nanmax(z, axis=1), both), np.float32)

            with mock.patch.object(ranking, "fuse", instead):
                values = measure(library, items, files_of(items), Modality.VIDEO)[:, 3]
            low, high = interval(values - done)
            found.append(
                f"video→video by {name}: mAP {values.mean():.3f}, "
                f"{(values - done).mean():+.3f} [{low:+.3f}, {high:+.3f}] to Σz/√2"
            )
    return found


def line(direction: str, collection: str, rows: NDArray[np.float64]) -> str:
    """Return a line of the table for what `measure` returned."""
    precision, at_random, bound, mean, mean_at_random = rows.mean(axis=0)
    (low, high), (mean_low, mean_high) = interval(rows[:, 0]), interval(rows[:, 3])
    first = f"{precision:.3f} [{low:.3f}, {high:.3f}] {at_random:>7.3f} {bound:>8.3f}"
    second = f"{mean:.3f} [{mean_low:.3f}, {mean_high:.3f}] {mean_at_random:>7.3f}"
    return f"{direction:<12} {collection:<18} {len(rows):>7}  {first}  {second}"


def main() -> None:
    """Index, ask, print."""
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
