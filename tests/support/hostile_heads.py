"""Heads over a base that nobody should be harmed by: packed, of other shapes, of bases anywhere."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from support.hostile_files import instead
from support.hostile_specs import npy_of, raw_spec, spec_with
from support.small_space import Make, head_arrays, put_heads, seal_heads


def _heads(*, packed: bool = False, **arrays: np.ndarray) -> Make:
    changed = {f"text.{name}": array for name, array in arrays.items()}
    return lambda folder: put_heads(folder, {**head_arrays(), **changed}, packed=packed)


def _bomb(folder: Path) -> None:
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("text.w1.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy_of((2**20, 64)))
        for _ in range(256):
            member.write(bytes(2**20))
    seal_heads(folder, content.getvalue())


def _base(pin: Any, fingerprint: Any = "hashing-1") -> Make:  # noqa: ANN401
    tower = {"pin": pin, "fingerprint": fingerprint}
    return lambda folder: seal_heads(folder, (folder / "heads.npz").read_bytes(), towers={"text": tower})


HEADS: dict[str, Make] = {
    "heads: a bomb": _bomb,
    "heads: packed": _heads(packed=True, w1=np.zeros((1024, 64), np.float32), b1=np.zeros(1024, np.float32)),
    "heads: no archive": lambda folder: seal_heads(folder, b"nothing"),
    "heads: nothing": lambda folder: seal_heads(folder, b""),
    "heads: of another digest": raw_spec(
        json.dumps(
            {
                "dim": 64,
                "towers": {"text": {"pin": "hashing", "fingerprint": "hashing-1"}},
                "heads": {"file": "heads.npz", "digest": "0" * 64},
            }
        )
    ),
    "heads: above the folder": spec_with(heads_file="../heads.npz"),
    "heads: anywhere": spec_with(heads_file="/dev/zero"),
    "heads: are a pipe": instead("heads.npz", os.mkfifo),
    "heads: are a link to a device": instead("heads.npz", lambda file: file.symlink_to("/dev/zero")),
    "heads: hold code": lambda folder: put_heads(folder, {**head_arrays(), "text.b1": np.asarray([{}], object)}),
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
    "heads: of a view that there isn't": lambda folder: put_heads(
        folder, {**head_arrays(), "smell.w1": np.zeros((8, 64), np.float32)}
    ),
    "heads: with a part more": _heads(w3=np.zeros((8, 64), np.float32)),
    "heads: with a part less": lambda folder: put_heads(folder, {"text.w1": np.zeros((8, 64), np.float32)}),
    "heads: of no tower": lambda folder: seal_heads(folder, (folder / "heads.npz").read_bytes(), towers={}),
    "heads: towers are a list": lambda folder: seal_heads(folder, (folder / "heads.npz").read_bytes(), towers=[1]),
    "heads: a tower is a text": lambda folder: seal_heads(
        folder, (folder / "heads.npz").read_bytes(), towers={"text": "x"}
    ),
    "heads: a view that there isn't": lambda folder: seal_heads(
        folder, (folder / "heads.npz").read_bytes(), towers={"smell": {"pin": "hashing", "fingerprint": "hashing-1"}}
    ),
    "heads: dim is huge": lambda folder: seal_heads(folder, (folder / "heads.npz").read_bytes(), dim=10**9),
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
