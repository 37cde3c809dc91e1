"""Measure the effect of hubness correction and agreement re-ranking in each direction.

    pip install ai-edge-litert
    python benchmarks/ranking.py --media DIR --cache DIR [--space mini] [--space stronger]

Every collection is embedded in `mini` and in a simulated stronger space (see embedded.py), and ranked exhaustively with
the engine's own functions. The constants of `search.scoring` were chosen on the first half (even files) of each
collection of classes; only the second half is reported. Class names are queries for classes that mini wasn't trained on
(flowers, clothing, places) and for some that it was (Caltech-101). A synthetic clip is a photo and a sound of a class.

Differences are paired, with a 95 % bootstrap over classes, or over photos if captions are the queries. A star marks
p < 0.05 after Holm's correction for all differences of the table.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from embedded import Embedder, Flickr8k, asked_for
from numpy.typing import NDArray

from mmsearch.search.calibration import SAMPLE
from mmsearch.search.scoring import (
    STRENGTH,
    Background,
    agreeing,
    agreement,
    bank,
    estimate_background,
    fuse,
    how_many,
    hubness,
    positives,
    rerank,
    standardise,
    strength,
    trust,
)

Floats = NDArray[np.float32]
Views = Literal["mean", "min", "soft-min"]
DRAWS = 5_000
HUB = 0.25
"""Share of hubness that is subtracted from a score: of 0.25, 0.5 and 1, the one that loses least on first halves."""
CROSS_VIEW_PENALTY = 1.0
UNTRAINED = ("flowers", "clothing", "places/weather", "places/houses")
SOUNDS = ("esc10", "urbansound8k")
CLIPS = (
    ("bird", "sounds/animals/bird", "tiny_imagenet", ("n01855672", "n02002724", "n02058221", "n02056570")),
    ("cat", "sounds/animals/cat", "tiny_imagenet", ("n02123045", "n02123394", "n02124075")),
    ("cow", "sounds/animals/cow", "tiny_imagenet", ("n02403003",)),
    ("dog", "sounds/animals/dog", "tiny_imagenet", ("n02085620", "n02094433", "n02099601", "n02099712")),
    ("frog", "sounds/animals/frog", "tiny_imagenet", ("n01641577", "n01644900")),
    ("lion", "sounds/animals/lion", "tiny_imagenet", ("n02129165",)),
    ("monkey", "sounds/animals/monkey", "tiny_imagenet", ("n02480495", "n02481823", "n02486410")),
    ("sheep", "sounds/animals/sheep", "tiny_imagenet", ("n02415577",)),
    ("rooster", "esc10/rooster", "caltech101", ("rooster",)),
    ("helicopter", "esc10/helicopter", "caltech101", ("helicopter",)),
    ("clock", "esc10/clock_tick", "caltech101", ("watch",)),
    ("sea", "esc10/sea_waves", "tiny_imagenet", ("n09428293",)),
    ("rain", "esc10/rain", "places/weather", ("rain",)),
    ("gun", "urbansound8k/gun_shot", "caltech101", ("revolver",)),
    ("car", "urbansound8k/engine_idling", "tiny_imagenet", ("n04285008",)),
    ("police siren", "urbansound8k/siren", "tiny_imagenet", ("n03977966",)),
    ("saxophone", "sounds/instruments/saxophone", "caltech101", ("saxophone",)),
    ("guitar", "sounds/instruments/acoustic_guitar", "caltech101", ("electric_guitar",)),
)


@dataclass(slots=True)
class Direction:
    """Queries over a collection, with a vector for each view, and their `relevant` items (queries, items).

    `without` are items that a query doesn't rank, `groups` the units of the bootstrap, `texts` the queries' texts (None
    if the queries are files), and `crossing` marks views that are searched with a query of another view.
    """

    name: str
    items: Sequence[Floats]
    asks: Sequence[Floats]
    relevant: NDArray[np.bool_]
    groups: Sequence[object]
    metrics: tuple[str, ...]
    texts: Sequence[str] | None = None
    without: NDArray[np.bool_] | None = None
    crossing: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """A way of ranking: the share of hubness to subtract, and the strength of agreement (None: off)."""

    hub: float = 0.0
    agree: float | Literal["default"] | None = None
    views: Views = "mean"
    trusted: bool = False
    positives: int | None = None


def background(items: Floats, vectors: Floats) -> list[Background]:
    """Return the score distribution of each vector against a sample of the items."""
    sample = items[np.random.default_rng(0).permutation(len(items))[:SAMPLE]]
    prior = Background(0.0, items.shape[1] ** -0.5)
    return [estimate_background(cosines, prior) for cosines in vectors @ sample.T]


def between(items: Floats, others: Floats | None = None) -> Background:
    """Return the score distribution of two unrelated items, or of two unrelated views."""
    chosen = np.random.default_rng(1).permutation(len(items))[:256]
    cosines = items[chosen] @ (items if others is None else others)[chosen].T
    return estimate_background(cosines[np.triu_indices(len(chosen), 1)], Background(0.0, items.shape[1] ** -0.5))


def scores(direction: Direction, bank_vectors: Floats, way: Way) -> Iterator[Floats]:
    """Yield the scores (items,) of each query; items that it doesn't rank are NaN."""
    items = direction.items
    backgrounds = [background(view, asks) for view, asks in zip(items, direction.asks, strict=True)]
    handicaps = [CROSS_VIEW_PENALTY * crossing for crossing in direction.crossing or [False] * len(items)]
    pairs = [between(view) for view in items]
    hubs = [hubness(z_of(view, bank_vectors)) for view in items] if way.hub else []
    own = np.ones(len(items[0]), np.float32)
    if way.trusted and len(items) == 2:
        own = trust(standardise(np.sum(items[0] * items[1], axis=1), between(items[0], items[1])))
    for q in range(len(direction.relevant)):
        z = np.stack(
            [standardise(v @ a[q], b[q]) for v, a, b in zip(items, direction.asks, backgrounds, strict=True)], axis=1
        )
        if way.hub:
            z -= way.hub * np.stack(hubs, axis=1)
        fused = fuse(z, [False] * len(items), handicaps)
        if direction.without is not None:
            fused[direction.without[q]] = np.nan
        yield fused if way.agree is None else agreed(direction, fused, pairs, own, q, way)


