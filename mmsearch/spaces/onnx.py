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

from mmsearch.errors import ModelError, one_line
from mmsearch.spaces.base import FrontEnd, Prepared, SoundFrontEnd, Vectors, normalise
from mmsearch.spaces.front_ends import Picture, Resampled, Tokens, Waveform
from mmsearch.spaces.mel import LogMel
from mmsearch.spaces.pieces import Pieces
from mmsearch.types import View

if TYPE_CHECKING:
    import onnxruntime as ort

TOWERS = {View.VISUAL: "image", View.TEXT: "text", View.AUDIO: "audio"}
"""The sections of a spec, by the view that they embed."""
_CHUNK = {View.VISUAL: 32, View.TEXT: 64, View.AUDIO: 8}
"""How many inputs one run of a tower takes: enough to fill the cores, little enough to bound memory."""


class OnnxSpace:
    """A space folder: `spec.json`, the towers it names, `tokenizer.json`. A tower is loaded when it is first asked.

    `device` is auto, cpu or cuda; auto takes a CUDA device where the installed onnxruntime can use one.
    """

    def __init__(self, name: str, folder: Path, device: str = "auto") -> None:
        self.name = name
        self._folder = folder
        self._device = device
        try:
            self._spec: dict[str, Any] = json.loads((folder / "spec.json").read_bytes())
            self.dim = int(self._spec["dim"])
            self._own_ends = self._make_front_ends()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder} is not a space folder ({error}); it needs a spec.json") from error
        self.front_ends: Mapping[View, FrontEnd] = self._own_ends
        # The spec holds the digest of every file, so these parts of it stand for weights and preprocessing alike.
        defining = {key: self._spec.get(key) for key in ("dim", "files", *TOWERS.values())}
        digest = hashlib.blake2b(json.dumps(defining, sort_keys=True).encode(), digest_size=8).hexdigest()
        # That of an exported model is made from the checkpoint: another exporter or precision doesn't change its space.
        self.fingerprint = str(self._spec.get("fingerprint", digest))
        self.pin = f"{name}#{self.fingerprint}" if self.is_exported else name
        self._sessions: dict[View, ort.InferenceSession] = {}
        if device == "cuda":  # said now, not when the first batch is ready
            _providers(device)

    @property
    def is_exported(self) -> bool:
        """Whether the space was exported from a checkpoint."""
        return "fingerprint" in self._spec

    def _make_front_ends(self) -> dict[View, FrontEnd]:
        spec, found = self._spec, dict[View, FrontEnd]()
        if (image := spec.get("image")) is not None:
            # `transform` holds the fields of a Picture; a space without squashes to a square.
            shape = image.get("transform") or {"size": [image["size"], image["size"]]}
            found[View.VISUAL] = Picture(**{**shape, "size": tuple(shape["size"])})
        if (text := spec.get("text")) is not None and (pieces := text.get("pieces")):
            found[View.TEXT] = Pieces(self._folder / pieces, int(text["max_len"]))
        elif text is not None:
            found[View.TEXT] = Tokens(self._folder / "tokenizer.json", int(text["max_len"]), text.get("clean", "none"))
        if (audio := spec.get("audio")) is not None:
            rate = int(audio["sample_rate"])
            if mel := audio.get("mel"):
                found[View.AUDIO] = LogMel(rate, **{**mel, "filters": self._folder / mel["filters"]})
            else:
                found[View.AUDIO] = Waveform(rate, min_samples=rate, max_samples=30 * rate)
        return found

    def hear_at(self, sample_rate_hz: int) -> None:
        """Take waveforms of another rate than the tower's from now on: decoding has but one rate for all spaces."""
        end = self._own_ends.get(View.AUDIO)
        if isinstance(end, SoundFrontEnd):
            same = end.sample_rate_hz == sample_rate_hz
            heard = end if same else Resampled(end, sample_rate_hz)
            self.front_ends = {**self._own_ends, View.AUDIO: heard}

    @cached_property
    def _pixel_scale(self) -> tuple[np.ndarray, np.ndarray]:
        image = self._spec["image"]
        return np.asarray(image["mean"], np.float32), np.asarray(image["std"], np.float32)

    @cached_property
    def _padding(self) -> dict[str, int]:
        text = self._spec["text"]
        return {"length": int(text.get("pad_to", 0)), "value": int(text.get("pad_id", 0))}

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
        match view:
            case View.VISUAL:
                mean, std = self._pixel_scale
                pixels = (np.stack(inputs).astype(np.float32) - mean) / std
                return self.run_tower(view, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
            case View.TEXT:
                return self.run_tower(view, *pad(inputs, **self._padding))
            case View.AUDIO:
                # A tower that averages over time would hear padding; each length runs by itself.
                if len({len(sound) for sound in inputs}) > 1:
                    return np.concatenate([self._run(view, [sound]) for sound in inputs])
                return self.run_tower(view, np.stack(inputs))

    def run_tower(self, view: View, *feeds: np.ndarray) -> np.ndarray:
        """Return what a tower makes of a batch, (n, dim) float32, not normalised; it takes as many feeds as it has."""
        session = self._session(view)
        names = [node.name for node in session.get_inputs()]  # an exported text tower makes the mask itself
        return np.asarray(session.run(None, dict(zip(names, feeds, strict=False)))[0], np.float32)

    def tower_file(self, view: View) -> Path:
        """Return the ONNX file of a tower."""
        return self._folder / str(self._spec[TOWERS[view]]["file"])

    def replace_tower(self, view: View, file: Path) -> None:
        """Run a tower from another file from now on: one that computes the same, in another precision."""
        self._sessions[view] = _load(file, self._device, packed=True)

    def _session(self, view: View) -> ort.InferenceSession:
        if view not in self._sessions:
            file = self.tower_file(view)
            # Weights that are mapped and not packed anew: 0.1 s instead of 0.6 s for the one text that a query has.
            packed = view is not View.TEXT or not file.with_suffix(".bin").exists()
            self._sessions[view] = _load(file, self._device, packed=packed)
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


def pad(rows: Sequence[Prepared], length: int, value: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (n, t) int64, padded to a length or, where that is 0, to the longest, and which of them count."""
    longest = length or max(len(row) for row in rows)
    ids, mask = np.full((len(rows), longest), value, np.int64), np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


def load_onnxruntime() -> Any:  # noqa: ANN401  onnxruntime has no types
    """Return the module onnxruntime, told beforehand to keep to itself."""
    # Unless told so before it is loaded, onnxruntime keeps a device id in the user's cache and reports to its makers.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # loaded only when a tower runs

    return onnxruntime


def _providers(device: str) -> list[str]:
    """Return what onnxruntime is to run on, best first. Raises `ModelError` where CUDA is asked for in vain."""
    has_cuda = device != "cpu" and "CUDAExecutionProvider" in load_onnxruntime().get_available_providers()
    if device == "cuda" and not has_cuda:
        raise ModelError("this onnxruntime can't use CUDA; use --device cpu or leave --device out")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_cuda else ["CPUExecutionProvider"]


def _load(file: Path, device: str, *, packed: bool) -> ort.InferenceSession:
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised, and said once
    # Threads that wait busily take the cores from the decoders: indexing was 8 to 20 % slower with them on two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch ever seen
    try:
        return ort.InferenceSession(str(file), options, providers=_providers(device))
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ModelError(f"{file} can't be loaded ({one_line(error)}); copy its folder anew") from error
