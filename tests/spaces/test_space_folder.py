"""The folder of a space: it is whole, or its damage is a model error; and its fingerprint is of what counts."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.payloads import MINI, fingerprint_with, towers
from support.payloads import mini as mini

from mmsearch.errors import ModelError
from mmsearch.spaces import embed, load_profile
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.types import View


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MINI, tmp_path / "mini"))


def test_the_embedded_space_has_the_digests_of_its_spec() -> None:
    for name, digest in towers()["files"].items():
        assert hashlib.sha256((MINI / name).read_bytes()).hexdigest() == digest
    weights = {file.name for file in MINI.iterdir() if file.suffix != ".md"} - {"spec.json"}
    assert set(towers()["files"]) == weights


@pytest.mark.parametrize("spec", [None, "", "{", "[]", "5", '{"dim": 4, "image": {}}', '{"name": "x"}'])
def test_a_folder_without_a_spec_is_a_model_error_of_one_line(tmp_path: Path, spec: str | None) -> None:
    if spec is not None:
        (tmp_path / "spec.json").write_text(spec)
    with pytest.raises(ModelError, match="is not a space folder") as caught:
        OnnxSpace("x", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_tower_is_a_model_error_of_one_line(folder: Path) -> None:
    (folder / "text.onnx").write_bytes(b"this is no tower")
    with pytest.raises(ModelError, match=r"text\.onnx can't be loaded") as caught:
        embed(OnnxSpace("mini", folder), View.TEXT, ["red"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"{}", b"\xff\x00"])
def test_a_missing_or_damaged_tokenizer_is_a_model_error_that_names_it(folder: Path, content: bytes | None) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        embed(OnnxSpace("mini", folder), View.TEXT, ["red"])


def test_a_view_that_a_space_has_no_tower_for_is_a_model_error(folder: Path) -> None:
    spec = towers()
    del spec["audio"]
    (folder / "spec.json").write_text(json.dumps(spec))
    space = OnnxSpace("deaf", folder)
    assert set(space.front_ends) == {View.TEXT, View.VISUAL}
    with pytest.raises(ModelError, match="deaf has no tower for the audio view"):
        space.encode(View.AUDIO, [np.zeros(16_000, np.float32)])
    with pytest.raises(ModelError, match="deaf has no tower for the audio view"):
        embed(space, View.AUDIO, [np.zeros(16_000, np.float32)])


def test_the_fingerprint_changes_with_weights_and_preprocessing_and_with_nothing_else(tmp_path: Path) -> None:
    spec = towers()
    same = fingerprint_with(tmp_path)
    assert same == load_profile("mini").spaces[0].fingerprint
    assert fingerprint_with(tmp_path, background={}, licence="MIT", training_data=[]) == same
    assert fingerprint_with(tmp_path, files={**spec["files"], "text.onnx": "0" * 64}) != same
    assert fingerprint_with(tmp_path, image={**spec["image"], "mean": [0, 0, 0]}) != same
    assert fingerprint_with(tmp_path, dim=128) != same
