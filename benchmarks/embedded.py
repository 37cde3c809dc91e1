"""Embed collections in `mini` and in a simulated stronger space, for `benchmarks/ranking.py` and others.

The stronger space has the text vectors of mini. A photo's vector is a ridge regression from MobileNetV2's pooled
features to the captions of Flickr8k train, plus half the mean of the names of ImageNet's classes weighted by
MobileNetV2's probabilities. A sound's vector is the mean of the names of AudioSet's classes weighted by YAMNet's
scores, without any training. Both teachers need `pip install ai-edge-litert`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmsearch.media import DecodeOptions, decode
from mmsearch.settings import Limits
from mmsearch.spaces import Profile, decoding_needs, embed, load_profile, normalise
from mmsearch.types import View

Vectors = NDArray[np.float32]
SPACES = ("mini", "stronger")
RIDGE = 1.0
"""The ridge penalty, in units of a feature's mean variance."""
NAMED = 0.5
"""The weight of the class names relative to the regression."""
_HOP = 7_800


@dataclass(slots=True)
class Teacher:
    """A model of ai-edge-litert, with the values of one of its inner tensors."""

    file: Path
    _run: Any = None
    _tensors: dict[str, Any] = field(default_factory=dict)

    def __call__(self, values: NDArray[Any], inner: str | None) -> NDArray[np.float32]:
        """Run the model on one input; return the values of an inner tensor, by the end of its name, or the output."""
        if self._run is None:
            from ai_edge_litert.interpreter import Interpreter

            warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
            self._run = Interpreter(str(self.file), num_threads=1, experimental_preserve_all_tensors=True)
            self._run.allocate_tensors()
            self._tensors = {tensor["name"]: tensor for tensor in self._run.get_tensor_details()}
        self._run.set_tensor(self._run.get_input_details()[0]["index"], values)
        self._run.invoke()
        return self.read(inner)

    def read(self, inner: str | None) -> NDArray[np.float32]:
        """Return the current values of a tensor, dequantised."""
        tensor = next(t for name, t in self._tensors.items() if name.endswith(inner)) if inner else None
        tensor = tensor or self._run.get_output_details()[0]
        scale, zero = tensor["quantization"]
        values = np.asarray(self._run.get_tensor(tensor["index"]), np.float32)
        return (values - zero) * scale if scale else values


