"""Spaces whose towers are ONNX files beside a `spec.json`, run by onnxruntime: `mini`, and exported towers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.errors import ModelError
from mmsearch.spaces.base import FrontEnd, Prepared, Vectors, normalise
from mmsearch.spaces.front_ends import SquashedPicture, Tokens, Waveform
from mmsearch.types import View

if TYPE_CHECKING:
    import onnxruntime as ort

_TOWERS = {View.VISUAL: "image", View.TEXT: "text", View.AUDIO: "audio"}
_CHUNK = {View.VISUAL: 32, View.TEXT: 64, View.AUDIO: 8}
"""How many inputs one run of a tower takes: enough to fill the cores, little enough to bound memory."""


class OnnxSpace:
    """A space folder: `spec.json`, the towers it names, `tokenizer.json`. A tower is loaded when it is first asked.

    `device` is auto, cpu or cuda; auto takes a CUDA device where the installed onnxruntime can use one.
    """

    def __init__(self, name: str, folder: Path, device: str = "auto") -> None:
        self.name = self.pin = name
        self._folder = folder
        self._device = device
        try:
            self._spec: dict[str, Any] = json.loads((folder / "spec.json").read_bytes())
            self.dim = int(self._spec["dim"])
            self.front_ends = self._make_front_ends()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder} is not a space folder ({error}); it needs a spec.json") from error
        # The spec holds the digest of every file, so these parts of it stand for weights and preprocessing alike.
        defining = {key: self._spec.get(key) for key in ("dim", "files", *_TOWERS.values())}
        self.fingerprint = hashlib.blake2b(json.dumps(defining, sort_keys=True).encode(), digest_size=8).hexdigest()
        self._sessions: dict[View, ort.InferenceSession] = {}
        if device == "cuda":  # said now, not when the first batch is ready
            _providers(device)

    def _make_front_ends(self) -> Mapping[View, FrontEnd]:
        spec, found = self._spec, dict[View, FrontEnd]()
        if "image" in spec:
            found[View.VISUAL] = SquashedPicture(int(spec["image"]["size"]))
        if "text" in spec:
            found[View.TEXT] = Tokens(self._folder / "tokenizer.json", int(spec["text"]["max_len"]))
        if "audio" in spec:
            rate = int(spec["audio"]["sample_rate"])
            found[View.AUDIO] = Waveform(rate, min_samples=rate, max_samples=30 * rate)
        return found

    @cached_property
    def _pixel_scale(self) -> tuple[np.ndarray, np.ndarray]:
        image = self._spec["image"]
        return np.asarray(image["mean"], np.float32), np.asarray(image["std"], np.float32)

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return the mean and standard deviation that the spec holds for unrelated pairs of these views."""
        table = self._spec.get("background", {})
        mean, std = table.get(f"{query}-{item}") or table.get(f"{item}-{query}") or (0.0, self.dim**-0.5)
        return float(mean), float(std)

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs.

        Inputs of similar length run together, so that little of a batch is padding.
        """
        if view not in self.front_ends:
            raise ModelError(f"the space {self.name} has no tower for the {view} view; use another --model")
        out = np.zeros((len(inputs), self.dim), np.float32)
        order = sorted(range(len(inputs)), key=lambda i: inputs[i].shape[0])
        for start in range(0, len(order), _CHUNK[view]):
            rows = order[start : start + _CHUNK[view]]
            out[rows] = self._run(view, [inputs[i] for i in rows])
        return normalise(out)

    def _run(self, view: View, inputs: Sequence[Prepared]) -> np.ndarray:
        session = self._session(view)
        names = [node.name for node in session.get_inputs()]
        match view:
            case View.VISUAL:
                mean, std = self._pixel_scale
                pixels = (np.stack(inputs).astype(np.float32) - mean) / std
                feeds = [np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))]
            case View.TEXT:
                feeds = list(_pad(inputs, np.int64))
            case View.AUDIO:
                # The tower averages over time, so padding would change a sound; each length runs by itself.
                lengths = {len(wave) for wave in inputs}
                if len(lengths) > 1:
                    return np.concatenate([self._run(view, [wave]) for wave in inputs])
                feeds = [np.stack(inputs)]
        return np.asarray(session.run(None, dict(zip(names, feeds, strict=True)))[0], np.float32)

    def _session(self, view: View) -> ort.InferenceSession:
        if view not in self._sessions:
            self._sessions[view] = _load(self._folder / self._spec[_TOWERS[view]]["file"], self._device)
        return self._sessions[view]

    def verify(self) -> None:
        """Compare every file with the digest in the spec. Raises `ModelError` naming the first that differs."""
        for name, digest in self._spec.get("files", {}).items():
            try:
                found = hashlib.sha256((self._folder / name).read_bytes()).hexdigest()
            except OSError as error:
                raise ModelError(f"{self._folder / name} can't be read ({error.strerror}); reinstall it") from None
            if found != digest:
                raise ModelError(f"{self._folder / name} is damaged (its digest isn't the spec's); reinstall it")


def _pad(rows: Sequence[Prepared], dtype: type[np.int64]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows padded with zeros to the longest, and the mask of what is not padding."""
    longest = max(len(row) for row in rows)
    ids, mask = np.zeros((len(rows), longest), dtype), np.zeros((len(rows), longest), dtype)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


def _onnxruntime() -> Any:  # noqa: ANN401  onnxruntime has no types
    # Unless told so before it is loaded, onnxruntime keeps a device id in the user's cache and reports to its makers.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # loaded only when a tower runs

    return onnxruntime


def _providers(device: str) -> list[str]:
    """Return what onnxruntime is to run on, best first. Raises `ModelError` where CUDA is asked for in vain."""
    has_cuda = device != "cpu" and "CUDAExecutionProvider" in _onnxruntime().get_available_providers()
    if device == "cuda" and not has_cuda:
        raise ModelError("this onnxruntime can't use CUDA; use --device cpu or leave --device out")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_cuda else ["CPUExecutionProvider"]


def _load(file: Path, device: str) -> ort.InferenceSession:
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait busily take the cores from the decoders: indexing was 8 to 20 % slower with them on two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch ever seen
    try:
        return ort.InferenceSession(str(file), options, providers=_providers(device))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ModelError(f"{file} can't be loaded ({' '.join(str(error).split())[:160]}); reinstall it") from error
