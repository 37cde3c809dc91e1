"""Spaces of ONNX towers that onnxruntime runs: `mini`, and exported models."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.errors import ModelError, ModelUnavailableError, WrongModelError, one_line
from mmsearch.files import open_regular
from mmsearch.spaces.base import FrontEnd, Prepared, SoundFrontEnd, Vectors, normalise
from mmsearch.spaces.front_ends import Resampled, Tokens, Waveform
from mmsearch.spaces.spec import TOKENIZER, TOWERS, SpaceSpec, read_spec
from mmsearch.types import View

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["TOWERS", "OnnxSpace", "load_onnxruntime", "pad"]

_log = logging.getLogger(__name__)
_BATCH = {View.VISUAL: 32, View.TEXT: 64, View.AUDIO: 8}
"""Inputs of one run of a tower: enough to use all cores, few enough to bound memory."""


class OnnxSpace:
    """A space folder: `spec.json`, the towers that it names, `tokenizer.json`. A tower is loaded when first used.

    `device` is auto, cpu or cuda; auto uses a CUDA device if the installed onnxruntime supports it.
    """

    def __init__(self, name: str, folder: Path, device: str = "auto") -> None:
        self.name = name
        self._folder = folder
        self._device = device
        self._spec = read_spec(folder)
        self.dim = self._spec.dim
        self._own_ends = _front_ends(self._spec, folder)
        self.front_ends: Mapping[View, FrontEnd] = self._own_ends
        self.fingerprint = self._spec.fingerprint
        self.pin = f"{name}#{self.fingerprint}" if self.is_exported else name
        self._sessions: dict[View, ort.InferenceSession] = {}
        self._loading = threading.Lock()
        if device == "cuda":  # so that a missing device is reported now, not with the first batch
            _providers(device)

    @property
    def is_exported(self) -> bool:
        """Whether the space was exported from a checkpoint."""
        return self._spec.is_exported

    def set_sample_rate(self, sample_rate_hz: int) -> None:
        """Accept waveforms of another rate from now on, since sounds are decoded at one rate for all spaces."""
        end = self._own_ends.get(View.AUDIO)
        if isinstance(end, SoundFrontEnd):
            same = end.sample_rate_hz == sample_rate_hz
            self.front_ends = {**self._own_ends, View.AUDIO: end if same else Resampled(end, sample_rate_hz)}

    @cached_property
    def _pixel_scale(self) -> tuple[np.ndarray, np.ndarray]:
        image = self._spec.image
        assert image is not None
        return np.asarray(image.mean, np.float32), np.asarray(image.std, np.float32)

    @cached_property
    def _padding(self) -> dict[str, int]:
        text = self._spec.text
        assert text is not None
        return {"length": text.pad_to, "value": text.pad_id}

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return the spec's score distribution, mean and standard deviation, for these views."""
        table = self._spec.background
        return table.get(f"{query}-{item}") or table.get(f"{item}-{query}") or (0.0, self.dim**-0.5)

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs.

        Inputs are sorted by length, so that a batch contains little padding.
        """
        if view not in self.front_ends:
            raise WrongModelError(f"the space {self.name} has no tower for the {view} view; use another --model")
        out = np.zeros((len(inputs), self.dim), np.float32)
        order = sorted(range(len(inputs)), key=lambda i: inputs[i].shape[0])
        for start in range(0, len(order), _BATCH[view]):
            rows = order[start : start + _BATCH[view]]
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
                # Padding would change the output of a tower that averages over time, so lengths aren't mixed.
                if len({len(sound) for sound in inputs}) > 1:
                    return np.concatenate([self._run(view, [sound]) for sound in inputs])
                return self.run_tower(view, np.stack(inputs))

    def run_tower(self, view: View, *feeds: np.ndarray) -> np.ndarray:
        """Return a tower's output for a batch, (n, dim) float32, not normalised. Surplus feeds are ignored.

        Raises `ModelError` if the tower fails, or doesn't return n finite vectors of the space's dimension.
        """
        session = self._session(view)
        names = [node.name for node in session.get_inputs()]  # exported text towers don't take the mask
        try:
            vectors = np.asarray(session.run(None, dict(zip(names, feeds, strict=False)))[0], np.float32)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ModelError(f"{self.tower_file(view)} can't be run ({one_line(error)}); use another model") from error
        if vectors.shape != (len(feeds[0]), self.dim) or not np.isfinite(vectors).all():
            raise ModelError(
                f"{self.tower_file(view)} doesn't answer with {len(feeds[0])} vectors of {self.dim} finite numbers; "
                "use another model"
            )
        return vectors

    def tower_file(self, view: View) -> Path:
        """Return the ONNX file of a tower."""
        return self._folder / self._spec.towers[view]

    def replace_tower(self, view: View, file: Path) -> None:
        """Use another file for a tower from now on, with the same weights in another precision."""
        self._sessions[view] = _load(file, self._device, packed=True)

    def load(self, view: View) -> None:
        """Load the tower of a view, so that the first call that needs it doesn't wait. Raises `ModelError`."""
        self._session(view)

    def _session(self, view: View) -> ort.InferenceSession:
        """Return the session of a tower; if several threads need it at once, only one loads it."""
        if (session := self._sessions.get(view)) is not None:
            return session
        with self._loading:
            if view not in self._sessions:
                began, file = time.monotonic(), self.tower_file(view)
                # For a query's single text, mapped weights without prepacking take 0.1 s instead of 0.6 s.
                packed = view is not View.TEXT or not file.with_suffix(".bin").exists()
                # A text tower with `pieces` is optimised when it is written; optimising it again would double the time.
                final = view is View.TEXT and self._spec.text is not None and bool(self._spec.text.pieces)
                self._sessions[view] = _load(file, self._device, packed=packed, final=final)
                _log.debug("loaded %s in %.3f s", file, time.monotonic() - began)
            return self._sessions[view]


