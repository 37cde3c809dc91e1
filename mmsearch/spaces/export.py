"""Exports towers from torch to a space folder that onnxruntime runs: `spec.json`, ONNX files, `tokenizer.json`.

Every export is verified: the tokenizer id by id on unusual texts, each tower by the cosine of its vectors.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.errors import ModelError
from mmsearch.spaces.base import normalise
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.onnx import TOWERS, OnnxSpace, load_onnxruntime
from mmsearch.spaces.towers import Tower, Towers, quiet
from mmsearch.types import View

_OPSET = 17
_MIN_COSINE = 0.999
_INLINE_BYTES = 1024
"""Smaller weights stay in the ONNX file. Larger ones go into a second file, which onnxruntime maps without copying."""
_PLAIN_TEXTS = ("a photo of a dog", "ein großes Haus, zwei Äpfel", "une voiture à l'été", "žlutý kůň", "红色 1984")
ODD_TEXTS = (
    "",
    " ",
    "a photo of a dog",
    "Two  dogs,\tone\nball!",
    "it's they're I'd we'll you've I'm don't",
    "Ein Hund läuft über die Straße; größer, schöner, Füße",
    "Un garçon à vélo, l'été, où ça ? « là-bas »",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "一只红色的汽车 停在 路边",
    "سيارة حمراء בית גדול",
    "красная машина Ελλάδα ญี่ปุ่น 한국어 とうきょう",
    "🦔🚗👩‍👩‍👧 ☃ é e\u0301 ﬁ ½ ²",
    "1234567890 3.14 1,000,000 0x1F",
    "snake_case CamelCase kebab-case a/b\\c #tag @you",
    "&amp;lt;b&amp;gt; &eacute; &#233; <b>bold</b> schÃ¶n â€œquotedâ€\u009d",
    "<start_of_text> <end_of_text> <s> </s> <pad> <eos> [CLS] [SEP] [PAD]",
    "\u017f K \u0131 İ ß ẞ Ǆ 'S 'RE",
    "\u200b\u00a0\ufeff\u0000\u0007 control",
    "x" * 300,
    "a very long sentence about the blue sea and " * 40,
    "...!!!???---___***",
)


def specification(towers: Towers, weights: str, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of the towers' space, with a fingerprint of weights and preprocessing."""
    sections = {TOWERS[view]: dict(tower.spec) for view, tower in towers.towers.items()}
    arrays = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in towers.arrays.items()}
    # The tokenizer is represented by its vocabulary and its ids of some texts: other parts of its file depend on the
    # version of transformers.
    tokenizer = [towers.tokenize(_PLAIN_TEXTS).tolist(), json.loads(towers.tokenizer)["model"]]
    defining = [weights, architecture, towers.dim, sections, arrays, tokenizer]
    fingerprint = hashlib.blake2b(json.dumps(defining, sort_keys=True).encode(), digest_size=8).hexdigest()
    for name, section in sections.items():
        section["file"] = f"{name}.onnx"
    return {"dim": towers.dim, "fingerprint": fingerprint, **sections}


def export(towers: Towers, spec: Mapping[str, Any], folder: Path) -> None:
    """Write a space folder. Raises `ModelError` if its results differ from the towers', and `OSError`."""
    (folder / "tokenizer.json").write_text(towers.tokenizer, "utf-8")
    for name, array in towers.arrays.items():
        np.save(folder / f"{name}.npy", array)
    _check_tokenizer(towers, spec, folder)
    for view, tower in towers.towers.items():
        _write(tower, folder / f"{TOWERS[view]}.onnx")
    (folder / "spec.json").write_text(json.dumps(spec, indent=1), "utf-8")
    space = OnnxSpace("the export", folder, "cpu")
    for view, tower in towers.towers.items():
        _check_tower(tower, space, view)


def _write(tower: Tower, file: Path) -> None:
    import onnx
    import torch

    raw = file.parent / "raw"  # a model over 2 GB is written as a file for each weight
    raw.mkdir()
    whole = raw / file.name
    # The fused attention of PyTorch's own transformer layers has no counterpart in ONNX.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), quiet():
            torch.onnx.export(
                tower.module,
                (tower.example,),
                str(whole),
                input_names=["input"],
                output_names=["vectors"],
                dynamic_axes={"input": {0: "n"}, "vectors": {0: "n"}},
                opset_version=_OPSET,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    graph = onnx.load(str(whole))
    shutil.rmtree(raw)
    onnx.save_model(
        graph,
        str(file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{file.stem}.bin",
        size_threshold=_INLINE_BYTES,
    )


def quantise(tower: Path, file: Path) -> None:
    """Write a copy of a tower with 8-bit weights, with one scale for each output channel.

    This is onnxruntime's dynamic quantisation. Activations are scaled per batch, so a picture's vector depends slightly
    on the others of its batch; `indexer.precision` measures the effect on the user's own pictures.
    """
    load_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            str(tower),
            str(file),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"DefaultTensorType": 1},  # float32, for tensors whose type can't be inferred
        )


def _check_tokenizer(towers: Towers, spec: Mapping[str, Any], folder: Path) -> None:
    text = spec["text"]
    front_end = Tokens(folder / "tokenizer.json", text["max_len"], text["clean"])
    for words, wanted in zip(ODD_TEXTS, towers.tokenize(ODD_TEXTS), strict=True):
        ids = front_end(words)
        padded = np.full(len(wanted), text["pad_id"], np.int64)
        padded[: len(ids)] = ids
        if not np.array_equal(padded, wanted):
            raise ModelError(f"its tokenizer can't be exported: it differs for {words[:40]!r}; choose another model")


def _check_tower(tower: Tower, space: OnnxSpace, view: View) -> None:
    """Compare an exported tower with the one in torch, on a batch of another size than the traced one."""
    import torch

    generator = torch.Generator().manual_seed(0)
    if tower.example.dtype == torch.int64:
        inputs = tower.example[[0, 1, 0]]
    else:
        inputs = torch.randn((3, *tower.example.shape[1:]), generator=generator)
    with torch.inference_mode():
        wanted = normalise(tower.module(inputs).float().numpy())
    exported = normalise(space.run_tower(view, inputs.numpy()))
    lowest = float(np.sum(wanted * exported, axis=1).min())
    if not lowest >= _MIN_COSINE:
        raise ModelError(f"its {view} tower can't be exported (cosine {lowest:.4f} with torch's); choose another model")
