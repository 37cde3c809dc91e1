"""Measure `mmsearch adapt` with true captions, where it should gain, and with shuffled ones, where it shouldn't adapt.

    python benchmarks/adapt.py --media DIR [--model mini|random] [--split train] [--photos 3000]

DIR holds `flickr8k/captions.jsonl` and `flickr8k/<split>/*.jpg`. Every second photo of a split is indexed with its
captions, and the library is adapted. The test queries are captions of the dev split whose photos the library doesn't
have; the result is their text→image recall@10 in the old and in the new space. Then everything is repeated with
shuffled captions. The model `random` has towers with random weights. With `--split dev`, the other half is tested.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from towers import make_checkpoint

import mmsearch
from mmsearch.metrics import Interval, bootstrap, paired_bootstrap
from mmsearch.search.encode import embed_items
from mmsearch.settings import Limits
from mmsearch.spaces import AdaptedSpace, Profile, embed
from mmsearch.types import View

SEED = 0
DEPTH = 10
SMALL = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 256, "patch_size": 16, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 1},
}
_CHUNK = 100

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo and its captions."""

    file: Path
    captions: list[str]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Photos (n, dim), captions (m, dim), and the photo of each caption."""

    photos: Vectors
    captions: Vectors
    owners: NDArray[np.int64]

    @classmethod
    def of(cls, photos: Sequence[Photo], profile: Profile) -> TestSet:
        """Embed photos and captions with a model's first space."""
        parts = [photos[at : at + _CHUNK] for at in range(0, len(photos), _CHUNK)]
        return cls(
            np.concatenate([embed_items([photo.file for photo in part], profile, Limits()) for part in parts]),
            embed(profile.spaces[0], View.TEXT, [text for photo in photos for text in photo.captions]),
            np.repeat(np.arange(len(photos)), [len(photo.captions) for photo in photos]),
        )

    def recall(self, space: AdaptedSpace | None) -> NDArray[np.float64]:
        """Return for each photo, (n,), the share of its captions that rank it among the first ten."""
        photos, captions = self.photos, self.captions
        if space is not None:
            photos, captions = space.head(View.VISUAL, photos), space.head(View.TEXT, captions)
        scores = captions @ photos.T
        own = scores[np.arange(len(scores)), self.owners]
        found = ((scores > own[:, None]).sum(axis=1) < DEPTH).astype(np.float64)
        return np.asarray(np.bincount(self.owners, found) / np.bincount(self.owners))


def read(media: Path, split: str) -> list[Photo]:
    """Return the photos of a split, by name."""
    lines = (media / "flickr8k" / "captions.jsonl").read_text("utf-8").splitlines()
    rows = sorted((row for row in map(json.loads, lines) if row["split"] == split), key=lambda row: str(row["image"]))
    return [Photo(media / "flickr8k" / split / row["image"], row["captions"]) for row in rows]


def fill(folder: Path, photos: Sequence[Photo], *, shuffled: bool) -> None:
    """Copy photos into a folder with a caption file each, whose captions are its own or another photo's."""
    folder.mkdir()
    captions = [photo.captions for photo in photos]
    if shuffled:
        order = np.random.default_rng(SEED).permutation(len(photos))
        owners = np.empty_like(order)
        owners[order] = np.roll(order, 1)  # a permutation without fixed points
        captions = [captions[n] for n in owners.tolist()]
    for photo, texts in zip(photos, captions, strict=True):
        shutil.copy(photo.file, folder)
        (folder / photo.file.with_suffix(".txt").name).write_text("\n".join(texts) + "\n", "utf-8")


def measure(folder: Path, model: str, known: Sequence[Photo], unknown: Sequence[Photo], *, shuffled: bool) -> None:
    """Index and adapt a library of the known photos, and print the results on the unknown ones."""
    print(f"\n{'captions shuffled' if shuffled else 'captions as they are'}: {len(known):,} photos, {model}")
    fill(folder / "photos", known, shuffled=shuffled)
    with mmsearch.open(folder / "library", model=model) as library:
        report = library.index(folder / "photos")
        print(f"  indexed {report.added:,} in {report.seconds:.0f} s")
        test_set = TestSet.of(unknown, library.seen().profile)
        adapted = library.adapt()
        for gain in adapted.gains:
            print(
                f"  held out {gain.direction:<12} {gain.metric} {gain.before:.3f} → {gain.after:.3f} "
                f"{_format(gain.difference)}"
            )
        verdict = "adapted" if adapted.adapted else "kept"
        print(f"  {verdict}: {_format(adapted.overall)} over {adapted.pairs:,} pairs, {adapted.seconds:.0f} s")
        space = library.seen().profile.spaces[0]
        before = test_set.recall(None)
        after = test_set.recall(space if isinstance(space, AdaptedSpace) else None)
        name = f"dev text→image recall@10, {len(unknown):,} photos"
        print(f"  {name}: {100 * before.mean():.2f} {_format(bootstrap(before), 100)}")
        print(f"    → {100 * after.mean():.2f}, difference {_format(paired_bootstrap(after, before), 100)}")


def _format(interval: Interval, scale: float = 1.0) -> str:
    value, low, high = (f"{scale * number:+.3f}" for number in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Measure with true and with shuffled captions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="train")
    parser.add_argument("--photos", type=int, default=3_000)
    arguments = parser.parse_args()
    media = arguments.media.resolve()
    known = read(media, arguments.split)[::2][: arguments.photos]
    unknown = [photo for photo in read(media, "dev") if photo not in known]
    with tempfile.TemporaryDirectory() as name:
        model = arguments.model
        if model == "random":
            model = f"local-dir:{make_checkpoint(Path(name, 'random'), SMALL)}"
        for shuffled in (False, True):
            folder = Path(name, "shuffled" if shuffled else "true")
            folder.mkdir()
            measure(folder, model, known, unknown, shuffled=shuffled)


if __name__ == "__main__":
    main()
