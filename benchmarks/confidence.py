"""How well confidence tells what a collection holds from what it doesn't, and what near-duplicates are.

    python benchmarks/confidence.py --media DIR --cache DIR [--space mini] [--space stronger]

Half of Caltech-101's kinds are taken out of the collection; then every kind's name asks. AUROC is the probability that
a name that is there is given more confidence for its first answer than one that isn't; beside it stands that of the raw
cosine. Kinds that show one thing (faces, cougars, crocodiles, flamingos) are taken out together. Ten draws; intervals
are paired 95 % bootstraps over names within the first, and the range over draws is given too. Then, on all draws, what
a threshold would cut. Last, photos of Flickr8k dev are saved again, smaller and cropped: how alike are these, and how
alike are different photos?
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from embedded import Embedder, Flickr8k, asked_for
from numpy.typing import NDArray
from PIL import Image
from ranking import background, between, folder, kinds, said

from mmsearch.search.calibration import BankScores
from mmsearch.search.confidence import WEAK
from mmsearch.search.scoring import Background, Reach, bank, evidence, fit_reach, hubness, standardise
from mmsearch.spaces import embed
from mmsearch.types import View

Floats = NDArray[np.float32]
SAME = (
    {"Faces", "Faces_easy"},
    {"cougar_body", "cougar_face"},
    {"crocodile", "crocodile_head"},
    {"flamingo", "flamingo_head"},
)
"""Classes of Caltech-101 that show one thing."""
DRAWS, BOOTSTRAPS, ABSENT = 10, 2_000, 50
DEPTH = 60


def auroc(there: NDArray[np.float64], absent: NDArray[np.float64]) -> float:
    """Return the probability that what is there scores higher; half of it where they tie.

    >>> auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    return float(np.mean(there[:, None] > absent) + 0.5 * np.mean(there[:, None] == absent))


def best(z: Floats, items: Floats, hubs: Floats, pairs: Background) -> Floats:
    """Return (asks, DEPTH) the evidence of each query's first answers, best first."""
    rows = []
    for row in z:
        first = np.argsort(-row, kind="stable")[:DEPTH]
        rows.append(np.sort(evidence(row[first], hubs[first], items[first], pairs))[::-1])
    return np.stack(rows)


def evidence_of(asks: Floats, items: Floats, banked: Floats) -> tuple[Floats, Floats, Reach]:
    """Return (asks, DEPTH) the evidence of each query's first answers in a collection, best first.

    Then that of the bank's, and what these reach.
    """
    known, pairs = background(items, banked), between(items)
    mean, std = (float(np.median([getattr(one, name) for one in known])) for name in ("mean", "std"))
    asked = BankScores(
        banked, np.asarray([(one.std * std) ** 0.5 for one in known], np.float32), mean, std, Reach(0, 1), 0
    )
    z = asked.z(items)
    hubs = hubness(z)
    reached = best(z, items, hubs, pairs)
    own = [asked.background(one) for one in background(items, asks)]
    found = np.stack([standardise(row, one) for row, one in zip(asks @ items.T, own, strict=True)])
    return best(found, items, hubs, pairs), reached, fit_reach(reached[:, 0])


def draws(names: Sequence[str]) -> list[NDArray[np.bool_]]:
    """Return which names are taken out, in each draw."""
    units = [sorted(one) for one in SAME]
    units += [[name] for name in names if not any(name in one for one in SAME)]
    random = np.random.default_rng(5)
    found = []
    for _ in range(DRAWS):
        out: list[str] = []
        for n in random.permutation(len(units)).tolist():
            if len(out) + len(units[n]) <= ABSENT:
                out += units[n]
        found.append(np.isin(names, out))
    return found


def paired(there: NDArray[np.float64], absent: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[float]]:
    """Return the bootstrap interval of each of two AUROCs and of their difference; rows are confidence and cosine."""
    random = np.random.default_rng(0)
    samples = []
    for _ in range(BOOTSTRAPS):
        i, j = (random.integers(0, part.shape[1], part.shape[1]) for part in (there, absent))
        pair = [auroc(there[n, i], absent[n, j]) for n in (0, 1)]
        samples.append((*pair, pair[0] - pair[1]))
    whole = [auroc(there[n], absent[n]) for n in (0, 1)]
    return np.percentile(samples, (2.5, 97.5), axis=0), [*whole, whole[0] - whole[1]]


