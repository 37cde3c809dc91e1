"""A sentence encoder with its head as an ONNX graph that loads fast: one node for what torch's export makes ten of.

A query from the command line waits for its text tower to load, and what onnxruntime does then grows with the number of
nodes and of weights: torch's export of twelve layers has 700 nodes, this one 150. Matrices keep their 4 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mmsearch.training.encoder import BLOCK, SentenceNetwork
from mmsearch.training.grown import GrownTower
from mmsearch.training.packing import blocks, nibbles

_OPSETS = (("", 17), ("com.microsoft", 1))
_OURS = "com.microsoft"
_HIDDEN = -1e4
_EIGHT_BITS, _LEAST = 127.0, 1e-8


def sentence_graph(tower: GrownTower) -> Any:  # noqa: ANN401  onnx has no types
    """Return the model of a tower on a sentence network: ids and mask (n, t) int64 → embedding (n, dim), unit rows."""
    return _Builder().build(tower)


class _Builder:
    """Collects the nodes and the weights of a graph."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def build(self, tower: GrownTower) -> Any:  # noqa: ANN401  onnx has no types
        """Return the model."""
        network = tower.network
        assert isinstance(network, SentenceNetwork)
        states = self._words(network)
        counts = self._node("Cast", ["mask"], to=TensorProto.FLOAT)
        weights = self._node("Unsqueeze", [counts, self._constant(np.asarray([-1]))])
        padding = self._node("Cast", ["mask"], to=TensorProto.INT32)
        means = [self._mean(states, weights)]
        for depth, layer in enumerate(network.layers, 1):
            states = self._layer(layer, states, padding)
            if depth in network.depths:
                means.append(self._mean(states, weights))
        self._head(self._node("Concat", means, axis=1), tower)
        shape = [("ids", TensorProto.INT64, ["n", "t"]), ("mask", TensorProto.INT64, ["n", "t"])]
        inputs = [helper.make_tensor_value_info(*one) for one in shape]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", tower.dim])
        graph = helper.make_graph(self._nodes, "text", inputs, [output], self._weights)
        opsets = [helper.make_opsetid(*one) for one in _OPSETS]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str = "", domain: str = "", **fields: Any) -> str:  # noqa: ANN401
        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **fields))
        return name

    def _words(self, network: SentenceNetwork) -> str:
        """Return the normalised sum of word and position vectors, (n, t, width)."""
        width = network.words.embedding_dim
        found = blocks(_array(network.words.weight))
        if found is None:
            scales = np.maximum(np.abs(_array(network.words.weight)).max(1, keepdims=True), _LEAST) / _EIGHT_BITS
            numbers = np.round(_array(network.words.weight) / scales).astype(np.int8)
            whole = self._node("Cast", [self._node("Gather", [self._constant(numbers), "ids"])], to=TensorProto.FLOAT)
            scale = self._node("Gather", [self._constant(scales.astype(np.float32)), "ids"])
            words = self._node("Mul", [whole, scale])
        else:
            words = self._unpacked(*found, width)
        length = self._node("Shape", ["ids"], start=1, end=2)
        zero = self._constant(np.asarray([0]))
        places = self._node("Slice", [self._constant(_array(network.pos)), zero, length, zero])
        return self._norm(self._node("Add", [words, places]), network.norm)

    def _unpacked(self, numbers: NDArray[np.uint8], scales: NDArray[np.float32], width: int) -> str:
        """Return word vectors of 4 bits and a scale a block, (n, t, width)."""
        codes = self._node("Gather", [self._constant(nibbles(numbers)), "ids"])
        pairs = self._node("Cast", [codes], to=TensorProto.FLOAT)
        sixteen = self._constant(np.asarray(16, np.float32))
        high = self._node("Floor", [self._node("Div", [pairs, sixteen])])
        low = self._node("Sub", [pairs, self._node("Mul", [high, sixteen])])
        last = self._constant(np.asarray([-1]))
        both = self._node("Concat", [self._node("Unsqueeze", [one, last]) for one in (low, high)], axis=-1)
        split = self._node("Reshape", [both, self._constant(np.asarray([0, 0, width // BLOCK, BLOCK]))])
        centred = self._node("Sub", [split, self._constant(np.asarray(8, np.float32))])
        scale = self._node("Gather", [self._constant(scales.astype(np.float16)), "ids"])
        scale = self._node("Unsqueeze", [self._node("Cast", [scale], to=TensorProto.FLOAT), last])
        return self._node("Reshape", [self._node("Mul", [centred, scale]), self._constant(np.asarray([0, 0, width]))])

    def _norm(self, states: str, norm: nn.LayerNorm) -> str:
        inputs = [states, self._constant(_array(norm.weight)), self._constant(_array(norm.bias))]
        return self._node("LayerNormalization", inputs, axis=-1, epsilon=norm.eps)

    def _layer(self, layer: Any, states: str, padding: str) -> str:  # noqa: ANN401  encoder._Layer
        query, key, value = (self._product(states, one) for one in (layer.q, layer.k, layer.v))
        mixed = self._node(
            "MultiHeadAttention",
            [query, key, value, "", padding],
            domain=_OURS,
            num_heads=layer.heads,
            mask_filter_value=_HIDDEN,
        )
        states = self._norm(self._node("Add", [states, self._product(mixed, layer.ao)]), layer.aln)
        inner = self._node("Gelu", [self._product(states, layer.fi)], domain=_OURS)
        return self._norm(self._node("Add", [states, self._product(inner, layer.fo)]), layer.oln)

    def _product(self, states: str, linear: nn.Linear) -> str:
        """Return states times a matrix, plus its bias: in 4 bits where the matrix is of 4 bits."""
        weights, bias = _array(linear.weight), self._constant(_array(linear.bias))
        found = blocks(weights)
        if found is None:
            return self._node("Add", [self._node("MatMul", [states, self._rounded(weights)]), bias])
        numbers, scales = found
        out, into = weights.shape
        codes = self._constant(nibbles(numbers).reshape(out, into // BLOCK, BLOCK // 2))
        return self._node(
            "MatMulNBits",
            [states, codes, self._constant(scales.ravel()), "", "", bias],
            domain=_OURS,
            K=into,
            N=out,
            bits=4,
            block_size=BLOCK,
            accuracy_level=4,
        )

    def _rounded(self, weights: NDArray[np.float32]) -> str:
        """Return a matrix (out, in), transposed, in 8 bits and a scale for each row."""
        scales = np.maximum(np.abs(weights).max(1), _LEAST) / _EIGHT_BITS
        numbers = np.round(weights / scales[:, None]).astype(np.int8)
        zeros = self._constant(np.zeros(len(scales), np.int8))
        inputs = [self._constant(numbers.T), self._constant(scales.astype(np.float32)), zeros]
        return self._node("DequantizeLinear", inputs, axis=1)

    def _mean(self, states: str, weights: str) -> str:
        """Return the direction of the mean of the states that count, (n, width)."""
        summed = self._node(
            "ReduceSum", [self._node("Mul", [states, weights]), self._constant(np.asarray([1]))], keepdims=0
        )
        return self._node("LpNormalization", [summed], axis=-1, p=2)

    def _head(self, said: str, tower: GrownTower) -> None:
        """Write the head, whose standardisation goes into its first matrices."""
        inner, outer, skip = (_linear(one) for one in (tower.proj[1], tower.proj[-1], tower.skip))
        both = np.asarray(
            np.concatenate([_array(inner.weight), _array(skip.weight)]) / _array(tower.deviation), np.float32
        )
        bias = np.concatenate([_array(inner.bias), _array(skip.bias)]) - both @ _array(tower.mean)
        values = self._node("Add", [self._node("MatMul", [said, self._rounded(both)]), self._constant(bias)])
        sizes = self._constant(np.asarray([inner.out_features, skip.out_features]))
        hidden, straight = f"h{len(self._nodes)}", f"s{len(self._nodes)}"
        self._nodes.append(helper.make_node("Split", [values, sizes], [hidden, straight], axis=1))
        moved = self._node("MatMul", [self._node("Gelu", [hidden], domain=_OURS), self._rounded(_array(outer.weight))])
        moved = self._node("Add", [moved, self._constant(_array(outer.bias))])
        self._node("LpNormalization", [self._node("Add", [moved, straight])], "embedding", axis=-1, p=2)


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().numpy())
