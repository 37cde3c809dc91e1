"""Long sounds and videos are committed part by part, and gone on with after whatever ended a run."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Run
from numpy.typing import NDArray
from support.clip_maker import Pictures, Tones, clip, wave
from support.media_maker import BLUE, GREEN, RED, YELLOW

import mmsearch
from indexer.executors import decoding as decode_module
from mmsearch import Library, Settings, View
from mmsearch.catalog import Catalog
from mmsearch.errors import MediaError, ReadError
from mmsearch.folder import CATALOG
from mmsearch.media import DecodeOptions, decode
from mmsearch.media import clip as clip_module
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.work import PreparedContent
from mmsearch.settings import Limits
from mmsearch.spaces import load_profile
from mmsearch.types import Stage

Moment = tuple[bytes, View, float, float]


@pytest.fixture(scope="module")
def long_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound of five minutes, and a video of three with scenes of seven seconds: several parts each."""
    folder = tmp_path_factory.mktemp("long")
    tones = [(hz, 20.0) for hz in (120.0, 1000.0, 3000.0)] * 5
    soundfile.write(folder / "long.flac", wave(tones, 8_000), 8_000)
    scenes = [(colour, 7.0) for colour in (RED, GREEN, BLUE, YELLOW)] * 6
    clip(folder / "long.mp4", Pictures(scenes, fps=5), Tones([(120.0, 168.0)], rate=8_000))
    return folder


def moments(library: Path) -> dict[Moment, NDArray[np.float32]]:
    """Return every vector by path, view and time; fails where a moment stands twice."""
    catalog = Catalog(library / CATALOG)
    space = load_profile("hashing").spaces[0]
    space_id = catalog.space_id(space.name, space.fingerprint, space.dim)
    assert space_id is not None
    found: dict[Moment, NDArray[np.float32]] = {}
    for view in space.front_ends:
        ids, vectors = catalog.vectors(catalog.embedding_ids(space_id, view), space.dim)
        segments = catalog.segments_of(ids.tolist())
        rows = catalog.segment_rows(segments.values())
        for i, vector in zip(ids.tolist(), vectors, strict=True):
            row = rows[segments[i]]
            assert row.start_s is not None
            assert row.end_s is not None
            key = (row.path, view, row.start_s, row.end_s)
            assert key not in found
            found[key] = vector
    catalog.close()
    return found


@pytest.fixture(scope="module")
def clean(long_media: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Moment, NDArray[np.float32]]:
    """What one run without a break holds."""
    folder = tmp_path_factory.mktemp("clean") / "library"
    with mmsearch.open(folder, model="hashing") as library:
        report = library.index(long_media)
        assert (report.added, report.failed) == (2, 0)
        again = library.index(long_media)
        assert (again.added, again.updated, again.reused, again.failed) == (0, 0, 0, 0)
    return moments(folder)


def assert_same(got: dict[Moment, NDArray[np.float32]], want: dict[Moment, NDArray[np.float32]]) -> None:
    assert got.keys() == want.keys()
    for key, vector in want.items():
        np.testing.assert_allclose(got[key], vector, atol=2e-3)


def test_segments_of_all_parts_tile_the_file(clean: dict[Moment, NDArray[np.float32]]) -> None:
    shots = sorted((start, end) for path, view, start, end in clean if path.endswith(b"mp4") and view is View.VISUAL)
    assert shots[0][0] == 0
    assert [end for _, end in shots[:-1]] == [start for start, _ in shots[1:]]
    assert shots[-1][1] == pytest.approx(168, abs=0.5)
    windows = sorted(start for path, _, start, _ in clean if path.endswith(b"flac"))
    assert windows == [8.0 * n for n in range(len(windows))]
    assert windows[-1] > 280


def test_a_run_that_was_stopped_is_gone_on_with(
    long_media: Path, clean: dict[Moment, NDArray[np.float32]], tmp_path: Path
) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1, batch=1)) as library:
        stop = threading.Event()

        def after_the_first_batch(state: mmsearch.Progress) -> None:
            if moments_so_far(library):
                stop.set()

        report = library.index(long_media, progress=after_the_first_batch, stop=stop)
        assert report.interrupted
        held = moments(library.folder)
        assert 0 < len(held) < len(clean)
        assert library.query("low", k=5)  # what is there can be found
        report = library.index(long_media)
        assert (report.added, report.updated, report.failed) == (2, 0, 0)
        assert_same(moments(library.folder), clean)
        assert library.index(long_media).added == 0


