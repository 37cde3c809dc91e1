"""The front end of CLAP gives the log-mel spectrograms of transformers and of librosa."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.clap_folders import Trap, extractor
from support.small_clap import RATE_HZ, sample_sounds

from mmsearch.errors import ModelError
from mmsearch.spaces.base import SoundFrontEnd
from mmsearch.spaces.mel import LogMel

FLOOR_DB = -100.0


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