def agreed(direction: Direction, fused: Floats, pairs: list[Background], own: Floats, q: int, way: Way) -> Floats:
    """Return a query's scores re-ranked by agreement."""
    first, weights = positives(np.where(np.isnan(fused), -np.inf, fused), way.positives or how_many(len(fused)))
    texts = [] if direction.texts is None else [direction.texts[q]]
    by = strength(fused[first], texts) if way.agree == "default" else float(way.agree or 0)
    if not by:
        return fused
    weights = weights * own[first] / max(float((weights * own[first]).sum()), 1e-12)
    similarity = [standardise(view @ view[first].T, pair) for view, pair in zip(direction.items, pairs, strict=True)]
    return rerank(
        fused, agreement(agreeing(similarity, way.views), weights), first, weights, np.zeros(len(fused), np.int64), by
    )


def z_of(items: Floats, vectors: Floats) -> Floats:
    """Return the z-scores (vectors, items) of each vector's cosines by its own score distribution."""
    rows = [standardise(row, own) for row, own in zip(vectors @ items.T, background(items, vectors), strict=True)]
    return np.stack(rows)


def measure(direction: Direction, bank_vectors: Floats, way: Way) -> Mapping[str, NDArray[np.float64]]:
    """Return the values (queries,) of each metric."""
    rows = []
    for q, values in enumerate(scores(direction, bank_vectors, way)):
        order = np.argsort(-np.where(np.isnan(values), -np.inf, values), kind="stable")
        hits = np.flatnonzero(direction.relevant[q][order][: int((~np.isnan(values)).sum())])
        precision = np.mean(np.arange(1, len(hits) + 1) / (hits + 1)) if len(hits) else 0.0
        rank = hits[0] + 1 if len(hits) else np.inf
        rows.append((precision, 1 / rank, float(rank <= 1), float(rank <= 10)))
    return dict(zip(("map", "mrr", "recall@1", "recall@10"), np.asarray(rows).T, strict=True))


