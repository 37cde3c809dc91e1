"""Compare a full-size open_clip model with open_clip itself: the same answers, and the speed of each runtime.

    python benchmarks/towers.py [--model ViT-B-32-256] [--photos 500] [--queries 100] [--keep DIR]

The weights are random, which doesn't change the speed; quality isn't measured. The ten best hits of each query are
compared with a NumPy search over open_clip's own vectors in torch. A hit is wrong if its score differs from the
expected one by more than a thousandth. `--keep` keeps the checkpoint, for `benchmarks/speed.py --model local-dir:DIR`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from speed import RUNS, WORDS, make_photos, timed

import mmsearch
from mmsearch.catalog import Catalog, NewContent, NewMedia
from mmsearch.folder import CATALOG
from mmsearch.records import Origin, Segment, Text
from mmsearch.spaces import OnnxSpace, embed, int8_tower, load_profile, normalise
from mmsearch.types import Modality, View

TIE = 1e-3
BATCH = 32
ROUNDS = 5
SEGMENTS = 10_000

Vectors = NDArray[np.float32]


def make_checkpoint(folder: Path, architecture: str | Mapping[str, Any]) -> Path:
    """Write a checkpoint with random weights. Those of the first layers are enlarged, or all inputs would look alike.

    `architecture` is the name of one of open_clip's, or its configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = isinstance(architecture, str)
    config = {"model_cfg": open_clip.get_model_config(architecture) if named else architecture, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    for name in state:
        if name.endswith(("token_embedding.weight", "conv1.weight")):
            state[name] = state[name] * (8 / (state[name].std() * state[name][0].numel() ** 0.5))
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


class Reference:
    """The model as loaded and run by open_clip."""

    def __init__(self, folder: Path) -> None:
        self.model, _, self.transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model.eval()
        self.tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Return (n, dim) unit rows."""
        return self._batches(lambda part: self.model.encode_text(self.tokenize(part), normalize=True), texts)

    def pictures(self, files: Sequence[Path]) -> Vectors:
        """Return (n, dim) unit rows."""

        def encode(part: Sequence[Path]) -> torch.Tensor:
            pixels = torch.stack([self.transform(Image.open(file)) for file in part])
            return torch.as_tensor(self.model.encode_image(pixels, normalize=True))

        return self._batches(encode, files)

    def _batches(self, encode: Callable[[Any], torch.Tensor], items: Sequence[Any]) -> Vectors:
        with torch.inference_mode():
            parts = [encode(items[at : at + BATCH]).numpy() for at in range(0, len(items), BATCH)]
        return np.concatenate(parts)


def compare(library: mmsearch.Library, reference: Reference, files: Sequence[Path], queries: int) -> None:
    """Print how many of the ten best hits differ from those of a plain search."""
    items = reference.pictures(files)
    texts = [f"a {first} and a {second}" for first in WORDS for second in WORDS][:queries]
    terms: dict[str, list[tuple[str | Path, Vectors]]] = {
        "text": list(zip(texts, reference.texts(texts), strict=True)),
        "image": list(zip(files[:queries], items[:queries], strict=True)),
    }
    spread = np.std(items[:200] @ items[:200].T)
    print(f"standard deviation of the cosines of two photos: {spread:.3f}")
    for label, pairs in terms.items():
        same, tied, wrong = 0, 0, 0
        for query, vector in pairs:
            scores = dict(zip(files, (items @ vector).tolist(), strict=True))
            best = sorted(scores, key=lambda file: -scores[file])[:10]
            hits = library.query(query, k=10, modalities={Modality.IMAGE}, rerank=False)
            for hit, wanted in zip(hits, best, strict=True):
                same += hit.path == wanted
                tied += hit.path != wanted and abs(scores[hit.path] - scores[wanted]) <= TIE
                wrong += abs(scores[hit.path] - scores[wanted]) > TIE
        count = len(pairs)
        print(f"{label}→image: {count} queries, of {10 * count} hits {same} the same, {tied} tied, {wrong} wrong")


def time_towers(space: OnnxSpace, reference: Reference, files: Sequence[Path]) -> None:
    """Print the pictures and texts per second of each runtime: the medians of alternating rounds."""
    pictures = [Image.open(file).convert("RGB") for file in files[:BATCH]]
    inputs = [space.front_ends[View.VISUAL](picture) for picture in pictures]
    pixels = torch.stack([reference.transform(picture) for picture in pictures])
    texts = [space.front_ends[View.TEXT](f"a {word} in the rain") for word in WORDS]
    ids = reference.tokenize([f"a {word} in the rain" for word in WORDS])
    small = load_profile(space.name).spaces[0]
    assert isinstance(small, OnnxSpace)
    small.replace_tower(View.VISUAL, int8_tower(small))
    with torch.inference_mode():
        jobs: dict[str, tuple[int, Callable[[], object]]] = {
            "pictures, torch float32": (BATCH, lambda: reference.model.encode_image(pixels)),
            "pictures, onnxruntime float32": (BATCH, lambda: space.encode(View.VISUAL, inputs)),
            "pictures, onnxruntime int8": (BATCH, lambda: small.encode(View.VISUAL, inputs)),
            "texts, torch float32": (len(texts), lambda: reference.model.encode_text(ids)),
            "texts, onnxruntime float32": (len(texts), lambda: space.encode(View.TEXT, texts)),
        }
        seconds: dict[str, list[float]] = {label: [] for label in jobs}
        for turn in range(ROUNDS + 1):  # the first one warms up
            for label, (_, job) in jobs.items():
                began = time.perf_counter()
                job()
                if turn:
                    seconds[label].append(time.perf_counter() - began)
    for label, (count, _) in jobs.items():
        print(f"{label:<31} {count / statistics.median(seconds[label]):6.1f} a second")


def time_cold_queries(folder: Path, model: str) -> None:
    """Print the time of a text query in a separate process, on a library of random vectors."""
    random = np.random.default_rng(0)
    with mmsearch.open(folder, model=model):
        pass
    profile = load_profile(model)
    with closing(Catalog(folder / CATALOG)) as catalog:
        ids = {space.name: catalog.add_space(space.name, space.fingerprint, space.dim) for space in profile.spaces}
        for first in range(0, SEGMENTS, 500):
            contents = []
            for n in range(first, first + 500):
                view = View.VISUAL if n % 2 else View.TEXT
                vectors = {(ids[s.name], view): normalise(random.standard_normal(s.dim)) for s in profile.spaces}
                kind, texts = (Modality.IMAGE, ()) if n % 2 else (Modality.TEXT, (Text(Origin.PASSAGE, "made"),))
                path = NewMedia(b"/made/%06d" % n, 1, 1, "", "1")
                contents.append(NewContent(b"%016d" % n, kind, [Segment(vectors, texts=texts)], [path]))
            catalog.commit(contents, profile.key)
    seconds = [timed(["query", "--json", "red car"], folder)[0] for _ in range(RUNS + 1)][1:]  # the first one indexes
    median, least, most = statistics.median(seconds), min(seconds), max(seconds)
    print(f"cold text query, {SEGMENTS:,} segments: {median:.2f} s ({least:.2f} to {most:.2f})")


def main() -> None:
    """Make a checkpoint and photos, index them, and print the comparison and the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="ViT-B-32-256")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = make_checkpoint((arguments.keep or Path(name, "model")).absolute(), arguments.model)
        make_photos(Path(name, "photos"), arguments.photos, 640)
        files = sorted(Path(name, "photos").iterdir())
        began = time.perf_counter()
        space = load_profile(f"local-dir:{folder}").spaces[0]
        assert isinstance(space, OnnxSpace)
        print(f"{arguments.model}: loaded, exported and checked in {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        embed(load_profile(space.name).spaces[0], View.TEXT, ["red car"])
        print(f"the first text of a process, from the export: {time.perf_counter() - began:.2f} s")
        with mmsearch.open(Path(name, "library"), model=space.name) as library:
            report = library.index(Path(name, "photos"))
            print(f"{report.added} photos indexed in {report.seconds:.0f} s, {report.failed} failed")
            reference = Reference(folder)
            compare(library, reference, files, arguments.queries)
        time_towers(space, reference, files)
        time_cold_queries(Path(name, "made"), space.name)


if __name__ == "__main__":
    main()