def _front_ends(spec: SpaceSpec, folder: Path) -> dict[View, FrontEnd]:
    ends = dict[View, FrontEnd]()
    if spec.image is not None:
        ends[View.VISUAL] = spec.image.front_end
    if spec.text is not None and spec.text.pieces:
        from mmsearch.spaces.pieces import Pieces  # imported only for spaces with such a vocabulary

        ends[View.TEXT] = Pieces(folder / spec.text.pieces, spec.text.max_ids)
    elif spec.text is not None:
        ends[View.TEXT] = Tokens(folder / TOKENIZER, spec.text.max_ids, spec.text.clean)
    if spec.audio is not None:
        rate, mel = spec.audio.sample_rate_hz, spec.audio.mel
        if mel is not None:
            ends[View.AUDIO] = replace(mel, filters=folder / mel.filters)
        else:
            ends[View.AUDIO] = Waveform(rate, min_samples=rate, max_samples=30 * rate)
    return ends


def pad(rows: Sequence[Prepared], length: int, value: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (n, t) int64 and their mask, padded to `length`, or to the longest row if that is 0."""
    longest = length or max(len(row) for row in rows)
    ids, mask = np.full((len(rows), longest), value, np.int64), np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


def load_onnxruntime() -> Any:  # noqa: ANN401  onnxruntime has no types
    """Import and return onnxruntime with its telemetry disabled."""
    # Unless this is set before the import, onnxruntime stores a device id in the user's cache and sends telemetry.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # loaded only when a tower runs

    return onnxruntime


def _providers(device: str) -> list[str]:
    """Return onnxruntime's execution providers, best first. Raises `ModelError` if CUDA is requested but missing."""
    has_cuda = device != "cpu" and "CUDAExecutionProvider" in load_onnxruntime().get_available_providers()
    if device == "cuda" and not has_cuda:
        raise ModelUnavailableError("this onnxruntime can't use CUDA; use --device cpu or leave --device out")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_cuda else ["CPUExecutionProvider"]


def _load(file: Path, device: str, *, packed: bool, final: bool = False) -> ort.InferenceSession:
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, so they needn't be logged as well
    # Spinning threads would compete with the decoders: on two cores, indexing was 8 to 20 % slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if final:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False  # the arena would keep the memory of the largest batch
    try:
        open_regular(file).close()  # onnxruntime would block on a named pipe
        return ort.InferenceSession(str(file), options, providers=_providers(device))
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        reason = one_line((isinstance(error, OSError) and error.strerror) or error)
        raise ModelError(f"{file} can't be loaded ({reason}); copy its folder again") from error
