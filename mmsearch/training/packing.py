"""Matrices of 4-bit weights in ONNX: what was published in blocks of 32 weights and a scale is stored so again.

Nothing is rounded here. A matrix is packed only where every block of it is a scale times whole numbers from -8 to 7,
so that the packed tower computes what the tower in torch does, but for the activations, which onnxruntime rounds to 8
bits a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float32]
BLOCK = 32
_LEVELS = 8
_NEAR = 1e-3
"""How far a weight may be from a whole number of its block's scale, in scales."""


def blocks(weights: Array) -> tuple[NDArray[np.uint8], Array] | None:
    """Return rows (n, k) of weights as 4-bit numbers (n, k), 8 for zero, and scales (n, k / 32); None if none fit."""
    rows, width = weights.shape
    if width % BLOCK:
        return None
    parts = weights.reshape(rows, width // BLOCK, BLOCK)
    strongest = np.take_along_axis(parts, np.abs(parts).argmax(2, keepdims=True), axis=2)
    scales = strongest / -_LEVELS
    safe = np.where(scales == 0, 1.0, scales)
    found = parts / safe
    whole = np.round(found)
    if np.abs(found - whole).max(initial=0.0) > _NEAR:
        return None
    numbers = np.clip(whole + _LEVELS, 0, 2 * _LEVELS - 1).astype(np.uint8)
    return numbers.reshape(rows, width), np.asarray(scales[..., 0], np.float32)


def nibbles(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pairs of 4-bit numbers (n, k) as bytes (n, k / 2), the first of a pair in the low bits."""
    return np.asarray(numbers[:, 0::2] | (numbers[:, 1::2] << 4), np.uint8)


def fits(words: nn.Embedding) -> bool:
    """Return whether word vectors are of 4 bits and a scale a block."""
    return blocks(words.weight.detach().numpy()) is not None


class Packed(nn.Module):
    """Word vectors of 4 bits, with a scale for every 32 of their values: (n, t) ids → (n, t, width)."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        found = blocks(words.weight.detach().numpy())
        if found is None:
            raise ValueError("the word vectors are not of 4 bits a value")
        numbers, scales = found
        self.register_buffer("numbers", torch.from_numpy(nibbles(numbers)))
        self.register_buffer("scales", torch.from_numpy(scales.astype(np.float16)))

    def forward(self, ids: Tensor) -> Tensor:
        """Return (n, t, width) float32."""
        pairs = torch.as_tensor(self.numbers)[ids].float()
        high = torch.floor(pairs / 16.0)
        values = torch.stack([pairs - 16.0 * high, high], dim=-1) - _LEVELS
        scales = torch.as_tensor(self.scales)[ids].float()
        n, t = ids.shape
        return (values.reshape(n, t, -1, BLOCK) * scales.unsqueeze(-1)).reshape(n, t, -1)


def pack_matrices(model: Any) -> None:  # noqa: ANN401  onnx has no types
    """Replace products with constant matrices of 4-bit blocks by onnxruntime's MatMulNBits."""
    import onnx

    read, pack = onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    stored = {one.name: one for one in model.graph.initializer}
    packed = set()
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in stored:
            continue
        name = node.input[1]
        weights = read(stored[name])
        found = blocks(np.ascontiguousarray(weights.T)) if weights.ndim == 2 and weights.dtype == np.float32 else None
        if found is None:
            continue
        numbers, scales = found
        into, out = weights.shape
        codes = nibbles(numbers).reshape(out, into // BLOCK, BLOCK // 2)
        model.graph.initializer.extend([pack(codes, f"{name}_q"), pack(scales.ravel(), f"{name}_s")])
        sizes = {"K": into, "N": out, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        node.CopyFrom(
            onnx.helper.make_node(
                "MatMulNBits",
                [node.input[0], f"{name}_q", f"{name}_s"],
                list(node.output),
                domain="com.microsoft",
                **sizes,
            )
        )
        packed.add(name)
    if packed:
        kept = [one for one in model.graph.initializer if one.name not in packed]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
