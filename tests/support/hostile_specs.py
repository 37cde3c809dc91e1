"""Specs of a space that nobody should be harmed by: of no kind, of wrong types, of huge numbers, of paths elsewhere."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from support.small_space import Make


def spec_with(**changes: Any) -> Make:  # noqa: ANN401
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


def raw_spec(content: str | bytes) -> Make:
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
        spec_with(audio_mel={**_MEL, **changes})(folder)

    return spoil


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


SPECS: dict[str, Make] = {
    "spec: no object": raw_spec("[]"),
    "spec: nothing": raw_spec(""),
    "spec: cut off": raw_spec('{"dim": 4'),
    "spec: no text": raw_spec(b"\xff\xfe\x00"),
    "spec: nested deeply": raw_spec("[" * 200_000 + "]" * 200_000),
    "spec: a number without end": raw_spec('{"dim": ' + "9" * 100_000 + "}"),
    "spec: larger than any": raw_spec(" " * (2**20 + 1) + "{}"),
    "spec: no tower": raw_spec('{"dim": 4}'),
    "spec: dim missing": raw_spec('{"text": {"file": "text.onnx", "max_len": 16}}'),
    "spec: dim is a text": spec_with(dim="x"),
    "spec: dim is nothing": spec_with(dim=None),
    "spec: dim is a list": spec_with(dim=[4]),
    "spec: dim 0": spec_with(dim=0),
    "spec: dim below 0": spec_with(dim=-4),
    "spec: dim is huge": spec_with(dim=10**12),
    "spec: dim is infinite": raw_spec('{"dim": Infinity, "text": {"file": "text.onnx", "max_len": 16}}'),
    "spec: dim is true": spec_with(dim=True),
    "spec: dim is another than the towers'": spec_with(dim=5),
    "spec: text is a list": spec_with(text=[]),
    "spec: text is a number": spec_with(text=5),
    "spec: text is empty": spec_with(text={}),
    "spec: max_len 0": spec_with(text_max_len=0),
    "spec: max_len is huge": spec_with(text_max_len=10**9),
    "spec: max_len is a fraction": spec_with(text_max_len=7.5),
    "spec: pad_to is huge": spec_with(text_pad_to=10**10),
    "spec: pad_to is less than max_len": spec_with(text_pad_to=4),
    "spec: pad_id below 0": spec_with(text_pad_id=-1),
    "spec: pad_id is huge": spec_with(text_pad_id=2**63),
    "spec: no such cleaning": spec_with(text_clean="sudo"),
    "spec: cleaning is a list": spec_with(text_clean=["lower"]),
    "spec: a tower above the folder": spec_with(text_file="../text.onnx"),
    "spec: a tower anywhere": spec_with(text_file="/etc/passwd"),
    "spec: a tower is a device": spec_with(text_file="/dev/zero"),
    "spec: a tower with NUL": spec_with(text_file="text\0.onnx"),
    "spec: a tower of another format": spec_with(text_file="text.ort"),
    "spec: a tower is nothing": spec_with(text_file=None),
    "spec: a tower isn't there": spec_with(text_file="nothing.onnx"),
    "spec: image is a text": spec_with(image="x"),
    "spec: size is huge": spec_with(image_size=10**7),
    "spec: size is a text": spec_with(image_size="32"),
    "spec: size is another than the tower's": spec_with(image_size=33),
    "spec: mean of two": spec_with(image_mean=[1, 2]),
    "spec: mean of texts": spec_with(image_mean=["a", "b", "c"]),
    "spec: mean is NaN": spec_with(image_mean=[float("nan")] * 3),
    "spec: std of zeros": spec_with(image_std=[0, 0, 0]),
    "spec: std is infinite": spec_with(image_std=[float("inf")] * 3),
    "spec: std is so small that all overflows": spec_with(image_std=[1e-300] * 3),
    "spec: transform is a list": spec_with(image_transform=[]),
    "spec: transform of one side": spec_with(image_transform={"size": [32]}),
    "spec: transform of huge sides": spec_with(image_transform={"size": [10**9, 1]}),
    "spec: transform of fractions": spec_with(image_transform={"size": [32.5, 32]}),
    "spec: no such resize": spec_with(image_transform={"size": [32, 32], "resize": "rm"}),
    "spec: no such interpolation": spec_with(image_transform={"size": [32, 32], "interpolation": "x"}),
    "spec: fill is a text": spec_with(image_transform={"size": [32, 32], "resize": "longest", "fill": "x"}),
    "spec: sample_rate 0": spec_with(audio_sample_rate=0),
    "spec: sample_rate is huge": spec_with(audio_sample_rate=10**12),
    "spec: sample_rate is a text": spec_with(audio_sample_rate="16000"),
    "spec: mel is a list": spec_with(audio_mel=[1]),
    "spec: mel of huge windows": _mel(n_fft=2**40),
    "spec: mel of huge sounds": _mel(max_samples=2**50),
    "spec: mel without a hop": _mel(hop=0),
    "spec: mel of a million bands": _mel(bands=10**6),
    "spec: no such padding": _mel(padding="x"),
    "spec: filters above the folder": _mel(filters="../../mel.npy"),
    "spec: filters that hold code": _mel(bank=_npy(np.ones((33, 8), np.float32)).replace(b"<f4", b"|O8")),
    "spec: filters of another shape": _mel(bank=_npy(np.ones((8, 33), np.float32))),
    "spec: filters that promise terabytes": _mel(bank=npy_of((33, 10**12))),
    "spec: filters of NaN": _mel(bank=_npy(np.full((33, 8), np.nan, np.float32))),
    "spec: filters of texts": _mel(bank=_npy(np.full((33, 8), "x"))),
    "spec: filters are no array": _mel(bank=b"PK\x03\x04"),
    "spec: files is a list": spec_with(files=["text.onnx"]),
    "spec: files above the folder": spec_with(files={"../x": "0" * 64}),
    "spec: files of another digest": spec_with(files={"text.onnx": "0" * 64}),
    "spec: background is a list": spec_with(background=[1]),
    "spec: background of one": spec_with(background={"text-visual": [1]}),
    "spec: background is NaN": spec_with(background={"text-visual": [float("nan"), 1]}),
    "spec: background of a million pairs": spec_with(background={str(n): [0, 1] for n in range(20_000)}),
    "spec: fingerprint is a list": spec_with(fingerprint=[]),
    "spec: fingerprint is a path": spec_with(fingerprint="../../../../etc"),
    "spec: heads and towers": spec_with(heads={"file": "x", "digest": "0" * 64}),
}
