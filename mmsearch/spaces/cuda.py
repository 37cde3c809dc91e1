"""A space whose towers run in torch on a CUDA device, with the front ends and fingerprint of its export.

Pictures and sounds are encoded in bfloat16. The vectors are close enough to those of the exported towers that a library
indexed on a GPU can be searched on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from mmsearch.errors import ModelUnavailableError, WrongModelError
from mmsearch.spaces import hub
from mmsearch.spaces.base import Prepared, Vectors, normalise
from mmsearch.spaces.cache import load_towers
from mmsearch.spaces.onnx import OnnxSpace, pad
from mmsearch.spaces.sources import find_checkpoint
from mmsearch.types import View

_BATCH = {View.VISUAL: 128, View.TEXT: 256, View.AUDIO: 32}


class CudaSpace(OnnxSpace):
    """The space in an exported model's folder, encoded by torch. `device` is torch's name of it: cuda, cuda:1.

    Without `fetch`, the checkpoint must be on this disk. Raises `ModelError`.
    """

    def __init__(self, name: str, folder: Path, device: str = "cuda", *, fetch: bool = True) -> None:
        super().__init__(name, folder, "cpu")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelUnavailableError("torch finds no CUDA device; use --device cpu or leave --device out")
        self._torch_device = torch.device(device)
        # The weights are read from the checkpoint; `load_towers` makes sure that it is the one that was exported.
        with nullcontext() if fetch else hub.network_forbidden():
            loaded, _ = load_towers(find_checkpoint(name, fetch=fetch), self.fingerprint)
        self._towers = {view: tower.module.to(self._torch_device).eval() for view, tower in loaded.towers.items()}

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs.

        A batch is copied from pinned memory while the previous one is computed; the vectors are copied back at the end.
        """
        if view not in self.front_ends:
            raise WrongModelError(f"the space {self.name} has no tower for the {view} view; use another --model")
        if not len(inputs):
            return np.zeros((0, self.dim), np.float32)
        tower = self._towers[view]
        vectors = []
        # Texts are cheap, and a query's vector is compared with thousands of others, so they keep full precision.
        reduced = view is not View.TEXT
        with torch.inference_mode(), torch.autocast(self._torch_device.type, torch.bfloat16, enabled=reduced):
            for start in range(0, len(inputs), _BATCH[view]):
                batch = self._on_device(view, inputs[start : start + _BATCH[view]])
                vectors.append(tower(batch).float())
        return normalise(torch.cat(vectors).cpu().numpy())

    def _on_device(self, view: View, inputs: Sequence[Prepared]) -> torch.Tensor:
        host = torch.from_numpy(pad(inputs, **self._padding)[0] if view is View.TEXT else np.stack(inputs))
        if self._torch_device.type == "cuda":
            host = host.pin_memory()
        batch = host.to(self._torch_device, non_blocking=True)
        if view is not View.VISUAL:
            return batch
        # Pixels are copied as bytes, a quarter of the size of floats, and scaled on the device.
        mean, std = (torch.from_numpy(part).to(self._torch_device) for part in self._pixel_scale)
        return ((batch.float() - mean) / std).permute(0, 3, 1, 2).contiguous()
