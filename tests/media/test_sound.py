"""Sounds: mono, resampled, in windows; and the front end of `mini` against librosa."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from numpy.typing import NDArray

from mmsearch.media.sound import HOP_S, WINDOW_S, SoundFile, Track, is_silent, windows
from mmsearch.resample import resample

Wave = NDArray[np.float32]


def tone(hz: float, seconds: float, rate_hz: int) -> Wave:
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz), np.float32)


@pytest.mark.parametrize(
    ("end_s", "expected"),
    [
        (0.5, [(0, 0.5)]),
        (10, [(0, 10)]),
        (10.5, [(0, 10), (8, 10.5)]),
        (18, [(0, 10), (8, 18)]),
        (25, [(0, 10), (8, 18), (16, 25)]),
    ],
)
def test_windows_overlap_and_reach_the_end(end_s: float, expected: list[tuple[float, float]]) -> None:
    assert list(windows(0.0, end_s)) == expected


def test_windows_go_on_from_any_windows_start() -> None:
    assert list(windows(0.0, 100.0))[5:] == list(windows(5 * HOP_S, 100.0))
    assert all(end - start <= WINDOW_S for start, end in windows(0.0, 100.0))


def test_channels_are_averaged_and_what_is_no_number_is_silence() -> None:
    track = Track(4)
    track.add(0.0, np.asarray([[1, 1, np.nan, 3], [0, -1, 0, 3]], np.float32))
    wave = track.cut(0.0, 1.0, 4)
    assert wave is not None
    np.testing.assert_array_equal(wave, [0.5, 0, 0, 1])


def test_a_stretch_without_sound_between_sounds_is_silent_and_one_without_any_is_none() -> None:
    track = Track(10)
    track.add(0.0, np.ones(10, np.float32))
    track.add(3.0, np.ones(10, np.float32))
    wave = track.cut(0.5, 3.5, 10)
    assert wave is not None
    assert (wave[:5] == 1).all()
    assert (wave[5:25] == 0).all()
    assert (wave[25:] == 1).all()
    assert track.cut(1.2, 2.8, 10) is None
    track.forget(1.0)
    assert track.cut(0.0, 1.0, 10) is None


def test_silence_is_what_nobody_hears() -> None:
    assert is_silent(np.zeros(100, np.float32))
    assert is_silent(np.full(100, 1e-4, np.float32))
    assert not is_silent(tone(440, 1, 8000))


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000, 192_000])
def test_resampling_keeps_the_tone_and_its_level(rate_hz: int) -> None:
    wave = resample(tone(440, 2, rate_hz), rate_hz, 16_000)
    assert len(wave) == 32_000
    power = np.abs(np.fft.rfft(wave))
    assert power.argmax() / 2 == 440
    assert abs(float(np.sqrt(np.mean(wave[1000:-1000] ** 2))) - 0.5 / np.sqrt(2)) < 0.01


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # librosa's own
@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
def test_a_sound_is_what_librosa_reads_of_it(tmp_path: Path, kind: str, subtype: str) -> None:
    librosa = pytest.importorskip("librosa")
    file = tmp_path / f"sound.{kind.lower()}"
    noise = np.random.default_rng(0).normal(0, 0.1, (22_050 * 3, 2))
    soundfile.write(file, noise, 22_050, format=kind, subtype=subtype)
    expected, _ = librosa.load(file, sr=16_000, mono=True)
    with file.open("rb") as opened:
        track = SoundFile(opened).read(0.0, 60.0)
    wave = track.cut(0.0, track.end_s, 16_000)
    assert wave is not None
    assert abs(len(wave) - len(expected)) <= 1
    shared = min(len(wave), len(expected))
    np.testing.assert_allclose(wave[:shared], expected[:shared], atol=2e-5)


def test_a_part_of_a_sound_is_that_part() -> None:
    file = io.BytesIO()
    whole = np.random.default_rng(0).uniform(-0.5, 0.5, 8000 * 20).astype(np.float32)
    soundfile.write(file, whole, 8000, format="WAV", subtype="FLOAT")
    file.seek(0)
    track = SoundFile(file).read(8.0, 10.0)
    assert (track.end_s, track.rate_hz) == (18.0, 8000)
    cut = track.cut(8.0, 18.0, 8000)
    assert cut is not None
    np.testing.assert_array_equal(cut, whole[8 * 8000 : 18 * 8000])


def test_the_log_mel_front_end_of_mini_is_librosas() -> None:
    """Every number as `data/mini/spec.json` states it; the front end is the first part of the tower's graph."""
    librosa, onnx, ort = (pytest.importorskip(name) for name in ("librosa", "onnx", "onnxruntime"))
    model = onnx.load(REPOSITORY / "data" / "mini" / "audio.onnx")
    log = next(node for node in model.graph.node if node.op_type == "Log")
    scaled = _after(model.graph.node, log.output[0], 2)  # + 3, / 3
    model.graph.output.append(onnx.helper.make_tensor_value_info(scaled, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wave = tone(1000, 2, 16_000) + np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    (ours,) = session.run([scaled], {session.get_inputs()[0].name: wave[None]})
    padded = np.pad(wave, (512 - 400) // 2)  # librosa centres the 400 samples in its 512
    power = librosa.feature.melspectrogram(
        y=padded, sr=16_000, n_fft=512, win_length=400, hop_length=160, window="hann", center=False,
        n_mels=64, fmin=60, fmax=7800, power=2.0, htk=True, norm=None,
    )  # fmt: skip
    theirs = (np.log(power + 1e-4) + 3) / 3
    mine = np.squeeze(ours)
    mine = mine if mine.shape[0] == 64 else mine.T
    assert mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs, atol=1e-2)  # the graph keeps its filters in float16


def _after(nodes: list[object], name: str, steps: int) -> str:
    for _ in range(steps):
        name = next(node for node in nodes if name in node.input).output[0]  # type: ignore[attr-defined]
    return name
