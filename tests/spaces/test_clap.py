"""CLAP: its front end equals transformers', its towers and their exports compute what transformers computes."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from support.small_clap import CORPUS, DIM, RATE_HZ, make_clap, sample_sounds
from tokenizers import Tokenizer

from mmsearch.errors import MissingPackageError, ModelError
from mmsearch.spaces.base import SoundFrontEnd, embed, normalise
from mmsearch.spaces.clap import load_clap
from mmsearch.spaces.export import ODD_TEXTS, export, specification
from mmsearch.spaces.front_ends import Tokens
from mmsearch.spaces.mel import LogMel
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.towers import Towers
from mmsearch.types import View

Model = Any
"""A ClapModel, whose types are of no use here."""
FLOOR_DB = -100.0
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


@pytest.fixture(scope="module")
def unfused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clap(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def folder(unfused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unfused, tmp_path / "clap"))


def extractor(truncation: str = "rand_trunc", padding: str = "repeatpad") -> Any:  # noqa: ANN401
    from transformers import ClapFeatureExtractor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its htk bank has bands that hear nothing
        return ClapFeatureExtractor(frequency_min=50, truncation=truncation, padding=padding)


def extracted(by: Any, wave: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ANN401
    features = by(wave, sampling_rate=RATE_HZ, return_tensors="np")["input_features"][0]
    for other in features[1:]:  # with fusion, a short sound is there four times
        np.testing.assert_array_equal(other, features[0])
    return np.asarray(features[0])


def front_end(folder: Path, truncation: str = "rand_trunc", padding: str = "repeatpad") -> LogMel:
    by = extractor(truncation)
    bank = by.mel_filters if truncation == "fusion" else by.mel_filters_slaney
    np.save(folder / f"{truncation}.npy", bank.astype(np.float32))
    return LogMel(RATE_HZ, folder / f"{truncation}.npy", 1024, 480, 480_000, 64, padding)


def assert_same_mel(got: NDArray[Any], wanted: NDArray[Any], tolerance_db: float = 1e-3) -> None:
    assert (got.shape, got.dtype.name) == (wanted.shape, "float32")
    assert got.min() >= FLOOR_DB
    np.testing.assert_allclose(got, wanted, atol=tolerance_db, rtol=0)


def sounds() -> dict[str, NDArray[np.float32]]:
    """Return sounds that are hard in their own way, in [-1, 1]."""
    draw = np.random.default_rng(11)
    at = np.arange(10 * RATE_HZ) / RATE_HZ
    click = np.zeros(7 * RATE_HZ, np.float32)
    click[[0, 1000, 100_000, -1]] = 1, -1, 0.5, 1
    tone = 0.99 * np.sin(2 * np.pi * 1000 * at)
    noises = {
        f"noise of {seconds} s": 0.2 * draw.standard_normal(round(seconds * RATE_HZ))
        for seconds in (0.01, 0.013, 0.5, 1.7, 3.3333, 5.0, 5.0001, 9.999, 10.0)
    }
    return {
        name: np.clip(wave, -1, 1).astype(np.float32)
        for name, wave in {
            **noises,
            "a tone": tone,
            "a low tone": 0.5 * np.sin(2 * np.pi * 55 * at[: 2 * RATE_HZ]),
            "a chirp": np.sin(2 * np.pi * (20 + 1150 * at) * at),
            "clicks": click,
            "a whisper": 1e-4 * draw.standard_normal(3 * RATE_HZ),
            "a square wave, clipped": np.sign(tone[:60_000]),
            "a constant": np.full(100_000, 0.25),
            "one sample": np.array([0.5]),
            "two samples": np.array([0.5, -0.5]),
            "silence": np.zeros(48_000),
        }.items()
    }


# The front end


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("name", sounds())
def test_log_mel_is_that_of_transformers(tmp_path: Path, truncation: str, name: str) -> None:
    wave = sounds()[name]
    assert_same_mel(front_end(tmp_path, truncation)(wave), extracted(extractor(truncation), wave))


@pytest.mark.parametrize("padding", ["repeat", "pad"])
@pytest.mark.parametrize("seconds", [0.3, 3.5, 10.0])
def test_log_mel_pads_in_every_way_of_transformers(tmp_path: Path, padding: str, seconds: float) -> None:
    wave = (0.1 * np.random.default_rng(3).standard_normal(int(seconds * RATE_HZ))).astype(np.float32)
    wanted = extracted(extractor(padding=padding), wave)
    assert_same_mel(front_end(tmp_path, padding=padding)(wave), wanted)


def test_log_mel_is_that_of_librosa(tmp_path: Path) -> None:
    import librosa

    bank = librosa.filters.mel(sr=RATE_HZ, n_fft=1024, n_mels=64, fmin=50, fmax=14_000)
    for wave in sample_sounds()[-2:]:
        spectrum = librosa.stft(wave.astype(np.float64), n_fft=1024, hop_length=480, pad_mode="reflect")
        power = np.maximum(bank.astype(np.float64) @ np.abs(spectrum) ** 2, 1e-10)
        assert_same_mel(front_end(tmp_path)(wave), (10 * np.log10(power)).T)


def test_log_mel_cuts_a_longer_sound_at_its_end_and_always_gives_the_same(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    for truncation in ("rand_trunc", "fusion"):
        end = front_end(tmp_path, truncation)
        for seconds in (10.001, 10.5, 31.0):
            wave = (0.1 * draw.standard_normal(int(seconds * RATE_HZ))).astype(np.float32)
            np.testing.assert_array_equal(end(wave), end(wave[: 10 * RATE_HZ]))
            np.testing.assert_array_equal(end(wave), end(wave))
        assert_same_mel(end(wave), extracted(extractor(truncation), wave[: 10 * RATE_HZ]))


def test_log_mel_of_silence_and_of_nothing_is_the_floor(tmp_path: Path) -> None:
    for wave in (np.zeros(0, np.float32), np.zeros(1, np.float32), np.zeros(480_000, np.float32)):
        np.testing.assert_array_equal(front_end(tmp_path)(wave), np.full((1001, 64), FLOOR_DB, np.float32))


def test_log_mel_leaves_the_waveform_as_it_is_and_takes_other_kinds_of_numbers(tmp_path: Path) -> None:
    wave = sample_sounds()[6]
    before = wave.copy()
    wave.flags.writeable = False
    mel = front_end(tmp_path)(wave)
    np.testing.assert_array_equal(wave, before)
    np.testing.assert_array_equal(front_end(tmp_path)(wave.astype(np.float64)), mel)


def test_log_mel_is_a_sound_front_end_that_works_the_same_in_another_process(tmp_path: Path) -> None:
    end = front_end(tmp_path)
    assert isinstance(end, SoundFrontEnd)
    copied = pickle.loads(pickle.dumps(end))
    assert (copied, copied.frames) == (end, 1001)
    wave = sample_sounds()[2]
    np.testing.assert_array_equal(copied(wave), end(wave))


def test_log_mel_refuses_what_is_no_mono_waveform(tmp_path: Path) -> None:
    for wrong in ("a bark", np.zeros((2, 100), np.float32)):
        with pytest.raises(TypeError, match="takes a mono waveform"):
            front_end(tmp_path)(wrong)


@pytest.mark.parametrize("wrong", [{"padding": "mirror"}, {"hop": 0}, {"n_fft": 0}, {"max_samples": 5}, {"bands": -1}])
def test_log_mel_refuses_parameters_that_make_no_spectrogram(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"padding is one of|needs a rate"):
        replace(front_end(tmp_path), **wrong)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "shape", "zeros", "pickle"])
def test_a_filter_bank_that_cant_be_read_is_a_model_error_of_one_line(tmp_path: Path, damage: str) -> None:
    end = front_end(tmp_path)
    file = tmp_path / f"{damage}.npy"
    whole = end.filters.read_bytes()
    contents = {"empty": b"", "text": b"no bank", "cut": whole[:5000]}
    arrays: dict[str, NDArray[Any]] = {"shape": np.ones((513, 32)), "zeros": np.zeros((513, 64))}
    if damage in contents:
        file.write_bytes(contents[damage])
    elif damage in arrays:
        np.save(file, arrays[damage])
    elif damage == "pickle":
        np.save(file, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match=rf"{damage}\.npy .*reinstall") as caught:
        replace(end, filters=file)(np.zeros(10, np.float32))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_the_front_end_loads_nothing_but_numpy(tmp_path: Path) -> None:
    end = front_end(tmp_path)
    (tmp_path / "end.pickle").write_bytes(pickle.dumps(end))
    program = (
        "import pickle, sys, pathlib, numpy\n"
        f"end = pickle.loads(pathlib.Path({str(tmp_path / 'end.pickle')!r}).read_bytes())\n"
        "end(numpy.zeros(480, numpy.float32))\n"
        "heavy = {'torch', 'librosa', 'scipy', 'transformers', 'onnxruntime', 'tokenizers', 'numba', 'soxr'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# The towers


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


# The tokenizer


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


# What is wrong with a folder


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.file),)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def cut(name: str, share: float) -> Callable[[Path], None]:
    def truncate(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(share * len(whole))])

    return truncate


def changed(name: str, *path: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        fields = json.loads((folder / name).read_bytes())
        inner = fields
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        (folder / name).write_text(json.dumps(fields))

    return change


def lacking(weight: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        save_file({name: tensor.clone() for name, tensor in load_file(file).items() if name != weight}, file)

    return drop


def pickled(content: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return write


FAULTS: dict[str, tuple[Sequence[Callable[[Path], None]], str]] = {
    "no config": ([without("config.json")], r"config\.json can't be loaded .*No such file.*download"),
    "config cut": ([cut("config.json", 0.5)], r"config\.json can't be loaded"),
    "config a list": ([holding("config.json", b"[1]")], r"config\.json can't be loaded \(it is no JSON obj"),
    "another model": ([changed("config.json", "model_type", value="clip")], r"config\.json describes clip, not a CLAP"),
    "config of nonsense": (
        [changed("config.json", "text_config", "hidden_size", value="wide")],
        r"config\.json can't be loaded",
    ),
    "four channels": (
        [
            changed("config.json", "audio_config", "enable_fusion", value=True),
            changed("config.json", "audio_config", "fusion_type", value="channel_map"),
        ],
        r"config\.json can't be loaded \(a sound tower of several channels",
    ),
    "no weights": ([without("model.safetensors")], r"neither model\.safetensors nor pytorch_model\.bin; download"),
    "weights cut": ([cut("model.safetensors", 0.7)], r"model\.safetensors can't be loaded"),
    "weights empty": ([holding("model.safetensors", b"")], r"model\.safetensors can't be loaded"),
    "weights of another shape": (
        [changed("config.json", "text_config", "intermediate_size", value=64)],
        r"model\.safetensors can't be loaded .*size mismatch",
    ),
    "a weight missing": (
        [lacking("audio_projection.linear2.weight")],
        r"model\.safetensors can't be loaded \(1 weights are missing, audio_projection\.linear2\.weight",
    ),
    "no dictionary": ([pickled([1, 2])], r"pytorch_model\.bin can't be loaded"),
    "no torch file": (
        [without("model.safetensors"), holding("pytorch_model.bin", b"PK\x03\x04 not a zip")],
        r"pytorch_model\.bin can't be loaded",
    ),
    "no preprocessor": ([without("preprocessor_config.json")], r"preprocessor_config\.json can't be loaded"),
    "preprocessor cut": ([cut("preprocessor_config.json", 0.5)], r"preprocessor_config\.json can't be loaded"),
    "other bands": (
        [changed("preprocessor_config.json", "feature_size", value=80)],
        r"preprocessor_config\.json can't be loaded \(it makes 1001 by 80.*1024 by 64",
    ),
    "too long": (
        [changed("preprocessor_config.json", "max_length_s", value=20)],
        r"preprocessor_config\.json can't be loaded \(it makes 2001 by 64",
    ),
    "odd padding": ([changed("preprocessor_config.json", "padding", value="mirror")], r"padding is one of"),
    "no tokenizer": ([without("merges.txt")], r"neither tokenizer\.json nor vocab\.json and merges\.txt; download"),
    "vocabulary cut": ([cut("vocab.json", 0.5)], r"vocab\.json can't be loaded"),
    "tokenizer of nonsense": ([holding("tokenizer.json", b"{}")], r"tokenizer\.json can't be loaded"),
    "a larger vocabulary": (
        [changed("vocab.json", f"word{i}", value=1000 + i) for i in range(100)],
        r"vocab\.json can't be loaded \(it has \d+ tokens, the text tower only",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_a_model_error_that_names_the_file(
    folder: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    harms, message = FAULTS[fault]
    for harm in harms:
        harm(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_clap(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_is_never_unpickled(folder: Path, tmp_path: Path) -> None:
    pickled({"logit_scale_a": Trap(tmp_path / "sprung")})(folder)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin can't be loaded"):
        load_clap(folder)
    assert not (tmp_path / "sprung").exists()


def test_no_code_of_a_checkpoint_runs(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        remote = {f"Auto{kind}": "code.Thing" for kind in ("Config", "Model", "FeatureExtractor")}
        changed(name, "auto_map", value={**remote, "AutoTokenizer": ["code.Thing", "code.Thing"]})(folder)
    load_clap(folder)
    assert not sprung.exists()


def test_loading_says_nothing_and_touches_no_network(folder: Path) -> None:
    program = (
        "import socket, sys, pathlib\n"
        "def refuse(*_): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from mmsearch.spaces.clap import load_clap\n"
        "load_clap(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_transformers_the_error_names_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r"CLAP needs transformers; run: pip install 'mmsearch\[clap\]'"):
        load_clap(folder)


def test_buffers_that_follow_from_the_configuration_may_be_missing(folder: Path, unfused: Path) -> None:
    lacking("text_model.embeddings.position_ids")(folder)
    module, whole = (load_clap(place).towers[View.TEXT].module for place in (folder, unfused))
    ids = load_clap(unfused).towers[View.TEXT].example
    with torch.inference_mode():
        np.testing.assert_array_equal(module(ids).numpy(), whole(ids).numpy())


def test_loading_leaves_the_settings_of_transformers_as_they_were(folder: Path) -> None:
    from transformers.utils import logging as settings

    before = settings.get_verbosity()
    try:
        settings.set_verbosity(logging.ERROR)
        load_clap(folder)
        assert settings.get_verbosity() == logging.ERROR
    finally:
        settings.set_verbosity(before)
