"""The towers of CLAP, their exports and their tokenizer compute what transformers computes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from support.clap_folders import extractor
from support.clap_folders import folder as folder
from support.clap_folders import unfused as unfused
from support.small_clap import CORPUS, DIM, RATE_HZ, make_clap, sample_sounds
from tokenizers import Tokenizer

from mmsearch.spaces.base import embed, normalise
from mmsearch.spaces.clap import load_clap
from mmsearch.spaces.export import ODD_TEXTS, export, specification
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.mel import LogMel
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.towers import Towers
from mmsearch.types import View

Model = Any
"""A ClapModel, whose types are of no use here."""

TEXTS = [*CORPUS, "", "x", "rain " * 200, "🦔 hört Musik"]


@pytest.fixture(scope="module", params=["unfused", "fused"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # One of them as safetensors, the other in torch's own format.
    fused = request.param == "fused"
    return make_clap(tmp_path_factory.mktemp(request.param), fused=fused, pickled=fused)


@pytest.fixture(scope="module")
def towers(checkpoint: Path) -> Towers:
    return load_clap(checkpoint)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Model:
    from transformers import ClapModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ClapModel.from_pretrained(checkpoint)  # ready to infer, without dropout


def test_a_clap_has_towers_for_texts_and_sounds(towers: Towers) -> None:
    assert set(towers.towers) == {View.TEXT, View.AUDIO}
    assert towers.dim == DIM
    text, sound = towers.towers[View.TEXT], towers.towers[View.AUDIO]
    assert (text.example.shape, text.example.dtype) == ((2, 77), torch.int64)
    assert (sound.example.shape, sound.example.dtype) == ((2, 1001, 64), torch.float32)
    assert text.spec == {"max_len": 77, "pad_to": 77, "pad_id": 1, "clean": "none"}
    assert json.loads(json.dumps(sound.spec)) == {
        "sample_rate": 48_000,
        "min_samples": 0,
        "max_samples": 480_000,
        "mel": {
            "filters": "mel.npy",
            "n_fft": 1024,
            "hop": 480,
            "max_samples": 480_000,
            "bands": 64,
            "padding": "repeatpad",
        },
    }


def made_front_end(towers: Towers, folder: Path) -> LogMel:
    spec = towers.towers[View.AUDIO].spec
    for name, array in towers.arrays.items():
        np.save(folder / f"{name}.npy", array)
    mel = spec["mel"]
    return LogMel(spec["sample_rate"], **{**mel, "filters": folder / mel["filters"]})


def inputs(towers: Towers, view: View, folder: Path) -> NDArray[Any]:
    if view is View.TEXT:
        return towers.tokenize(TEXTS)
    end = made_front_end(towers, folder)
    return np.stack([end(wave) for wave in sample_sounds()])


def expected(reference: Model, checkpoint: Path, view: View) -> NDArray[np.float32]:
    """Return the unit vectors of the texts or the sounds, all by transformers."""
    from transformers import AutoTokenizer, ClapFeatureExtractor

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        if view is View.TEXT:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint)
            feeds = tokenizer(TEXTS, padding=True, truncation=True, max_length=77, return_tensors="pt")
            found = reference.get_text_features(**feeds)
        else:
            by = ClapFeatureExtractor.from_pretrained(checkpoint)
            feeds = by(sample_sounds(), sampling_rate=RATE_HZ, return_tensors="pt")
            feeds["is_longer"] = torch.zeros(len(sample_sounds()), 1, dtype=torch.bool)
            found = reference.get_audio_features(**feeds)
    return normalise(getattr(found, "pooler_output", found).numpy())


@pytest.mark.parametrize("view", [View.TEXT, View.AUDIO])
def test_a_tower_computes_what_transformers_computes(
    towers: Towers, reference: Model, checkpoint: Path, view: View, tmp_path: Path
) -> None:
    wanted = expected(reference, checkpoint, view)
    with torch.inference_mode():
        got = normalise(towers.towers[view].module(torch.from_numpy(inputs(towers, view, tmp_path))).numpy())
    assert np.sum(got * wanted, axis=1).min() >= 0.9999
    cosines = wanted @ wanted.T
    np.fill_diagonal(cosines, 0)
    assert np.median(cosines) < 0.8  # else the check above would say little
    assert np.abs(got - np.roll(wanted, 1, axis=0)).max() > 0.1


@pytest.mark.parametrize("view", [View.TEXT, View.AUDIO])
def test_an_exported_tower_computes_the_same_for_every_batch(towers: Towers, view: View, tmp_path: Path) -> None:
    tower = towers.towers[view]
    mine = inputs(towers, view, tmp_path)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, and unsure of everything it sees
        torch.onnx.export(
            tower.module,
            (tower.example,),
            str(tmp_path / "tower.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            dynamic_axes={"input": {0: "n"}},
        )
        torch.backends.mha.set_fastpath_enabled(fast)
        wanted = tower.module(torch.from_numpy(mine)).numpy()
    session = ort.InferenceSession(str(tmp_path / "tower.onnx"), providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["input"]
    for batch in (1, 2, 5):
        for start in (0, len(mine) - batch):
            got = session.run(None, {"input": mine[start : start + batch]})[0]
            assert got.shape == (batch, DIM)
            cosines = np.sum(normalise(got) * normalise(wanted[start : start + batch]), axis=1)
            assert cosines.min() >= 0.9999


def test_padding_changes_no_text(towers: Towers) -> None:
    module = towers.towers[View.TEXT].module
    ids = torch.from_numpy(towers.tokenize(["birds"]))
    words = int((ids != 1).sum())
    with torch.inference_mode():
        np.testing.assert_allclose(module(ids).numpy(), module(ids[:, :words]).numpy(), rtol=1e-4, atol=1e-4)


def test_an_exported_clap_embeds_like_transformers(
    towers: Towers, reference: Model, checkpoint: Path, tmp_path: Path
) -> None:
    export(towers, specification(towers, "weights", {}), tmp_path)
    space = OnnxSpace("clap", tmp_path, "cpu")
    texts, heard = embed(space, View.TEXT, TEXTS), embed(space, View.AUDIO, sample_sounds())
    assert np.sum(texts * expected(reference, checkpoint, View.TEXT), axis=1).min() >= 0.9999
    assert np.sum(heard * expected(reference, checkpoint, View.AUDIO), axis=1).min() >= 0.9999


def test_the_tokenizer_file_gives_the_ids_of_transformers(towers: Towers, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(towers.tokenizer, "utf-8")
    raw = Tokenizer.from_str(towers.tokenizer)
    assert (raw.padding, raw.truncation) == (None, None)
    end = Tokens(tmp_path / "tokenizer.json", max_ids=77)
    texts = [*ODD_TEXTS, *TEXTS, "a<mask>b <s>c</s> <pad> <unk>", "  two  spaces  ", "\r\n\t", "rain" * 500]
    wanted = towers.tokenize(texts)
    assert (wanted.shape, wanted.dtype.name) == ((len(texts), 77), "int64")
    for text, row in zip(texts, wanted, strict=True):
        ids = end(text)
        np.testing.assert_array_equal(np.pad(ids, (0, 77 - len(ids)), constant_values=1), row, err_msg=repr(text))


def test_no_texts_are_no_rows_of_ids(towers: Towers) -> None:
    assert towers.tokenize([]).shape == (0, 77)


def test_a_tokenizer_that_was_saved_with_padding_is_exported_without(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer(["a dog"], padding="max_length", max_length=12, truncation=True)  # which it keeps in its file
    tokenizer.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    towers = load_clap(folder)
    assert len(Tokenizer.from_str(towers.tokenizer).encode("a dog barks").ids) < 12
    assert towers.tokenize(["a dog"]).shape == (1, 77)


def test_a_folder_as_transformers_saves_a_processor_today_is_loaded_too(folder: Path, unfused: Path) -> None:
    from transformers import AutoTokenizer, ClapProcessor

    make: Callable[..., Any] = ClapProcessor
    make(extractor(), AutoTokenizer.from_pretrained(folder)).save_pretrained(folder)
    if (folder / "processor_config.json").exists():  # which then holds what preprocessor_config.json held
        (folder / "preprocessor_config.json").unlink()
    towers, before = load_clap(folder), load_clap(unfused)
    assert towers.towers[View.AUDIO].spec == before.towers[View.AUDIO].spec
    np.testing.assert_array_equal(towers.tokenize(TEXTS), before.tokenize(TEXTS))