def moments_so_far(library: Library) -> int:
    return library.status().segments


def test_kills_in_the_middle_of_long_files_change_nothing_in_the_end(
    run: Run, long_media: Path, clean: dict[Moment, NDArray[np.float32]], tmp_path: Path
) -> None:
    arguments = ["index", str(long_media), "--batch", "1", "--workers", "1", "--model", "hashing"]
    chance = random.Random(3)
    killed = 0
    for _ in range(5):
        command = [sys.executable, "-m", "mmsearch", *arguments, "--library", str(tmp_path / "killed")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 2.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0
    assert run(*arguments, library=tmp_path / "killed").returncode == 0
    assert_same(moments(tmp_path / "killed"), clean)


class BreakingSandbox(Sandbox):
    """Decodes the first part of everything; any later one is a failure of the decoder."""

    def take(self, future: Future[PreparedContent], wait_s: float | None = None) -> PreparedContent:
        content = super().take(future, wait_s)
        if content.segments and (content.segments[0].start_s or 0) > 0:
            raise MediaError("this part can't be decoded; replace it")
        return content


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(decode_module, "Sandbox", BreakingSandbox)
        yield


def test_a_part_that_fails_keeps_the_parts_before_it(long_media: Path, tmp_path: Path, breaking: None) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        report = library.index(long_media)
        assert (report.added, report.failed) == (2, 2)
        assert {failure.path.name for failure in report.failures} == {"long.flac", "long.mp4"}
        held = moments(library.folder)
        assert {path.rpartition(b"/")[2] for path, *_ in held} == {b"long.flac", b"long.mp4"}
        again = library.index(long_media)
        assert (again.added, again.updated, again.failed) == (0, 0, 0)
        assert len(library.failures()) == 2
        assert moments(library.folder).keys() == held.keys()


def test_a_file_that_failed_in_part_is_read_anew_when_asked(
    long_media: Path, clean: dict[Moment, NDArray[np.float32]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        with monkeypatch.context() as patch:
            patch.setattr(decode_module, "Sandbox", BreakingSandbox)
            library.index(long_media)
        report = library.index(long_media, retry=True)
        assert (report.added, report.updated, report.failed) == (0, 2, 0)
        assert library.failures() == []
        assert_same(moments(library.folder), clean)


def test_a_copy_of_a_file_that_is_under_way_is_the_same_content(long_media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("a.flac", "b.flac"):
        (folder / name).write_bytes((long_media / "long.flac").read_bytes())
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        report = library.index(folder)
        assert (report.added, report.reused, report.failed) == (1, 1, 0)
        segments = library.status().segments
        (folder / "a.flac").unlink()
        assert library.index(folder).removed == 1
        assert library.status().segments == segments


def test_a_file_that_changes_half_way_through_starts_anew(long_media: Path, tmp_path: Path) -> None:
    file = tmp_path / "media" / "sound.flac"
    file.parent.mkdir()
    file.write_bytes((long_media / "long.flac").read_bytes())
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1, batch=1)) as library:
        stop = threading.Event()
        library.index(file, progress=lambda _: stop.set() if moments_so_far(library) else None, stop=stop)
        soundfile.write(file, wave([(3000.0, 30.0)], 8_000), 8_000)
        report = library.index(file)
        assert report.failed == 0
        assert max(end for _, _, _, end in moments(library.folder)) == 30
        assert len(library.query("high", k=5)) == 1


@pytest.mark.parametrize("frames_between_keys", [250, 5, 1])  # films; phones, of which key frames are enough; editors
def test_parts_of_any_length_give_what_one_reading_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames_between_keys: int
) -> None:
    def segments() -> list[tuple[float, float, int]]:
        found: list[tuple[float, float, int]] = []
        from_s: float | None = 0.0
        while from_s is not None:
            decoded = decode(os.fsencode(file), (), options, from_s)
            found += [
                (round(part.start_s or 0, 3), round(part.end_s or 0, 3), len(part.views[View.VISUAL]))
                for part in decoded.segments
            ]
            from_s = decoded.resume_s
        return found

    file = tmp_path / "clip.mp4"
    scenes = [(colour, 7.5) for colour in (RED, GREEN, BLUE, YELLOW)] * 4
    keys = {"g": str(frames_between_keys), "keyint_min": "1", "sc_threshold": "0"}
    clip(file, Pictures(scenes, fps=5, options=keys), Tones([(120.0, 120.0)], rate=8_000))
    options = DecodeOptions(Limits(), 64, 32, len, 16_000)
    monkeypatch.setattr(clip_module, "PART_S", 1e9)
    whole = segments()
    for part_s in (1.0, 20.0, 60.0):
        monkeypatch.setattr(clip_module, "PART_S", part_s)
        assert segments() == whole


def slides(tmp_path: Path, seconds: list[float], container: str) -> Path:
    """Make a talk: a picture stands for so long, while somebody speaks."""
    colours = [RED, GREEN, BLUE]
    file = tmp_path / f"talk.{container}"
    moments = [0.0, *np.cumsum(seconds).tolist()]
    frames = [(colour, 0.2) for colour in colours[: len(seconds)]]
    gaps = [end - start - 0.2 for start, end in itertools.pairwise(moments)]
    scenes = [scene for frame, gap in zip(frames, gaps, strict=True) for scene in (frame, (None, gap))]
    clip(file, Pictures(scenes, fps=5), Tones([(120.0, moments[-1])], rate=8_000))
    return file


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_slide_is_seen_as_long_as_it_stands(tmp_path: Path, container: str) -> None:
    file = slides(tmp_path, [100.0, 45.0, 30.0], container)
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        assert library.index(file).failed == 0
        shots = sorted((start, end) for _, view, start, end in moments(library.folder) if view is View.VISUAL)
        assert [end for _, end in shots[:-1]] == [start for start, _ in shots[1:]]
        assert shots[0][0] == 0
        assert shots[-1][1] >= 145
        for colour, start_s, end_s in (("red", 0, 100), ("green", 100, 145), ("blue", 145, 175)):
            (hit,) = library.query(colour, k=1)
            assert hit.start_s is not None
            assert start_s - 0.5 <= hit.start_s < end_s


def test_sound_before_the_first_picture_is_only_heard(tmp_path: Path) -> None:
    file = tmp_path / "late.mkv"
    clip(file, Pictures([(RED, 10.0)], fps=5, start_s=30.0), Tones([(120.0, 40.0)], rate=8_000))
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        assert library.index(file).failed == 0
        seen = [start for _, view, start, _ in moments(library.folder) if view is View.VISUAL]
        assert min(seen) == pytest.approx(30, abs=0.5)
        heard = [start for _, view, start, _ in moments(library.folder) if view is View.AUDIO]
        assert min(heard) == 0


def test_a_damaged_part_is_said_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "media" / "clip.mkv"
    file.parent.mkdir()
    file.write_bytes(cut_matroska(tmp_path))
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        assert library.index(file.parent).failed == 1
        reasons = [failure.reason for failure in library.failures()]
        assert "breaks off" in reasons[0]
        os.utime(file)
        assert library.index(file.parent).reused == 1
        assert [failure.reason for failure in library.failures()] == reasons
        file = file.rename(file.with_name("renamed.mkv"))
        assert library.index(file.parent).reused == 1
        assert [(failure.path, failure.reason) for failure in library.failures()] == [(file, reasons[0])]
        assert library.index(file.parent, retry=True).updated == 1
        file.unlink()
        library.index(file.parent, prune=True)
        assert library.failures() == []


def cut_matroska(tmp_path: Path) -> bytes:
    """Return the first two thirds of a clip in Matroska."""
    file = tmp_path / "whole.mkv"
    scenes = [(colour, 7.0) for colour in (RED, GREEN, BLUE, YELLOW)] * 3
    clip(file, Pictures(scenes, fps=5), Tones([(120.0, 84.0)], rate=8_000))
    raw = file.read_bytes()
    return raw[: len(raw) * 2 // 3]


class VanishingSandbox(Sandbox):
    """Loses the file of every later part, as a network drive may, the first time."""

    lost = False

    def take(self, future: Future[PreparedContent], wait_s: float | None = None) -> PreparedContent:
        content = super().take(future, wait_s)
        if content.segments and (content.segments[0].start_s or 0) > 0 and not VanishingSandbox.lost:
            raise ReadError("no such file or directory; check the disk")
        return content


def test_a_drive_that_vanishes_half_way_through_costs_nothing_for_good(
    long_media: Path, clean: dict[Moment, NDArray[np.float32]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_module, "Sandbox", VanishingSandbox)
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        report = library.index(long_media)
        assert report.failed == 2
        assert {failure.stage for failure in report.failures} == {Stage.READ}
        assert library.status().unfinished == 2
        monkeypatch.setattr(VanishingSandbox, "lost", True)
        report = library.index(long_media)
        assert (report.added, report.failed) == (2, 0)
        assert library.failures() == []
        assert_same(moments(library.folder), clean)
