"""Long sounds and videos are committed part by part, and gone on with after whatever ended a run."""

from __future__ import annotations

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
from clip_maker import Pictures, Tones, clip, wave
from conftest import Run
from media_maker import BLUE, GREEN, RED, YELLOW
from numpy.typing import NDArray

import mmsearch
from indexer import decode as decode_module
from indexer.workers import Crew, PreparedContent
from mmsearch import Library, Settings, View
from mmsearch.catalog import Catalog
from mmsearch.errors import MediaError
from mmsearch.library import CATALOG
from mmsearch.spaces import load_profile

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
        time.sleep(chance.uniform(1.0, 3.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0
    assert run(*arguments, library=tmp_path / "killed").returncode == 0
    assert_same(moments(tmp_path / "killed"), clean)


class BreakingCrew(Crew):
    """Decodes the first part of everything; any later one is a failure of the decoder."""

    def result(self, future: Future[PreparedContent]) -> PreparedContent:
        content = super().result(future)
        if content.segments and (content.segments[0].start_s or 0) > 0:
            raise MediaError("this part can't be decoded; replace it")
        return content


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(decode_module, "Crew", BreakingCrew)
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
            patch.setattr(decode_module, "Crew", BreakingCrew)
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