def difference(
    after: NDArray[np.float64], before: NDArray[np.float64], groups: Sequence[object]
) -> tuple[float, float, float, float]:
    """Return the mean difference over groups, its 95 % bootstrap interval, and its two-sided p-value.

    >>> difference(np.ones(8), np.zeros(8), range(8))[:3]
    (1.0, 1.0, 1.0)
    >>> difference(np.array([1.0, 0, 1, 0]), np.array([0.0, 1, 0, 1]), range(4))[0]
    0.0
    """
    names = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    of = np.asarray([names[group] for group in groups])
    values = np.bincount(of, after - before) / np.bincount(of)
    drawn = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    means = values[drawn].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    p = 2 * min(float(np.mean(means <= 0)), float(np.mean(means >= 0)))
    return float(values.mean()), float(low), float(high), min(1.0, max(p, 1 / DRAWS))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple testing (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for n, i in enumerate(np.argsort(ps).tolist()):
        highest = max(highest, min(1.0, ps[i] * (len(ps) - n)))
        adjusted[i] = highest
    return adjusted


def folder(path: Path) -> list[Path]:
    """Return the files in a folder of classes, sorted by path."""
    return sorted(file for file in path.glob("*/*") if file.is_file() and file.parent.name != "BACKGROUND_Google")


def kinds(files: Sequence[Path]) -> NDArray[np.str_]:
    """Return the class of each file."""
    return np.asarray([file.parent.name for file in files])


def said(name: str) -> str:
    """Return the name of a class as a person types it."""
    return name.replace("_", " ").lower()


class Bench:
    """The directions of one space, on the second halves of collections (`half` 1) or the first (0)."""

    def __init__(self, embedder: Embedder, space: str, half: int = 1) -> None:
        self.embedder, self.space, self.half = embedder, space, half
        self.bank = embedder.texts(bank())

    def directions(self) -> Iterator[Direction]:
        """Yield every direction of the table."""
        names, vectors = self.photos(UNTRAINED)
        yield self.by_name("names→photo, kinds not trained on", names, vectors)
        yield self.by_example("photo→photo, kinds not trained on", names, vectors, 400)
        names, vectors = self.photos(("caltech101",))
        yield self.by_name("names→photo, Caltech-101", np.where(names == "Faces_easy", "Faces", names), vectors)
        yield from self.captions()
        for name in SOUNDS:
            files = folder(self.embedder.media / name)
            names, heard = kinds(files), self.embedder.sounds(name.replace("/", "-"), files, self.space)
            yield self.by_name(f"names→sound, {name}", names, heard)
            takes = np.asarray([file.name.split("-")[0] for file in files])
            yield self.by_example(f"sound→sound, {name}", names, heard, len(files), takes)
        yield from self.clips()

    def photos(self, places: Sequence[str]) -> tuple[NDArray[np.str_], Floats]:
        """Return the classes and the vectors of every second photo."""
        every = [(f, v) for p in places for f, v in zip(*self._photos(p), strict=True)]
        half = every[self.half :: 2]
        return kinds([file for file, _ in half]), np.stack([vector for _, vector in half])

    def _photos(self, place: str) -> tuple[list[Path], Floats]:
        files = folder(self.embedder.media / place)
        return files, self.embedder.photos(place.replace("/", "-"), files, self.space)

    def by_name(self, name: str, labels: NDArray[np.str_], vectors: Floats) -> Direction:
        """Return the direction in which the names of classes are the queries."""
        classes = sorted(set(labels.tolist()))
        texts = [said(label) for label in classes]
        asks = self.embedder.texts(texts)
        return Direction(name, [vectors], [asks], np.asarray(classes)[:, None] == labels, classes, ("map",), texts)

    def by_example(
        self, name: str, labels: NDArray[np.str_], vectors: Floats, most: int, takes: NDArray[np.str_] | None = None
    ) -> Direction:
        """Return the direction in which items are queries for their class; items of the same take are left out."""
        chosen = np.random.default_rng(0).permutation(len(labels))[:most]
        same = np.arange(len(labels)) == chosen[:, None] if takes is None else takes[chosen][:, None] == takes
        if takes is not None and len(set(takes.tolist())) < 10:  # these are folds rather than recordings
            same = np.arange(len(labels)) == chosen[:, None]
        relevant = (labels[chosen][:, None] == labels) & ~same
        answerable = relevant.any(axis=1)
        queries, groups = vectors[chosen[answerable]], labels[chosen][answerable].tolist()
        return Direction(name, [vectors], [queries], relevant[answerable], groups, ("map",), without=same[answerable])

    def captions(self) -> Iterator[Direction]:
        """Yield the directions of Flickr8k dev, with its captions in four languages as queries."""
        dev = Flickr8k.read(self.embedder.media, "dev")
        vectors = self.embedder.photos("flickr8k-dev", dev.files, self.space)
        for language in ("en", "de", "fr", "cs"):
            pairs = [(n, row[language]) for n, row in enumerate(dev.parallel) if row.get(language)]
            if language == "en":
                pairs = [(n, text) for n, captions in enumerate(dev.captions) for text in captions]
            owners = np.asarray([n for n, _ in pairs])
            texts = [text for _, text in pairs]
            yield Direction(
                f"captions→photo, Flickr8k {language}",
                [vectors],
                [self.embedder.texts(texts)],
                np.arange(len(vectors)) == owners[:, None],
                owners.tolist(),
                ("recall@1", "recall@10", "mrr"),
                texts,
            )

    def clips(self) -> Iterator[Direction]:
        """Yield the directions of synthetic clips, with class names and sounds of the other half as queries."""
        frames, sounds, labels = [], [], []
        random = np.random.default_rng(0)
        for name, sound_folder, photo_folder, classes in CLIPS:
            files = sorted((self.embedder.media / sound_folder).iterdir())
            sound_vectors = self.embedder.sounds(sound_folder.replace("/", "-"), files, self.space)
            every, vectors = self._photos(photo_folder)
            of_class = vectors[np.isin(kinds(every), classes)]
            n = min(len(files), len(of_class))
            frames.append(of_class[random.permutation(len(of_class))[:n]])
            sounds.append(sound_vectors[random.permutation(len(files))[:n]])
            labels += [name] * n
        kind, visual, audio = np.asarray(labels), np.concatenate(frames), np.concatenate(sounds)
        half = np.arange(len(kind)) % 2 == self.half
        texts = [name for name, *_ in CLIPS]
        asks = self.embedder.texts(texts)
        views = [visual[half], audio[half]]
        relevant = np.asarray(texts)[:, None] == kind[half]
        yield Direction("text→clip", views, [asks, asks], relevant, texts, ("map",), texts)
        queries, classes_of = audio[~half], kind[~half]
        relevant = classes_of[:, None] == kind[half]
        groups = classes_of.tolist()
        yield Direction("sound→clip", views, [queries, queries], relevant, groups, ("map",), crossing=(True, False))


def table(bench: Bench) -> None:
    """Print the changes by hubness correction, agreement and both in every direction."""
    ways = {"+ hubness": Way(HUB), "+ agreement": Way(0, "default"), "+ both": Way(HUB, "default")}
    rows: list[tuple[str, str, float, list[tuple[float, float, float, float]]]] = []
    for direction in bench.directions():
        plain = measure(direction, bench.bank, Way())
        others = [measure(direction, bench.bank, way) for way in ways.values()]
        for metric in direction.metrics:
            changes = [difference(other[metric], plain[metric], direction.groups) for other in others]
            rows.append((direction.name, metric, float(plain[metric].mean()), changes))
    adjusted = holm([change[3] for *_, changes in rows for change in changes])
    print(f"{'direction':<36} {'metric':<10} {'plain':>6}  " + "  ".join(f"{name:<25}" for name in ways))
    for n, (name, metric, value, changes) in enumerate(rows):
        cells = []
        for m, (change, low, high, _) in enumerate(changes):
            star = "*" if adjusted[len(ways) * n + m] < 0.05 else ""
            cells.append(f"{100 * change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{star}")
        print(f"{name:<36} {metric:<10} {100 * value:>6.1f}  " + "  ".join(f"{cell:<25}" for cell in cells))


def compare(bench: Bench, ways: Mapping[str, Way], wanted: Callable[[Direction], bool]) -> None:
    """Print the differences in mAP between several ways of ranking and the plain one."""
    for direction in filter(wanted, bench.directions()):
        plain = measure(direction, bench.bank, Way())["map"]
        for name, way in ways.items():
            values = measure(direction, bench.bank, way)["map"]
            change, low, high, _ = difference(values, plain, direction.groups)
            print(f"{direction.name:<36} {name:<28} {100 * change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")


def fusions(bench: Bench) -> None:
    """Print the mAP of several fusions of two views, without re-ranking."""
    ways: dict[str, Callable[[Floats], Floats]] = {
        "soft maximum": lambda z: fuse(z, [False, False]),
        "maximum": lambda z: z.max(axis=1),
        "mean": lambda z: z.mean(axis=1),
        "pictures, 0.3 of the sound": lambda z: z @ np.asarray([1, 0.3], np.float32),
        "sound, 0.3 of the picture": lambda z: z @ np.asarray([0.3, 1], np.float32),
    }
    for direction in (direction for direction in bench.directions() if len(direction.items) > 1):
        z = np.stack([z_of(view, asks) for view, asks in zip(direction.items, direction.asks, strict=True)], axis=-1)
        z -= CROSS_VIEW_PENALTY * np.asarray(direction.crossing or (False, False))
        for name, way in ways.items():
            values = []
            for row, right in zip(z, direction.relevant, strict=True):
                hits = np.flatnonzero(right[np.argsort(-way(row), kind="stable")])
                values.append(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))
            print(f"{direction.name:<36} {name:<28} {100 * np.mean(values):.1f}")


def main() -> None:
    """Print the tables of each space."""
    embedder, spaces = asked_for(__doc__)
    kinds_only = lambda direction: direction.metrics == ("map",)  # noqa: E731
    for space in spaces:
        began = time.perf_counter()
        print(f"\n{space}: second halves; differences x 100")
        table(Bench(embedder, space))
        print(f"\n{space}: fusions of views, mAP")
        fusions(Bench(embedder, space))
        print(f"\n{space}: agreement over views, and lower weights for dubbed clips (always on, second halves)")
        ways: dict[str, Way] = {f"by the {views}": Way(0, STRENGTH, views) for views in ("mean", "min", "soft-min")}
        ways["by the mean, trusted"] = Way(0, STRENGTH, trusted=True)
        compare(Bench(embedder, space), ways, lambda direction: len(direction.items) > 1)
        print(f"\n{space}: strength and number of positives, always on, first halves")
        grid = itertools.product((0.3, 0.6, 1.0), (8, 16))
        compare(
            Bench(embedder, space, 0), {f"λ {by}, {k} positives": Way(0, by, positives=k) for by, k in grid}, kinds_only
        )
        print(f"({time.perf_counter() - began:.0f} s)")


if __name__ == "__main__":
    main()
