"""Media are decoded once, and nothing that is held out is trained on under another name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.training_media import media as media

from mmsearch.errors import UsageError
from mmsearch.training.recipe import Source
from mmsearch.training.sources import read_sources
from mmsearch.training.store import prepare


def test_media_are_decoded_once_and_what_is_broken_is_left_out(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    (media / "lakes" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    examples = read_sources([Source("folders", media, views=4)], held=0)
    store = prepare(examples, 16)
    assert "broken.png is left out" in caplog.text
    assert store.pixels.shape == (6, 16, 16, 3)
    assert store.views.tolist() == [4] * 6
    assert store.hearings.tolist() == [4]
    names = [examples.rows[unit.example].path.name for unit in store.units]  # type: ignore[union-attr]
    assert names == [
        "lakes0.png",
        "lakes1.png",
        "lakes2.png",
        "red_cars0.png",
        "red_cars1.png",
        "red_cars2.png",
        "a.wav",
    ]
    red = store.pixels[store.units[3].pictures[0]].astype(int)
    assert np.abs(red - np.asarray([200, 0, 0])).max() <= 2
    heard = store.wave(store.units[6].sound)
    assert len(heard) == pytest.approx(2 * 16_000, abs=400), "two seconds, at 16 kHz"
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.fft.rfftfreq(len(heard), 1 / 16_000)[spectrum.argmax()] == pytest.approx(440, abs=2)
    before = (store.folder / "units.json").stat().st_mtime_ns
    again = prepare(examples, 16)
    assert again.folder == store.folder
    assert (again.folder / "units.json").stat().st_mtime_ns == before
    os.utime(media / "lakes" / "lakes0.png", ns=(1, 1))
    assert prepare(examples, 16).folder != store.folder, "a file that changed is decoded again"


def test_no_sound_that_is_held_out_is_behind_one_that_is_trained_on(tmp_path: Path) -> None:
    """A held-out tone is far from those that are trained on: in their views it would be heard."""
    for folder, hertz in (("low", 300), ("high", 5_000)):
        (tmp_path / folder).mkdir()
        for n in range(3):
            wave = 0.3 * np.sin(2 * np.pi * (hertz + 10 * n) * np.arange(48_000) / 16_000)
            soundfile.write(tmp_path / folder / f"{n}.wav", wave.astype(np.float32), 16_000)
    examples = read_sources(
        [Source("files", tmp_path / "low", views=40), Source("files", tmp_path / "high", held=1)], held=0
    )
    store = prepare(examples, 16)
    assert store.hearings.tolist() == [40] * 3 + [1] * 3
    assert store.first_hearing.tolist() == [0, 40, 80, 120, 121, 122, 123]
    for view in range(40):
        power = np.abs(np.fft.rfft(store.hear(0, view))) ** 2
        assert power[3 * 4_900 : 3 * 5_100].max() < 0.01 * power.max()


def test_a_file_that_has_gone_is_left_out_and_said(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples = read_sources([Source("folders", media)], held=0)
    (media / "lakes" / "lakes1.png").unlink()
    for _ in range(2):
        caplog.clear()
        store = prepare(examples, 16)
        assert "lakes1.png is left out: no such file" in caplog.text
    assert len(store.pixels) == 5


def test_media_of_which_nothing_is_left_are_an_error(media: Path) -> None:
    examples = read_sources([Source("folders", media)], held=0)
    for file in media.rglob("*.*"):
        file.unlink()
    for _ in range(2):
        with pytest.raises(UsageError, match=r"none of 7 files .*lakes0\.png is left out: no such file"):
            prepare(examples, 16)


def test_a_file_in_two_sources_is_an_example_of_both(media: Path) -> None:
    examples = read_sources([Source("folders", media), Source("files", media / "lakes")], held=0)
    store = prepare(examples, 16)
    assert [unit.example for unit in store.units] == list(range(10))


def test_what_shares_a_recording_is_held_out_together(tmp_path: Path) -> None:
    (tmp_path / "rain").mkdir()
    for recording in range(40):
        for piece in range(5):
            (tmp_path / "rain" / f"{recording}-{piece}.ogg").touch()
    examples = read_sources([Source("folders", tmp_path, group=r"^(\d+)-")], held=4)
    by_recording: dict[str, set[bool]] = {}
    for row in examples.rows:
        assert row.path is not None
        by_recording.setdefault(row.path.name.partition("-")[0], set()).add(row.held)
    assert {len(held) for held in by_recording.values()} == {1}
    assert 2 <= sum(held == {True} for held in by_recording.values()) <= 20
    unlike = read_sources([Source("folders", tmp_path, group=r"[a-z]*")], held=4)
    assert {row.held for row in unlike.rows} == {False, True}, "a group of nothing is none"


def test_a_file_that_one_source_holds_out_is_not_trained_on_by_another(media: Path) -> None:
    sources = [Source("folders", media), Source("files", media / "lakes", held=1)]
    rows = read_sources(sources, held=0).rows
    held = {row.path for row in rows if row.held}
    assert len(held) == 3
    assert not held & {row.path for row in rows if not row.held}
    assert len(rows) == 7


def test_lines_that_say_what_is_said_of_a_held_out_file_are_left_out(media: Path) -> None:
    (media / "lines.txt").write_text("Blue water.\nGreen water\n", "utf-8")
    sources = [Source("files", media, name="photos", held=1), Source("texts", media / "lines.txt")]
    examples = read_sources(sources, held=10)
    assert [examples.texts[row.texts[0]].words for row in examples.rows if row.path is None] == ["Green water"]
