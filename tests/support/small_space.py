"""A small space of three ONNX towers and small heads over `hashing`, as they should be."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers

DIM = 4
RATE_HZ = 16_000
Make = Callable[[Path], object]
"""Makes a model in a folder, or spoils one."""


def make_space(folder: Path) -> Path:
    """Write a space of three small ONNX towers into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("text", "image", "audio"):
        save(tower(name), folder / f"{name}.onnx")
    tokenizer().save(str(folder / "tokenizer.json"))
    spec = {
        "dim": DIM,
        "text": {"file": "text.onnx", "max_len": 16},
        "image": {"file": "image.onnx", "size": 32, "mean": [127.0] * 3, "std": [60.0] * 3},
        "audio": {"file": "audio.onnx", "sample_rate": RATE_HZ},
        "background": {"text-visual": [0.1, 0.2]},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def make_heads(folder: Path) -> Path:
    """Write an adapted space over `hashing` into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    put_heads(folder, head_arrays())
    return folder


def tokenizer() -> Tokenizer:
    """Return a tokenizer of three words."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "car": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


_SHAPES: Mapping[str, tuple[int, list[int | str]]] = {
    "text": (TensorProto.INT64, ["n", "t"]),
    "image": (TensorProto.FLOAT, ["n", 3, 32, 32]),
    "audio": (TensorProto.FLOAT, ["n", "t"]),
}


def tower(
    name: str = "text",
    nodes: Callable[[str], list[onnx.NodeProto]] | None = None,
    weights: list[onnx.TensorProto] | None = None,
    dim: int = DIM,
) -> onnx.ModelProto:
    """Return a tower that multiplies the mean of each input with `weight`, or computes `out` from `mean` by `nodes`."""
    kind, shape = _SHAPES[name]
    begin = [
        helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["rows"], axis=1),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=1),
    ]
    if weights is None:
        weights = [weight_of(np.linspace(1, 2, DIM, dtype=np.float32).reshape(1, DIM))]
    end = nodes("mean") if nodes else [helper.make_node("MatMul", ["mean", "weight"], ["out"])]
    feeds = [helper.make_tensor_value_info("input", kind, shape)]
    if name == "text":
        feeds.append(helper.make_tensor_value_info("mask", kind, shape))
    answer = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", dim])]
    graph = helper.make_graph([*begin, *end], "tower", feeds, answer, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weight_of(array: np.ndarray, name: str = "weight") -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(array, name)


def save(model: onnx.ModelProto, file: Path) -> None:
    """Write a model without a look at whether it is one."""
    file.write_bytes(model.SerializeToString())


def head_arrays(dim: int = 64, hidden: int = 8) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0).standard_normal
    shapes = {"w1": (hidden, 64), "b1": (hidden,), "w2": (dim, hidden), "b2": (dim,)}
    return {f"text.{name}": draw(shape).astype(np.float32) for name, shape in shapes.items()}


def put_heads(folder: Path, arrays: Mapping[str, np.ndarray], *, packed: bool = False) -> None:
    content = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(content, **arrays)  # type: ignore[arg-type]
    seal_heads(folder, content.getvalue())


def seal_heads(folder: Path, content: bytes, **changes: Any) -> None:  # noqa: ANN401
    """Write heads and the spec that says of them what it should."""
    (folder / "heads.npz").write_bytes(content)
    spec = {
        "dim": 64,
        "towers": {"text": {"pin": "hashing", "fingerprint": "hashing-1"}},
        "heads": {"file": "heads.npz", "digest": hashlib.sha256(content).hexdigest()},
    }
    (folder / "spec.json").write_text(json.dumps({**spec, **changes}))
