"""Draw `docs/ranking.png`: the scales before and after, and what confidence is read off.

pip install matplotlib ai-edge-litert
python benchmarks/plots.py --media DIR --cache DIR [--out docs/ranking.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from confidence import Floats, draws, evidence_of
from embedded import Embedder, Flickr8k
from matplotlib import pyplot
from numpy.typing import NDArray
from ranking import SOUNDS, folder, kinds, said, z_of

from mmsearch.search.scoring import bank


def main() -> None:
    """Draw three panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/ranking.png"))
    arguments = parser.parse_args()
    mpl.use("Agg")
    embedder = Embedder(arguments.media.resolve(), arguments.cache)
    texts = embedder.texts(bank())
    photos = embedder.photos("flickr8k-dev", Flickr8k.read(embedder.media, "dev").files, "mini")
    files = {name: folder(embedder.media / name) for name in SOUNDS}
    sounds = np.concatenate([embedder.sounds(name, some, "mini") for name, some in files.items()])
    captions = embedder.texts([captions[0] for captions in Flickr8k.read(embedder.media, "dev").captions])
    pairs: dict[str, tuple[Floats, Floats]] = {
        "texts ask for photos": (texts, photos),
        "texts ask for sounds": (texts, sounds),
        "texts ask for texts": (texts, captions),
        "photos ask for photos": (photos[:512], photos[512:]),
    }
    figure, (before, after, sure) = pyplot.subplots(1, 3, figsize=(15, 4), layout="constrained")
    for name, (asks, items) in pairs.items():
        draw(before, (asks @ items.T).ravel(), name, np.linspace(-0.4, 0.9, 90))
        draw(after, z_of(items, asks).ravel(), name, np.linspace(-4, 8, 90))
    before.set(title="Before: cosines of unrelated contents, in mini", xlabel="cosine", yticks=[])
    after.set(title="After: standard deviations from each query's background", xlabel="z", yscale="log", ylim=(1e-4, 1))
    before.legend(frameon=False)
    files_of = folder(embedder.media / "caltech101")
    labels, vectors = kinds(files_of), embedder.photos("caltech101", files_of, "stronger")
    names = sorted(set(labels.tolist()))
    gone = draws(names)[0]
    items = vectors[~np.isin(labels, np.asarray(names)[gone])]
    found, banked, reach = evidence_of(embedder.texts([said(name) for name in names]), items, texts)
    bins = np.linspace(-1, 9, 26)
    draw(sure, banked[:, 0], "bank of unrelated queries", bins)
    draw(sure, found[~gone, 0], "names that are there", bins)
    draw(sure, found[gone, 0], "names that were taken out", bins)
    for share in (0.1, 0.5, 0.9):
        at = float(bins[np.argmin([abs(reach.confidence(one) - share) for one in bins])])
        sure.axvline(at, color="grey", linewidth=0.5)
        sure.text(at, 0.01, f" {share:.0%}", transform=sure.get_xaxis_transform(), color="grey", fontsize=8)
    sure.set(title="Evidence of the best answer, in the stronger space", xlabel="evidence", yticks=[])
    sure.legend(frameon=False)
    figure.savefig(arguments.out, dpi=90)


def draw(panel: Any, values: NDArray[np.floating], name: str, bins: NDArray[np.float64]) -> None:  # noqa: ANN401
    """Draw how values are spread."""
    panel.hist(values, bins=bins, density=True, histtype="step", linewidth=1.5, label=name)


if __name__ == "__main__":
    main()
