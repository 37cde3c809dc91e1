"""Measure the recall of a model on Flickr8k, text→image and image→text, in a real library.

    python benchmarks/flickr8k.py --media DIR [--model mini] [--split dev]

DIR holds `flickr8k/captions.jsonl` and `flickr8k/<split>/*.jpg`. The photos are indexed into a temporary library. Then
all photos are ranked for every caption, and all captions for every photo. Intervals are 95 % bootstraps over photos.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mmsearch
from mmsearch.catalog import Catalog
from mmsearch.folder import CATALOG
from mmsearch.spaces import load_profile
from mmsearch.types import View

LEVELS = (1, 5, 10)
BOOTSTRAPS = 1_000


def _photos(media: Path, split: str) -> tuple[list[Path], list[list[str]]]:
    lines = (media / "flickr8k" / "captions.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == split]
    return [media / "flickr8k" / split / row["image"] for row in rows], [row["captions"] for row in rows]


def _stored_vectors(folder: Path, model: str, photos: list[Path]) -> NDArray[np.float32]:
    """Index the photos and return their vectors in the catalog, (n, dim), in the photos' order."""
    with mmsearch.open(folder, model=model) as library:
        report = library.index(*{photo.parent for photo in photos})
        print(f"indexed {report.added:,} photos in {report.seconds:.1f} s, {report.failed} failed")
    space = load_profile(model).spaces[0]
    catalog = Catalog(folder / CATALOG)
    space_id = catalog.space_id(space.name, space.fingerprint, space.dim)
    assert space_id is not None
    ids, vectors = catalog.vectors(catalog.embedding_ids(space_id, View.VISUAL), space.dim)
    segments = catalog.segments_of(ids.tolist())
    rows = catalog.segment_rows(segments.values())
    row_of = {rows[segments[i]].path: n for n, i in enumerate(ids.tolist())}
    return vectors[[row_of[bytes(photo.absolute())] for photo in photos]]


def _show(direction: str, ranks: NDArray[np.int64], groups: NDArray[np.int64]) -> None:
    """Print recall with its interval; `groups` has the photo of each rank."""
    random = np.random.default_rng(0)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    for level in LEVELS:
        found = 100.0 * (ranks < level)
        means = np.asarray([found[rows].mean() for rows in members])
        draws = means[random.integers(0, len(means), (BOOTSTRAPS, len(means)))].mean(axis=1)
        low, high = np.percentile(draws, (2.5, 97.5))
        print(f"{direction} R@{level:<2} {found.mean():5.1f}  [{low:.1f}, {high:.1f}]")


def main() -> None:
    """Measure and print both directions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="dev")
    arguments = parser.parse_args()
    photos, captions = _photos(arguments.media.resolve(), arguments.split)
    with tempfile.TemporaryDirectory() as folder:
        images = _stored_vectors(Path(folder), arguments.model, photos)
    owner = np.repeat(np.arange(len(photos)), [len(texts) for texts in captions])
    texts = mmsearch.embed([text for several in captions for text in several], model=arguments.model)
    scores = texts @ images.T
    own = scores[np.arange(len(owner)), owner]
    _show("text→image", (scores > own[:, None]).sum(axis=1), owner)
    best = np.asarray([own[owner == photo].max() for photo in range(len(photos))])
    _show("image→text", (scores > best).sum(axis=0), np.arange(len(photos)))


if __name__ == "__main__":
    main()
