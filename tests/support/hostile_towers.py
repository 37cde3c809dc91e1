"""ONNX towers that nobody should be harmed by: cut off, endless, huge, or with weights elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from support.small_space import DIM, Make, tower, weight_of


def _tower(model: Callable[[], onnx.ModelProto | bytes], name: str = "text") -> Make:
    def spoil(folder: Path) -> None:
        made = model()
        content = made if isinstance(made, bytes) else made.SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)

    return spoil


def _computing(*nodes: onnx.NodeProto, **weights: Any) -> Make:  # noqa: ANN401
    arrays = [weight_of(np.asarray(array), name) for name, array in weights.items()]
    return _tower(lambda: tower(nodes=lambda _mean: list(nodes), weights=arrays))


def _loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Add", ["held", "held"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "yes", "mean"], ["last"], body=body)
    end = helper.make_node("MatMul", ["last", "weight"], ["out"])
    weights = [weight_of(np.ones((1, DIM), np.float32)), weight_of(np.asarray(True), "yes")]
    return tower(nodes=lambda _mean: [loop, end], weights=weights)


def _branch() -> onnx.ModelProto:
    one = helper.make_graph(
        [helper.make_node("MatMul", ["mean", "weight"], ["answer"])],
        "one",
        [],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["out"], then_branch=one, else_branch=one)
    weights = [weight_of(np.ones((1, DIM), np.float32)), weight_of(np.asarray(True), "yes")]
    return tower(nodes=lambda _mean: [node], weights=weights)


def _with_function() -> onnx.ModelProto:
    model = tower(nodes=lambda _mean: [helper.make_node("Own", ["mean"], ["out"], domain="own")])
    again = [helper.make_node("Own", ["x"], ["y"], domain="own")]
    ids = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Own", ["x"], ["y"], again, ids))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def _external(location: str, length: int = 16) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        model = tower()
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        return model

    return make


def _linked(target: str) -> Make:
    def spoil(folder: Path) -> None:
        (folder / "text.bin").symlink_to(target)
        _tower(_external("text.bin"))(folder)

    return spoil


def _piped(folder: Path) -> None:
    os.mkfifo(folder / "text.bin")
    _tower(_external("text.bin"))(folder)


def _promising(shape: list[int]) -> onnx.ModelProto:
    model = tower()
    model.graph.initializer[0].dims[:] = shape
    return model


def _renamed(kind: str) -> onnx.ModelProto:
    model = tower()
    if kind == "output":
        del model.graph.output[:]
    elif kind == "input":
        model.graph.input.append(helper.make_tensor_value_info("third", TensorProto.FLOAT, ["n"]))
    else:
        model.graph.node[0].input[0] = "nothing"
    return model


def _long() -> onnx.ModelProto:
    size = 3_000
    square = helper.make_node("Expand", ["one", "shape"], ["m0"])
    steps = [helper.make_node("MatMul", [f"m{n}", f"m{n}"], [f"m{n + 1}"]) for n in range(2_000)]
    drawn = helper.make_node("RandomUniformLike", ["m0"], ["noise"], dtype=1, low=0.0, high=1e-4)
    steps[0].input[0] = "noise"
    end = [
        helper.make_node("ReduceMean", ["m2000"], ["whole"], keepdims=1),
        helper.make_node("MatMul", ["mean", "weight"], ["part"]),
        helper.make_node("Add", ["part", "whole"], ["out"]),
    ]
    weights = [
        weight_of(np.ones((1, DIM), np.float32)),
        weight_of(np.ones((1, 1), np.float32), "one"),
        weight_of(np.asarray([size, size]), "shape"),
    ]
    return tower(nodes=lambda _mean: [square, drawn, *steps, *end], weights=weights)


def _node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:  # noqa: ANN401
    return helper.make_node(kind, list(names[:-1]), [names[-1]], **attributes)


_ONES = np.ones((1, DIM), np.float32)
TOWERS: dict[str, Make] = {
    "tower: nothing": _tower(lambda: b""),
    "tower: noise": _tower(lambda: bytes(range(256)) * 40),
    "tower: no model": _tower(lambda: b"<html>404</html>"),
    "tower: cut off": _tower(lambda: tower().SerializeToString()[:-40]),
    "tower: no graph": _tower(lambda: onnx.ModelProto(ir_version=8).SerializeToString()),
    "tower: lengths beyond the file": _tower(lambda: b"\x3a\xff\xff\xff\xff\x0f"),
    "tower: numbers without end": _tower(lambda: b"\xff" * 4096),
    "tower: a loop without end": _tower(_loop),
    "tower: branches": _tower(_branch),
    "tower: a function that calls itself": _tower(_with_function),
    "tower: operators of its own": _computing(_node("Own", "mean", "out", domain="evil.example")),
    "tower: no such operator": _computing(_node("Nothing", "mean", "out")),
    "tower: an operator that reads files": _computing(
        _node("EPContext", "mean", "out", domain="com.microsoft", ep_cache_context="/etc/passwd", embed_mode=0)
    ),
    "tower: it takes terabytes": _computing(
        _node("ConstantOfShape", "shape", "huge"),
        _node("ReduceSum", "huge", "all", keepdims=0),
        _node("Add", "mean", "all", "more"),
        _node("MatMul", "more", "weight", "out"),
        shape=np.asarray([10**6, 10**6]),
        weight=_ONES,
    ),
    "tower: it takes gigabytes": _computing(
        _node("Expand", "one", "shape", "huge"),
        _node("Add", "huge", "mean_of_all", "more"),
        _node("ReduceSum", "more", "all", keepdims=0),
        _node("Add", "mean", "all", "sum"),
        _node("MatMul", "sum", "weight", "out"),
        _node("ReduceMean", "mean", "mean_of_all", keepdims=0),
        one=np.ones((1, 1), np.float32),
        shape=np.asarray([30_000, 30_000]),
        weight=_ONES,
    ),
    "tower: it computes for minutes": _tower(_long),
    "tower: a range without end": _computing(
        _node("Range", "zero", "many", "step", "huge"),
        _node("ReduceSum", "huge", "all", keepdims=0),
        _node("Add", "mean", "all", "more"),
        _node("MatMul", "more", "weight", "out"),
        zero=np.float32(0),
        many=np.float32(1e13),
        step=np.float32(1),
        weight=_ONES,
    ),
    "tower: it answers NaN": _computing(
        _node("Log", "below", "out"), _node("Sub", "zero", "one", "below"), zero=0 * _ONES, one=_ONES
    ),
    "tower: it answers another dimension": _tower(
        lambda: tower(weights=[weight_of(np.ones((1, 3), np.float32))], dim=3)
    ),
    "tower: it answers one row": _computing(
        _node("ReduceMean", "all", "out", axes=[0], keepdims=1), _node("MatMul", "mean", "weight", "all"), weight=_ONES
    ),
    "tower: it answers a number": _computing(_node("ReduceMean", "mean", "out", keepdims=0)),
    "tower: it answers texts": _computing(_node("Cast", "mean", "out", to=TensorProto.STRING)),
    "tower: it answers nothing": _tower(lambda: _renamed("output")),
    "tower: it takes three inputs": _tower(lambda: _renamed("input")),
    "tower: a node without an input": _tower(lambda: _renamed("node")),
    "tower: a picture for texts": _tower(lambda: tower("image")),
    "tower: a text for pictures": _tower(lambda: tower("text"), "image"),
    "tower: a weight of another size": _tower(lambda: _promising([1, 10**9])),
    "tower: a weight of less than nothing": _tower(lambda: _promising([-1, 4])),
    "tower: a weight of terabytes": _tower(lambda: _promising([2**31, 2**31])),
    "tower: weights above the folder": _tower(_external("../../../../etc/passwd")),
    "tower: weights anywhere": _tower(_external("/etc/passwd")),
    "tower: weights of a device": _tower(_external("/dev/zero", 2**40)),
    "tower: weights that aren't there": _tower(_external("nothing.bin")),
    "tower: weights without a place": _tower(_external("")),
    "tower: weights in the folder itself": _tower(_external(".")),
    "tower: weights beyond the file's end": lambda folder: (
        (folder / "text.bin").write_bytes(bytes(8)),
        _tower(_external("text.bin", 16))(folder),
    ),
    "tower: weights linked to a file elsewhere": _linked("/etc/passwd"),
    "tower: weights linked to a device": _linked("/dev/zero"),
    "tower: weights are a pipe": _piped,
    "tower: ids beyond its words": _computing(
        _node("Gather", "words", "ids", "rows_of"),
        _node("ReduceMean", "rows_of", "out", axes=[1], keepdims=0),
        _node("Add", "input", "far", "ids"),
        words=np.ones((3, DIM), np.float32),
        far=np.asarray(10**6),
    ),
}
