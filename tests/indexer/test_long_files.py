"""Small files that would take long: stretches in which nothing happens, limits over all parts, and empty files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.clip_maker import Pictures, Tones, clip, wave
from support.media_maker import BLUE, RED, put

import mmsearch
from indexer.changes import Entry
from indexer.executors.file_costs import FileCosts
from indexer.plan import Task
from mmsearch import Limits, Modality, Settings, Stage
from mmsearch.errors import MediaError
from mmsearch.media import DecodeOptions, content_digest, decode
from mmsearch.records import Payloads, Segment
from mmsearch.sandbox.work import PreparedContent
from mmsearch.types import View

RATE = 4_000


def segments(file: Path, *, joins: bool = True) -> list[Segment[Payloads]]:
    """All segments of a file, over all its parts."""
    options = DecodeOptions(Limits(), 64, 32, len, RATE, joins)
    found: list[Segment[Payloads]] = []
    from_s: float | None = 0.0
    while from_s is not None:
        part = decode(os.fsencode(file), (), options, from_s)
        found += part.segments
        from_s = part.resume_s
    return found


def spans(found: list[Segment[Payloads]]) -> list[tuple[float, float]]:
    return [(round(segment.start_s or 0, 1), round(segment.end_s or 0, 1)) for segment in found]


@pytest.mark.parametrize(("kind", "seconds"), [("flac", 1800), ("wav", 1800), ("mp3", 400), ("mka", 400)])
def test_long_silence_is_one_segment(tmp_path: Path, kind: str, seconds: int) -> None:
    file = tmp_path / f"silence.{kind}"
    if kind in ("flac", "wav"):
        soundfile.write(file, np.zeros(seconds * RATE, np.float32), RATE)
    else:
        codec = {"mp3": "libmp3lame", "mka": "pcm_s16le"}[kind]
        clip(file, Tones([(None, seconds)], codec=codec, rate=8_000))
    (only,) = segments(file)
    assert only.silent
    assert only.end_s == pytest.approx(seconds, abs=2)
    assert len(only.views[View.AUDIO]) == 1


def test_what_sounds_between_two_silences_stands_where_it_stood(tmp_path: Path) -> None:
    file = tmp_path / "sound.flac"
    quiet = np.zeros(400 * RATE, np.float32)
    soundfile.write(file, np.concatenate([quiet, wave([(440.0, 20.0)], RATE), quiet]), RATE)
    joined, single = segments(file), segments(file, joins=False)
    assert len(joined) < len(single) / 2
    audible = [segment for segment in joined if not segment.silent]
    assert spans(audible) == spans([segment for segment in single if not segment.silent])
    for one, other in zip(audible, (s for s in single if not s.silent), strict=True):
        np.testing.assert_array_equal(one.views[View.AUDIO][0], other.views[View.AUDIO][0])
    assert spans(joined)[0] == (0.0, 386.0)


def test_a_still_picture_is_one_segment_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "still.mkv"
    clip(file, Pictures([(RED, 300.0), (BLUE, 20.0)], fps=1))
    found = segments(file)
    assert len(segments(file, joins=False)) > 25
    assert len(found) < 12
    start_s, end_s = spans(found)[0]
    assert (start_s, end_s >= 240, end_s <= 300) == (0, True, True)
    assert [end for _, end in spans(found)[:-1]] == [start for start, _ in spans(found)[1:]]
    assert len(found[0].views[View.VISUAL]) == 1


def test_a_still_picture_with_sound_keeps_all_its_shots(tmp_path: Path) -> None:
    file = tmp_path / "talk.mkv"
    clip(file, Pictures([(RED, 200.0)], fps=1), Tones([(440.0, 200.0)], rate=8_000))
    assert spans(segments(file)) == spans(segments(file, joins=False))


def test_silence_in_which_something_is_written_keeps_its_segments(tmp_path: Path) -> None:
    file = tmp_path / "silence.flac"
    soundfile.write(file, np.zeros(300 * RATE, np.float32), RATE)
    put(tmp_path, "silence.srt", "1\n00:00:50,000 --> 00:00:55,000\nHello there.\n")
    options = DecodeOptions(Limits(), 64, 32, len, RATE)
    part = decode(os.fsencode(file), (os.fsencode(tmp_path / "silence.srt"),), options)
    assert len(part.segments) == 16
    assert sum([text.words for text in segment.texts] == ["Hello there."] for segment in part.segments) == 1


def index(folder: Path, library: Path, limits: Limits) -> mmsearch.IndexReport:
    with mmsearch.open(library, model="hashing", settings=Settings(workers=1, limits=limits)) as opened:
        report = opened.index(folder)
        assert opened.status().media[Modality.AUDIO] == 1
        return report


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(segments=20), "only its first 4 minutes are indexed: they took 32 segments"),
        (Limits(free_segments=5, segment_bytes=2**30), "only its first 2 minutes are indexed: they took 16 segments"),
        (Limits(file_s=0.0), "only its first 2 minutes are indexed: they took 0 minutes of decoding"),
    ],
)
def test_a_file_that_takes_too_much_is_kept_as_far_as_it_was_read(tmp_path: Path, limits: Limits, said: str) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    soundfile.write(folder / "a.flac", wave([(440.0, 400.0)], RATE), RATE)
    report = index(folder, tmp_path / "library", limits)
    ((stage, reason),) = [(failure.stage, failure.reason) for failure in report.failures]
    assert (report.added, stage) == (1, Stage.DECODE)
    assert said in reason
    assert index(folder, tmp_path / "library", limits).added == 0  # it is settled, and not read again


def test_an_ordinary_file_never_meets_the_limits() -> None:
    speech = 48 * 3600 * 6_000 // 8  # two days of the lowest rate of Opus
    assert Limits().most_segments(speech) > 48 * 3600 / 8
    assert Limits().most_segments(546_000) < 2_700
    costs = FileCosts(Limits())
    task = Task(Entry(b"/a.flac", speech, 0, "1"), b"hash", known_path=False)
    part = PreparedContent(Modality.AUDIO, (), (), resume_s=60.0, seconds=1.0)
    assert [costs.add(task, part) for _ in range(300)] == [part] * 300


@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="files have no holes here")
def test_a_terabyte_that_nobody_wrote_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "huge.wav"
    with file.open("wb") as opened:
        opened.write(b"RIFF")
        opened.truncate(2**40)
    with pytest.raises(MediaError, match="were ever written"):
        content_digest(os.fsencode(file), ())


def test_a_caption_is_hashed_as_far_as_it_is_read(tmp_path: Path) -> None:
    photo = put(tmp_path, "a.jpg", b"picture")
    caption = put(tmp_path, "a.txt", bytes(40 * 2**20))
    digest = content_digest(os.fsencode(photo), (os.fsencode(caption),))
    with caption.open("ab") as opened:
        opened.write(b"what nobody reads")
    assert content_digest(os.fsencode(photo), (os.fsencode(caption),)) == digest
