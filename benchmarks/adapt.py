"""Whether `mmsearch adapt` gains where captions say something, and keeps its hands off where they don't.

    python benchmarks/adapt.py --media DIR [--model mini|random] [--split train] [--photos 3000]

DIR holds `flickr8k/captions.jsonl` and `flickr8k/<split>/*.jpg`. Every other photo of a split goes into a library with
its captions beside it, and the library is adapted; then the captions of the dev split, of photos that the library
doesn't have, ask for their photos: text→image recall@10 by the old and by the new space. Then all of it again with the
captions shuffled. The model `random` has towers with random weights. Of the split dev, what isn't learnt from is asked.
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
class Asked:
    """Photos (n, dim), captions (m, dim), and the photo of each caption."""

    photos: Vectors
    captions: Vectors
    owners: NDArray[np.int64]

    @classmethod
    def of(cls, photos: Sequence[Photo], profile: Profile) -> Asked:
        """Embed photos and captions by a profile's first space."""
        parts = [photos[at : at + _CHUNK] for at in range(0, len(photos), _CHUNK)]
        return cls(
            np.concatenate([embed_items([photo.file for photo in part], profile, Limits()) for part in parts]),
            embed(profile.spaces[0], View.TEXT, [text for photo in photos for text in photo.captions]),
            np.repeat(np.arange(len(photos)), [len(photo.captions) for photo in photos]),
        )

    def recall(self, space: AdaptedSpace | None) -> NDArray[np.float64]:
        """Return for each photo the share of its captions that find it among the first ten."""
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
    """Copy photos into a folder, each with its captions beside it, or with those of another."""
    folder.mkdir()
    captions = [photo.captions for photo in photos]
    if shuffled:
        order = np.random.default_rng(SEED).permutation(len(photos))
        moved = np.empty_like(order)
        moved[order] = np.roll(order, 1)  # a permutation that leaves no photo its own
        captions = [captions[n] for n in moved.tolist()]
    for photo, texts in zip(photos, captions, strict=True):
        shutil.copy(photo.file, folder)
        (folder / photo.file.with_suffix(".txt").name).write_text("\n".join(texts) + "\n", "utf-8")


def measure(folder: Path, model: str, known: Sequence[Photo], asked: Sequence[Photo], *, shuffled: bool) -> None:
    """Index, adapt, ask, and print all that came of it."""
    print(f"\n{'captions shuffled' if shuffled else 'captions as they are'}: {len(known):,} photos, {model}")
    fill(folder / "photos", known, shuffled=shuffled)
    with mmsearch.open(folder / "library", model=model) as library:
        report = library.index(folder / "photos")
        print(f"  indexed {report.added:,} in {report.seconds:.0f} s")
        questions = Asked.of(asked, library.seen().profile)
        adapted = library.adapt()
        for gain in adapted.gains:
            print(
                f"  held out {gain.direction:<12} {gain.metric} {gain.before:.3f} → {gain.after:.3f} "
                f"{_said(gain.difference)}"
            )
        verdict = "adapted" if adapted.adapted else "kept"
        print(f"  {verdict}: {_said(adapted.overall)} over {adapted.pairs:,} pairs, {adapted.seconds:.0f} s")
        space = library.seen().profile.spaces[0]
        before = questions.recall(None)
        after = questions.recall(space if isinstance(space, AdaptedSpace) else None)
        name = f"dev text→image recall@10, {len(asked):,} photos"
        print(f"  {name}: {100 * before.mean():.2f} {_said(bootstrap(before), 100)}")
        print(f"    → {100 * after.mean():.2f}, difference {_said(paired_bootstrap(after, before), 100)}")


def _said(interval: Interval, scale: float = 1.0) -> str:
    value, low, high = (f"{scale * number:+.3f}" for number in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Measure with captions as they are and shuffled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="train")
    parser.add_argument("--photos", type=int, default=3_000)
    arguments = parser.parse_args()
    media = arguments.media.resolve()
    known = read(media, arguments.split)[::2][: arguments.photos]
    asked = [photo for photo in read(media, "dev") if photo not in known]
    with tempfile.TemporaryDirectory() as name:
        model = arguments.model
        if model == "random":
            model = f"local-dir:{make_checkpoint(Path(name, 'random'), SMALL)}"
        for shuffled in (False, True):
            folder = Path(name, "shuffled" if shuffled else "true")
            folder.mkdir()
            measure(folder, model, known, asked, shuffled=shuffled)


if __name__ == "__main__":
    main()