def present_or_absent(embedder: Embedder, space: str) -> None:
    """Print AUROC and what thresholds cut."""
    files = folder(embedder.media / "caltech101")
    labels, vectors = kinds(files), embedder.photos("caltech101", files, space)
    names = sorted(set(labels.tolist()))
    asks, banked = embedder.texts([said(name) for name in names]), embedder.texts(bank())
    values, cuts = [], {threshold: [0.0, 0.0, 0.0] for threshold in (0.02, 0.05, WEAK, 0.25, 0.5)}
    for n, gone in enumerate(draws(names)):
        items = vectors[~np.isin(labels, np.asarray(names)[gone])]
        evidences, _, reach = evidence_of(asks, items, banked)
        found = np.vectorize(reach.confidence)(evidences.astype(np.float64))
        pair = np.stack([found[:, 0], (asks @ items.T).max(axis=1).astype(np.float64)])
        values.append([auroc(row[~gone], row[gone]) for row in pair])
        if n == 0:
            bounds, whole = paired(pair[:, ~gone], pair[:, gone])
            for name, value, low, high in zip(("confidence", "cosine", "difference"), whole, *bounds, strict=True):
                print(f"  {name:<12} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
        for threshold, shares in cuts.items():
            shares[0] += float(np.mean(found[~gone, 0] < threshold)) / DRAWS
            shares[1] += float(np.mean(found[~gone, :10] < threshold)) / DRAWS
            shares[2] += float(np.mean(found[gone, 0] < threshold)) / DRAWS
    table = np.asarray(values)
    for name, column in zip(("confidence", "cosine", "difference"), [*table.T, table[:, 0] - table[:, 1]], strict=True):
        print(
            f"  {name:<12} mean of {DRAWS} draws {column.mean():+.3f}, from {column.min():+.3f} to {column.max():+.3f}"
        )
    for threshold, (first, ten, absent) in cuts.items():
        print(
            f"  below {threshold:.2f}: of names that are there {first:.0%} of first answers and {ten:.0%} of the first "
            f"ten, of names that aren't {absent:.0%} of first answers"
        )


def near_duplicates(embedder: Embedder) -> None:
    """Print how alike copies of a photo are, and how alike the nearest different photos."""
    dev = Flickr8k.read(embedder.media, "dev").files[:500]
    pictures = [Image.open(file).convert("RGB") for file in dev]

    def again(picture: Image.Image, quality: int, share: float, crop: float) -> Image.Image:
        side = round(picture.width * crop)
        cut = picture.crop((picture.width - side, picture.height - side, picture.width, picture.height))
        stream = io.BytesIO()
        cut.resize((round(side * share),) * 2).save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    def vectors(some: list[Image.Image]) -> Floats:
        return np.concatenate([embed(embedder.profile.spaces[0], View.VISUAL, some[at : at + 250]) for at in (0, 250)])

    originals = vectors(pictures)
    cosines = originals @ originals.T
    np.fill_diagonal(cosines, -1)
    print("near-duplicates in mini: percentiles 1, 5, 50 of the cosine to the original")
    for name, *how in (("JPEG 60", 60, 1, 1), ("half the size", 90, 0.5, 1), ("cropped to 90 %", 90, 1, 0.9)):
        alike = np.sum(originals * vectors([again(picture, *how) for picture in pictures]), axis=1)
        print(f"  {name:<16}", *(f"{value:.4f}" for value in np.percentile(alike, (1, 5, 50))))
    print("  nearest different photo: percentiles 50, 95, 99, 100 of the cosine")
    print("  ", *(f"{value:.4f}" for value in np.percentile(cosines.max(axis=1), (50, 95, 99, 100))))


def main() -> None:
    """Print all of it."""
    embedder, spaces = asked_for(__doc__)
    for space in spaces:
        print(f"{space}: the AUROC of names that are there against names that aren't")
        present_or_absent(embedder, space)
    near_duplicates(embedder)


if __name__ == "__main__":
    main()
