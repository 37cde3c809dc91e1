"""Measure the score distributions of a space: the `background` table of its spec.json.

    python benchmarks/background.py --media DIR

Photos of several collections, captions and sounds are paired at random. DIR holds `caltech101/`, `flickr8k/`,
`places/`, `esc10/`, `sounds/` and `text/`. The command prints the mean and standard deviation of the cosine for each
pair of views.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
from pathlib import Path

import numpy as np
import soundfile
import soxr
from PIL import Image

from mmsearch.spaces import Space, Vectors, embed, load_profile
from mmsearch.types import View

PER_SOURCE = 400


def _pick(files: list[Path]) -> list[Path]:
    return random.Random(0).sample(sorted(files), min(PER_SOURCE, len(files)))


def _vectors(space: Space, media: Path) -> dict[View, Vectors]:
    photos = [p for folder in ("caltech101", "flickr8k", "places") for p in _pick([*(media / folder).rglob("*.jpg")])]
    sounds = [p for folder in ("esc10", "sounds") for p in _pick([*(media / folder).rglob("*.ogg")])]
    captions: list[str] = []
    for file in sorted((media / "text").glob("*.txt.gz")):
        lines = gzip.decompress(file.read_bytes()).decode().splitlines()
        captions += random.Random(0).sample(lines, PER_SOURCE)
    waves = [soundfile.read(p, dtype="float32", always_2d=True) for p in sounds]
    return {
        View.VISUAL: embed(space, View.VISUAL, [Image.open(p).convert("RGB") for p in photos]),
        View.AUDIO: embed(space, View.AUDIO, [soxr.resample(wave.mean(axis=1), rate, 16_000) for wave, rate in waves]),
        View.TEXT: embed(space, View.TEXT, captions),
    }


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    vectors = _vectors(load_profile(arguments.model).spaces[0], arguments.media)
    table = {}
    for first, second in itertools.combinations_with_replacement(sorted(vectors), 2):
        cosines = vectors[first] @ vectors[second].T
        if first == second:
            cosines = cosines[np.triu_indices(len(cosines), 1)]
        table[f"{first}-{second}"] = [round(float(cosines.mean()), 4), round(float(cosines.std()), 4)]
    print(json.dumps(table))


if __name__ == "__main__":
    main()
