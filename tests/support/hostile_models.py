"""Model folders that nobody should be harmed by: specs, tokenizers, heads, ONNX files and names of odd kinds.

`hostile_models()` yields a name and a maker for each; a maker writes a small model into an empty folder and spoils it.
Whatever takes such a folder has to answer with one line.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

DIM = 4
RATE_HZ = 16_000
Make = Callable[[Path], object]
SLOW = {"tower: it computes for minutes"}
"""What takes seconds until a limit ends it."""


def hostile_models() -> Iterator[tuple[str, Make]]:
    """Yield every hostile model by name, with what makes it in an empty folder."""
    for kinds, base in ((_SPECS | _TOWERS | _TOKENIZERS | _FILES, make_space), (_ADAPTED, make_heads)):
        for name, spoil in kinds.items():
            yield name, lambda folder, base=base, spoil=spoil: (base(folder), spoil(folder))  # type: ignore[misc]


# A small model that is as it should be


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
    _write_heads(folder, _head())
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
        weights = [_weight(np.linspace(1, 2, DIM, dtype=np.float32).reshape(1, DIM))]
    end = nodes("mean") if nodes else [helper.make_node("MatMul", ["mean", "weight"], ["out"])]
    feeds = [helper.make_tensor_value_info("input", kind, shape)]
    if name == "text":
        feeds.append(helper.make_tensor_value_info("mask", kind, shape))
    answer = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", dim])]
    graph = helper.make_graph([*begin, *end], "tower", feeds, answer, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _weight(array: np.ndarray, name: str = "weight") -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(array, name)


def save(model: onnx.ModelProto, file: Path) -> None:
    """Write a model without a look at whether it is one."""
    file.write_bytes(model.SerializeToString())


# Specs


def _spec(**changes: Any) -> Make:  # noqa: ANN401
    """Return what changes fields of a spec, `text_max_len` being the field max_len of its section text."""

    def spoil(folder: Path) -> None:
        spec = json.loads((folder / "spec.json").read_bytes())
        for name, value in changes.items():
            section, _, field = name.partition("_")
            if section in ("text", "image", "audio", "heads") and field:
                spec[section][field] = value
            else:
                spec[name] = value
        (folder / "spec.json").write_text(json.dumps(spec))

    return spoil


def _raw(content: str | bytes) -> Make:
    return lambda folder: (folder / "spec.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


_SOME = ("text", "image", "audio")
_MEL = {"filters": "mel.npy", "n_fft": 64, "hop": 32, "max_samples": 640, "bands": 8, "padding": "pad"}


def _mel(bank: bytes | None = None, **changes: Any) -> Make:  # noqa: ANN401
    def spoil(folder: Path) -> None:
        good = io.BytesIO()
        np.save(good, np.ones((33, 8), np.float32))
        (folder / "mel.npy").write_bytes(good.getvalue() if bank is None else bank)
        _spec(audio_mel={**_MEL, **changes})(folder)

    return spoil


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npy_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


_SPECS: dict[str, Make] = {
    "spec: no object": _raw("[]"),
    "spec: nothing": _raw(""),
    "spec: cut off": _raw('{"dim": 4'),
    "spec: no text": _raw(b"\xff\xfe\x00"),
    "spec: nested deeply": _raw("[" * 200_000 + "]" * 200_000),
    "spec: a number without end": _raw('{"dim": ' + "9" * 100_000 + "}"),
    "spec: larger than any": _raw(" " * (2**20 + 1) + "{}"),
    "spec: no tower": _raw('{"dim": 4}'),
    "spec: dim missing": _raw('{"text": {"file": "text.onnx", "max_len": 16}}'),
    "spec: dim is a text": _spec(dim="x"),
    "spec: dim is nothing": _spec(dim=None),
    "spec: dim is a list": _spec(dim=[4]),
    "spec: dim 0": _spec(dim=0),
    "spec: dim below 0": _spec(dim=-4),
    "spec: dim is huge": _spec(dim=10**12),
    "spec: dim is infinite": _raw('{"dim": Infinity, "text": {"file": "text.onnx", "max_len": 16}}'),
    "spec: dim is true": _spec(dim=True),
    "spec: dim is another than the towers'": _spec(dim=5),
    "spec: text is a list": _spec(text=[]),
    "spec: text is a number": _spec(text=5),
    "spec: text is empty": _spec(text={}),
    "spec: max_len 0": _spec(text_max_len=0),
    "spec: max_len is huge": _spec(text_max_len=10**9),
    "spec: max_len is a fraction": _spec(text_max_len=7.5),
    "spec: pad_to is huge": _spec(text_pad_to=10**10),
    "spec: pad_to is less than max_len": _spec(text_pad_to=4),
    "spec: pad_id below 0": _spec(text_pad_id=-1),
    "spec: pad_id is huge": _spec(text_pad_id=2**63),
    "spec: no such cleaning": _spec(text_clean="sudo"),
    "spec: cleaning is a list": _spec(text_clean=["lower"]),
    "spec: a tower above the folder": _spec(text_file="../text.onnx"),
    "spec: a tower anywhere": _spec(text_file="/etc/passwd"),
    "spec: a tower is a device": _spec(text_file="/dev/zero"),
    "spec: a tower with NUL": _spec(text_file="text\0.onnx"),
    "spec: a tower of another format": _spec(text_file="text.ort"),
    "spec: a tower is nothing": _spec(text_file=None),
    "spec: a tower isn't there": _spec(text_file="nothing.onnx"),
    "spec: image is a text": _spec(image="x"),
    "spec: size is huge": _spec(image_size=10**7),
    "spec: size is a text": _spec(image_size="32"),
    "spec: size is another than the tower's": _spec(image_size=33),
    "spec: mean of two": _spec(image_mean=[1, 2]),
    "spec: mean of texts": _spec(image_mean=["a", "b", "c"]),
    "spec: mean is NaN": _spec(image_mean=[float("nan")] * 3),
    "spec: std of zeros": _spec(image_std=[0, 0, 0]),
    "spec: std is infinite": _spec(image_std=[float("inf")] * 3),
    "spec: std is so small that all overflows": _spec(image_std=[1e-300] * 3),
    "spec: transform is a list": _spec(image_transform=[]),
    "spec: transform of one side": _spec(image_transform={"size": [32]}),
    "spec: transform of huge sides": _spec(image_transform={"size": [10**9, 1]}),
    "spec: transform of fractions": _spec(image_transform={"size": [32.5, 32]}),
    "spec: no such resize": _spec(image_transform={"size": [32, 32], "resize": "rm"}),
    "spec: no such interpolation": _spec(image_transform={"size": [32, 32], "interpolation": "x"}),
    "spec: fill is a text": _spec(image_transform={"size": [32, 32], "resize": "longest", "fill": "x"}),
    "spec: sample_rate 0": _spec(audio_sample_rate=0),
    "spec: sample_rate is huge": _spec(audio_sample_rate=10**12),
    "spec: sample_rate is a text": _spec(audio_sample_rate="16000"),
    "spec: mel is a list": _spec(audio_mel=[1]),
    "spec: mel of huge windows": _mel(n_fft=2**40),
    "spec: mel of huge sounds": _mel(max_samples=2**50),
    "spec: mel without a hop": _mel(hop=0),
    "spec: mel of a million bands": _mel(bands=10**6),
    "spec: no such padding": _mel(padding="x"),
    "spec: filters above the folder": _mel(filters="../../mel.npy"),
    "spec: filters that hold code": _mel(bank=_npy(np.ones((33, 8), np.float32)).replace(b"<f4", b"|O8")),
    "spec: filters of another shape": _mel(bank=_npy(np.ones((8, 33), np.float32))),
    "spec: filters that promise terabytes": _mel(bank=_npy_of((33, 10**12))),
    "spec: filters of NaN": _mel(bank=_npy(np.full((33, 8), np.nan, np.float32))),
    "spec: filters of texts": _mel(bank=_npy(np.full((33, 8), "x"))),
    "spec: filters are no array": _mel(bank=b"PK\x03\x04"),
    "spec: files is a list": _spec(files=["text.onnx"]),
    "spec: files above the folder": _spec(files={"../x": "0" * 64}),
    "spec: files of another digest": _spec(files={"text.onnx": "0" * 64}),
    "spec: background is a list": _spec(background=[1]),
    "spec: background of one": _spec(background={"text-visual": [1]}),
    "spec: background is NaN": _spec(background={"text-visual": [float("nan"), 1]}),
    "spec: background of a million pairs": _spec(background={str(n): [0, 1] for n in range(20_000)}),
    "spec: fingerprint is a list": _spec(fingerprint=[]),
    "spec: fingerprint is a path": _spec(fingerprint="../../../../etc"),
    "spec: heads and towers": _spec(heads={"file": "x", "digest": "0" * 64}),
}


# Towers


def _tower(model: Callable[[], onnx.ModelProto | bytes], name: str = "text") -> Make:
    def spoil(folder: Path) -> None:
        made = model()
        content = made if isinstance(made, bytes) else made.SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)

    return spoil


def _computing(*nodes: onnx.NodeProto, **weights: Any) -> Make:  # noqa: ANN401
    arrays = [_weight(np.asarray(array), name) for name, array in weights.items()]
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
    weights = [_weight(np.ones((1, DIM), np.float32)), _weight(np.asarray(True), "yes")]
    return tower(nodes=lambda _mean: [loop, end], weights=weights)


def _branch() -> onnx.ModelProto:
    one = helper.make_graph(
        [helper.make_node("MatMul", ["mean", "weight"], ["answer"])],
        "one",
        [],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["out"], then_branch=one, else_branch=one)
    weights = [_weight(np.ones((1, DIM), np.float32)), _weight(np.asarray(True), "yes")]
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
        _weight(np.ones((1, DIM), np.float32)),
        _weight(np.ones((1, 1), np.float32), "one"),
        _weight(np.asarray([size, size]), "shape"),
    ]
    return tower(nodes=lambda _mean: [square, drawn, *steps, *end], weights=weights)


def _node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:  # noqa: ANN401
    return helper.make_node(kind, list(names[:-1]), [names[-1]], **attributes)


_ONES = np.ones((1, DIM), np.float32)
_TOWERS: dict[str, Make] = {
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
    "tower: it answers another dimension": _tower(lambda: tower(weights=[_weight(np.ones((1, 3), np.float32))], dim=3)),
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


# Tokenizers


def _tokenizer(**changes: Any) -> Make:  # noqa: ANN401
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "tokenizer.json").read_bytes())
        (folder / "tokenizer.json").write_text(json.dumps({**fields, **changes}))

    return spoil


def _saved(change: Callable[[Tokenizer], object]) -> Make:
    def spoil(folder: Path) -> None:
        made = tokenizer()
        change(made)
        made.save(str(folder / "tokenizer.json"))

    return spoil


def _growing(made: Tokenizer) -> None:
    made.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa") for _ in range(60)])


def _special(made: Tokenizer) -> None:
    made.add_special_tokens(["<s>"])
    made.post_processor = processors.TemplateProcessing(single="<s> " * 20 + "$A", special_tokens=[("<s>", 3)])


def _text(content: bytes) -> Make:
    return lambda folder: (folder / "tokenizer.json").write_bytes(content)


def _word_level(vocabulary: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}


_TOKENIZERS: dict[str, Make] = {
    "tokenizer: none": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer: nothing": _text(b""),
    "tokenizer: an empty object": _text(b"{}"),
    "tokenizer: a list": _text(b"[1]"),
    "tokenizer: no text": _text(b"\xff\xfe\x00\x01"),
    "tokenizer: nested deeply": _text(b"[" * 1_000_000),
    "tokenizer: larger than any": lambda folder: os.truncate(folder / "tokenizer.json", 2**40),
    "tokenizer: no such model": _tokenizer(model={"type": "Nothing"}),
    "tokenizer: no such normalizer": _tokenizer(normalizer={"type": "Nothing"}),
    "tokenizer: a broken pattern": _tokenizer(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((["}, "behavior": "Removed", "invert": False}
    ),
    "tokenizer: words without numbers": _tokenizer(model=_word_level({"[UNK]": "x"})),
    "tokenizer: numbers below 0": _tokenizer(model=_word_level({"[UNK]": -5})),
    "tokenizer: numbers beyond any": _tokenizer(model=_word_level({"[UNK]": 2**40})),
    "tokenizer: no word for the unknown": _tokenizer(model=_word_level({"red": 0})),
    "tokenizer: pairs of words that aren't there": _tokenizer(
        model={"type": "BPE", "vocab": {"a": 0}, "merges": ["a b", "x y"]}
    ),
    "tokenizer: unigrams without scores": _tokenizer(model={"type": "Unigram", "vocab": [["a"]], "unk_id": 7}),
    "tokenizer: an unknown unigram beyond the words": _tokenizer(
        model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}
    ),
    "tokenizer: it doubles a letter sixty times": _saved(_growing),
    "tokenizer: more special words than fit": _saved(_special),
    "tokenizer: a broken character map": _tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "tokenizer: an odd template": _tokenizer(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    ),
}


# Files that are none


def _instead(name: str, put: Callable[[Path], object]) -> Make:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return spoil


_PLACED: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link elsewhere": lambda file: file.symlink_to("/etc/passwd"),
}
_FILES: dict[str, Make] = {
    f"{name} is {kind}": _instead(name, put)
    for name in ("spec.json", "text.onnx", "tokenizer.json")
    for kind, put in _PLACED.items()
}


# Heads


def _head(dim: int = 64, hidden: int = 8) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0).standard_normal
    shapes = {"w1": (hidden, 64), "b1": (hidden,), "w2": (dim, hidden), "b2": (dim,)}
    return {f"text.{name}": draw(shape).astype(np.float32) for name, shape in shapes.items()}


def _write_heads(folder: Path, arrays: Mapping[str, np.ndarray], *, packed: bool = False) -> None:
    content = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(content, **arrays)  # type: ignore[arg-type]
    _seal(folder, content.getvalue())


def _seal(folder: Path, content: bytes, **changes: Any) -> None:  # noqa: ANN401
    """Write heads and the spec that says of them what it should."""
    (folder / "heads.npz").write_bytes(content)
    spec = {
        "dim": 64,
        "towers": {"text": {"pin": "hashing", "fingerprint": "hashing-1"}},
        "heads": {"file": "heads.npz", "digest": hashlib.sha256(content).hexdigest()},
    }
    (folder / "spec.json").write_text(json.dumps({**spec, **changes}))


def _heads(*, packed: bool = False, **arrays: np.ndarray) -> Make:
    changed = {f"text.{name}": array for name, array in arrays.items()}
    return lambda folder: _write_heads(folder, {**_head(), **changed}, packed=packed)


def _bomb(folder: Path) -> None:
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("text.w1.npy", "w", force_zip64=True) as member,
    ):
        member.write(_npy_of((2**20, 64)))
        for _ in range(256):
            member.write(bytes(2**20))
    _seal(folder, content.getvalue())


def _base(pin: Any, fingerprint: Any = "hashing-1") -> Make:  # noqa: ANN401
    tower = {"pin": pin, "fingerprint": fingerprint}
    return lambda folder: _seal(folder, (folder / "heads.npz").read_bytes(), towers={"text": tower})


_ADAPTED: dict[str, Make] = {
    "heads: a bomb": _bomb,
    "heads: packed": _heads(packed=True, w1=np.zeros((1024, 64), np.float32), b1=np.zeros(1024, np.float32)),
    "heads: no archive": lambda folder: _seal(folder, b"nothing"),
    "heads: nothing": lambda folder: _seal(folder, b""),
    "heads: of another digest": _raw(
        json.dumps(
            {
                "dim": 64,
                "towers": {"text": {"pin": "hashing", "fingerprint": "hashing-1"}},
                "heads": {"file": "heads.npz", "digest": "0" * 64},
            }
        )
    ),
    "heads: above the folder": _spec(heads_file="../heads.npz"),
    "heads: anywhere": _spec(heads_file="/dev/zero"),
    "heads: are a pipe": _instead("heads.npz", os.mkfifo),
    "heads: are a link to a device": _instead("heads.npz", lambda file: file.symlink_to("/dev/zero")),
    "heads: hold code": lambda folder: _write_heads(folder, {**_head(), "text.b1": np.asarray([{}], object)}),
    "heads: of NaN": _heads(b2=np.full(64, np.nan, np.float32)),
    "heads: of infinity": _heads(w1=np.full((8, 64), np.inf, np.float32)),
    "heads: of texts": _heads(b1=np.full(8, "x")),
    "heads: of whole numbers": _heads(b1=np.zeros(8, np.int64)),
    "heads: of no dimension": _heads(w1=np.asarray(1, np.float32)),
    "heads: of three dimensions": _heads(w1=np.zeros((8, 8, 8), np.float32)),
    "heads: of another width": _heads(w1=np.zeros((8, 63), np.float32)),
    "heads: of too many units": _heads(
        w1=np.zeros((5000, 64), np.float32), b1=np.zeros(5000, np.float32), w2=np.zeros((64, 5000), np.float32)
    ),
    "heads: of a view that there isn't": lambda folder: _write_heads(
        folder, {**_head(), "smell.w1": np.zeros((8, 64), np.float32)}
    ),
    "heads: with a part more": _heads(w3=np.zeros((8, 64), np.float32)),
    "heads: with a part less": lambda folder: _write_heads(folder, {"text.w1": np.zeros((8, 64), np.float32)}),
    "heads: of no tower": lambda folder: _seal(folder, (folder / "heads.npz").read_bytes(), towers={}),
    "heads: towers are a list": lambda folder: _seal(folder, (folder / "heads.npz").read_bytes(), towers=[1]),
    "heads: a tower is a text": lambda folder: _seal(folder, (folder / "heads.npz").read_bytes(), towers={"text": "x"}),
    "heads: a view that there isn't": lambda folder: _seal(
        folder, (folder / "heads.npz").read_bytes(), towers={"smell": {"pin": "hashing", "fingerprint": "hashing-1"}}
    ),
    "heads: dim is huge": lambda folder: _seal(folder, (folder / "heads.npz").read_bytes(), dim=10**9),
    "heads: over a number": _base(5),
    "heads: over nothing": _base(""),
    "heads: over another space": _base("mini"),
    "heads: over a model of the hub": _base("hf-hub:anybody/anything"),
    "heads: over a model of the hub in some state": _base("hf-hub:anybody/anything#0123456789abcdef"),
    "heads: over a folder anywhere": _base("local-dir:/etc"),
    "heads: over a checkpoint anywhere": _base("ViT-B-32:/etc/passwd"),
    "heads: over a published model": _base("ViT-B-32/openai"),
    "heads: over a space above the library": _base("adapted:../../x"),
    "heads: over themselves": lambda folder: _base(f"local-dir:{folder}")(folder),
}