@dataclass(slots=True)
class Embedder:
    """Embeds files and texts once, and caches the vectors in a folder."""

    media: Path
    cache: Path
    profile: Profile = field(default_factory=lambda: load_profile("mini"))
    _texts: dict[str, Vectors] = field(default_factory=dict)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors (n, dim) of texts, which are the same in both spaces."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for at in range(0, len(new), 512):
            part = new[at : at + 512]
            self._texts.update(zip(part, embed(self.profile.spaces[0], View.TEXT, part), strict=True))
        return np.stack([self._texts[text] for text in texts])

    def photos(self, name: str, files: Sequence[Path], space: str) -> Vectors:
        """Return the vectors (n, dim) of photos in one of `SPACES`."""
        if space == "mini":
            return self._cached(f"{name}-mini", files, self._photo_vectors)
        return _Stronger.of(self).photos(self.features(name, files))

    def sounds(self, name: str, files: Sequence[Path], space: str) -> Vectors:
        """Return the vectors (n, dim) of sounds in one of `SPACES`."""
        if space == "mini":
            return self._cached(f"{name}-mini", files, self._sound_vectors)
        return normalise(self._cached(f"{name}-yamnet", files, self._scores) @ self.texts(self._audioset()))

    def features(self, name: str, files: Sequence[Path]) -> NDArray[np.float32]:
        """Return MobileNetV2's pooled features (n, 1280)."""
        return self._cached(f"{name}-mobilenet", files, self._pooled)

    def _cached(self, name: str, files: Sequence[Path], make: Callable[[Sequence[Path]], Vectors]) -> Vectors:
        cache = self.cache / f"{name}.npz"
        names = [str(file) for file in files]
        if cache.is_file():
            with np.load(cache) as stored:
                if stored["files"].tolist() == names:
                    return np.asarray(stored["vectors"])
        print(f"  embedding {name}: {len(files):,}", flush=True)
        vectors = make(files)
        self.cache.mkdir(parents=True, exist_ok=True)
        np.savez(cache, files=np.asarray(names), vectors=vectors)
        return vectors

    def _photo_vectors(self, files: Sequence[Path]) -> Vectors:
        parts = []
        for at in range(0, len(files), 256):
            pictures = [Image.open(file).convert("RGB") for file in files[at : at + 256]]
            parts.append(embed(self.profile.spaces[0], View.VISUAL, pictures))
        return np.concatenate(parts)

    def _waves(self, file: Path) -> tuple[Any, ...]:
        ends = [end for space in self.profile.spaces for end in space.front_ends.values()]
        segments = decode(os.fsencode(file), (), DecodeOptions(Limits(), *decoding_needs(ends))).segments
        audible = [segment for segment in segments if not segment.silent] or segments
        return tuple(payload for segment in audible for payload in segment.views.get(View.AUDIO, ()))

    def _sound_vectors(self, files: Sequence[Path]) -> Vectors:
        space = self.profile.spaces[0]
        return np.stack([normalise(embed(space, View.AUDIO, self._waves(file)).mean(axis=0)) for file in files])

    def _pooled(self, files: Sequence[Path]) -> NDArray[np.float32]:
        teacher = Teacher(self.media / "teachers" / "mobilenet_v2_1.0_224_quant.tflite")
        features = []
        for file in files:
            picture = Image.open(file).convert("RGB")
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
            features.append(teacher(np.asarray(square)[None], "Logits/AvgPool").ravel())
        return np.stack(features)

    def _scores(self, files: Sequence[Path]) -> NDArray[np.float32]:
        teacher = Teacher(self.media / "teachers" / "yamnet.tflite")
        scores = []
        for file in files:
            wave = np.concatenate(self._waves(file)).astype(np.float32)[:160_000]
            steps = max(1, -(-(len(wave) - 2 * _HOP) // _HOP) + 1)
            wave = np.pad(wave, (0, max(0, (steps + 1) * _HOP - len(wave))))
            patches = [teacher(wave[at * _HOP : (at + 2) * _HOP], None).ravel() for at in range(steps)]
            scores.append(np.mean(patches, axis=0))
        return np.stack(scores)

    def _audioset(self) -> list[str]:
        with (self.media / "teachers" / "yamnet_class_map.csv").open(encoding="utf-8", newline="") as file:
            return [row["display_name"] for row in csv.DictReader(file)]


@dataclass(slots=True)
class Flickr8k:
    """Photos of one split, and their captions."""

    files: list[Path]
    captions: list[list[str]]
    parallel: list[dict[str, str]]

    @classmethod
    def read(cls, media: Path, split: str) -> Flickr8k:
        """Return the photos of a split, sorted by file name."""
        lines = (media / "flickr8k" / "captions.jsonl").read_text("utf-8").splitlines()
        rows = sorted((r for r in map(json.loads, lines) if r["split"] == split), key=lambda row: str(row["image"]))
        files = [media / "flickr8k" / split / row["image"] for row in rows]
        return cls(files, [row["captions"] for row in rows], [row.get("multi30k") or {} for row in rows])


def asked_for(doc: str | None) -> tuple[Embedder, list[str]]:
    """Return the embedder and the spaces that a command's arguments name."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--space", choices=SPACES, action="append")
    arguments = parser.parse_args()
    return Embedder(arguments.media.resolve(), arguments.cache), arguments.space or list(SPACES)


_STRONGER: dict[int, _Stronger] = {}


class _Stronger:
    """The ridge regression from features to captions, and the classifier of ImageNet's classes."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        train = Flickr8k.read(embedder.media, "train")
        features = np.sqrt(embedder.features("flickr8k-train", train.files))
        targets = np.stack([embedder.texts(captions).mean(axis=0) for captions in train.captions])
        self._mean, self._target = features.mean(axis=0), targets.mean(axis=0)
        centred = features - self._mean
        gram = centred.T @ centred
        gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
        self._weights = np.linalg.solve(gram, centred.T @ (targets - self._target))

    @classmethod
    def of(cls, embedder: Embedder) -> _Stronger:
        """Return the regression of an embedder; it is fitted once."""
        if id(embedder) not in _STRONGER:
            _STRONGER[id(embedder)] = cls(embedder)
        return _STRONGER[id(embedder)]

    @cached_property
    def _classifier(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Vectors]:
        teacher = Teacher(self._embedder.media / "teachers" / "mobilenet_v2_1.0_224_quant.tflite")
        teacher(np.zeros((1, 224, 224, 3), np.uint8), None)  # its tensors can be read only after a run
        weights = teacher.read("Logits/Conv2d_1c_1x1/weights_quant/FakeQuantWithMinMaxVars").reshape(1001, 1280)
        bias = teacher.read("Logits/Conv2d_1c_1x1/biases").ravel()
        labels = (self._embedder.media / "teachers" / "imagenet_labels.txt").read_text("utf-8").splitlines()
        return weights[1:], bias[1:], self._embedder.texts([label.split(",")[0].lower() for label in labels[1:]])

    def photos(self, features: NDArray[np.float32]) -> Vectors:
        """Return the vectors (n, dim) of pooled features (n, 1280)."""
        weights, bias, names = self._classifier
        logits = features @ weights.T + bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        class_names = exponentials / exponentials.sum(axis=1, keepdims=True) @ names
        regression = normalise((np.sqrt(features) - self._mean) @ self._weights + self._target)
        return normalise(regression + NAMED * class_names)
