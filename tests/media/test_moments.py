"""Clips and sounds that change at known times: what is asked for is found at its moment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Run
from support.clip_maker import (
    HIGH,
    LOW,
    MIDDLE,
    Pictures,
    Scene,
    Tone,
    Tones,
    Track,
    Words,
    clip,
    sound_bytes,
    srt,
    streamed_bytes,
    vtt,
)
from support.media_maker import BLUE, COLOURS, GREEN, RED, WHITE, YELLOW, encoded, noise, plain, put
from support.odd_media import ballast, contents

import mmsearch
from mmsearch import Hit, Library, Modality, Settings, View

BROWN, ORANGE, PURPLE = COLOURS["brown"], COLOURS["orange"], COLOURS["purple"]
THREE: list[Scene] = [(RED, 4), (GREEN, 9 - 4), (BLUE, 16 - 9)]
THREE_TONES: list[Tone] = [(LOW, 6), (HIGH, 11 - 6), (MIDDLE, 16 - 11)]
HIGH_AT_82: list[Tone] = [(LOW, 82), (HIGH, 11), (LOW, 54)]
HIGH_AT_170: list[Tone] = [(LOW, 170), (HIGH, 10), (LOW, 20)]
SEVENS_SOUND = Tones(HIGH_AT_82, "flac", 16_000)
SAID = [(0.5, 2.5, "The kettle whistles."), (5.0, 7.0, "A kangaroo jumps."), (12.0, 15.0, "The violin plays.")]


def in_sevens() -> list[Scene]:
    """Return 21 scenes of 7 s: no border but the first falls on a minute."""
    usual = [RED, GREEN, YELLOW, WHITE]
    scenes = [usual[number % 4] for number in range(21)]
    scenes[8], scenes[17], scenes[20] = BROWN, PURPLE, ORANGE  # 56-63, 119-126 and 140-147 s
    return [(colour, 7) for colour in scenes]


def restless() -> list[Scene]:
    """Return pictures that never stand still: 12 s of ever other noise."""
    return [(noise(number), 0.1) for number in range(120)]


CLIPS: dict[str, list[Track]] = {
    "three.mp4": [Pictures(THREE), Tones(THREE_TONES)],
    "three-keys.mp4": [Pictures(THREE, size=(48, 48), options={"g": "1"}), Tones(THREE_TONES, rate=48_000)],
    "three.webm": [Pictures(THREE, "libvpx", fps=25), Tones(THREE_TONES, "libopus", 48_000)],
    "three.avi": [Pictures(THREE, "mpeg4", fps=5), Tones(THREE_TONES, "libmp3lame")],
    "sevens.mkv": [Pictures(in_sevens(), fps=5), SEVENS_SOUND],
    "sevens.mp4": [Pictures(in_sevens(), fps=12), Tones(HIGH_AT_82, rate=16_000)],
    "sevens-one-key.mp4": [Pictures(in_sevens(), fps=5, options={"g": "9999", "sc_threshold": "0"}), SEVENS_SOUND],
    "sevens.avi": [Pictures(in_sevens(), "mpeg4", fps=10), Tones(HIGH_AT_82, "libmp3lame")],
    "sevens.webm": [Pictures(in_sevens(), "libvpx", fps=5), Tones(HIGH_AT_82, "libopus", 48_000)],
    "sevens-uneven.mkv": [Pictures(in_sevens(), fps=[2, 15, 7] * 7), SEVENS_SOUND],
    "sevens-late.mkv": [Pictures(in_sevens(), fps=5, start_s=3600), replace(SEVENS_SOUND, start_s=3600)],
    "goes-on.mp4": [Pictures([(RED, 10)]), Tones(HIGH_AT_170, rate=16_000)],
    "voice.mp4": [Tones(HIGH_AT_170, rate=16_000)],
    "voice.m4a": [Tones(HIGH_AT_170, rate=22_050)],
    "voice.mp3": [Tones(HIGH_AT_170, "libmp3lame", 22_050)],
    "static-25.mp4": [Pictures([(PURPLE, 25)])],
    "static-70.mkv": [Pictures([(PURPLE, 70)], fps=5)],
    "static-11.mp4": [Pictures([(PURPLE, 11)])],
    "short.mp4": [Pictures([(PURPLE, 1.2)])],
    "uneven.mp4": [Pictures([(RED, 3), (BLUE, 25), (GREEN, 11.5), (YELLOW, 1.2), (WHITE, 5)])],
    "flicker.mp4": [Pictures([(RED, 0.5), (BLUE, 0.5)] * 9)],
    "restless.mp4": [Pictures(restless())],
    "beside.mp4": [Pictures(THREE, size=(80, 48))],
    "below.mkv": [Pictures(THREE, size=(80, 48))],
    "inside.mp4": [Pictures(THREE, size=(80, 64)), Words(SAID)],
    "inside.mkv": [Pictures(THREE, size=(80, 64)), Words(SAID, "subrip")],
    "inside-ass.mkv": [Pictures(THREE, size=(80, 64)), Tones(THREE_TONES), Words(SAID, "ass")],
    "inside.webm": [Pictures(THREE, "libvpx", size=(80, 64)), Words(SAID, "webvtt")],
    "red-high.mp4": [Pictures([(RED, 4)]), Tones([(HIGH, 4)])],
    "red-low.mp4": [Pictures([(RED, 4)]), Tones([(LOW, 4)])],
    "blue-high.mp4": [Pictures([(BLUE, 4)]), Tones([(HIGH, 4)])],
    "blue-low.mp4": [Pictures([(BLUE, 4)]), Tones([(LOW, 4)])],
}
THREES = [name for name in CLIPS if name.startswith("three")]
SEVENS = [*(name for name in CLIPS if name.startswith("sevens")), "sevens-piped.mkv", "sevens-fragments.mp4"]
MOMENT = re.compile(r"(.*)#t=([0-9.]+),([0-9.]+)")
SPOKEN = ["beside.mp4", "below.mkv", "sung.wav", *(name for name in CLIPS if name.startswith("inside"))]
LENGTHS_S = {
    **dict.fromkeys(THREES, 16.0),
    **dict.fromkeys(SEVENS, 147.0),
    "static-25.mp4": 25.0,
    "static-70.mkv": 70.0,
    "static-11.mp4": 11.0,
    "short.mp4": 1.2,
    "uneven.mp4": 45.7,
    "flicker.mp4": 9.0,
    "restless.mp4": 12.0,
}


@dataclass(frozen=True, slots=True)
class Cinema:
    folder: Path
    library: Library

    def hit(self, name: str, item: str | Path) -> Hit:
        """Return a file's hit for words or for a file."""
        (found,) = (hit for hit in self.library.query(item, k=1000) if hit.path == self.folder / name)
        return found

    def order(self, names: list[str], item: str | Path) -> list[str]:
        """Return these files in the order in which they answer."""
        found = [hit.path.name for hit in self.library.query(item, k=1000)]
        return sorted(names, key=found.index)

    def shots(self, name: str) -> list[tuple[float, float]]:
        """Return the shots or windows that the library holds of a file."""
        found: list[tuple[float, float]] = []
        for start_s, end_s, _ in contents(self.library, self.folder)[self.folder / name].segments:
            assert start_s is not None
            assert end_s is not None
            found.append((start_s, end_s))
        return found


@pytest.fixture(scope="module")
def cinema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cinema]:
    folder = tmp_path_factory.mktemp("cinema")
    for name, tracks in CLIPS.items():
        clip(folder / name, *tracks)
    piped = Pictures(in_sevens(), fps=4), SEVENS_SOUND
    put(folder, "sevens-piped.mkv", streamed_bytes(*piped, container="matroska"))
    put(folder, "sevens-fragments.mp4", streamed_bytes(*piped, container="mp4", options={"movflags": "frag_keyframe"}))
    put(folder, "beside.srt", srt(SAID))
    put(folder, "below.vtt", vtt(SAID))
    put(folder, "sevens.srt", srt([(121.0, 124.0, "The volcano smokes.")]))
    put(folder, "sung.wav", sound_bytes([(LOW, 16)]))
    put(folder, "sung.srt", srt(SAID))
    put(folder, "song.flac", sound_bytes([(LOW, 120), (HIGH, 10), (LOW, 20)], kind="FLAC"))
    put(folder, "photo.png", encoded(plain(PURPLE), "PNG"))
    library_folder = tmp_path_factory.mktemp("library") / "lib"
    with mmsearch.open(library_folder, model="hashing", settings=Settings(workers=2)) as library:
        library.index(ballast(tmp_path_factory.mktemp("ballast")))
        library.index(folder)
        yield Cinema(folder, library)


def test_nothing_of_it_is_broken(cinema: Cinema) -> None:
    assert [failure for failure in cinema.library.failures() if failure.path.parent == cinema.folder] == []


def assert_moment(hit: Hit, start_s: float, end_s: float) -> None:
    assert hit.start_s == pytest.approx(start_s, abs=1)
    assert hit.end_s == pytest.approx(end_s, abs=1)


@pytest.mark.parametrize("name", THREES)
@pytest.mark.parametrize(("word", "start_s", "end_s"), [("red", 0, 4), ("green", 4, 9), ("blue", 9, 16)])
def test_a_colour_finds_the_shot_that_shows_it(cinema: Cinema, name: str, word: str, start_s: int, end_s: int) -> None:
    hit = cinema.hit(name, word)
    assert (hit.modality, hit.view) == (Modality.VIDEO, View.VISUAL)
    assert_moment(hit, start_s, end_s)


@pytest.mark.parametrize("name", THREES)
@pytest.mark.parametrize(("word", "start_s", "end_s"), [("low", 0, 4), ("high", 4, 9), ("middle", 9, 16)])
def test_a_pitch_finds_the_shot_under_which_it_sounds(
    cinema: Cinema, name: str, word: str, start_s: int, end_s: int
) -> None:
    hit = cinema.hit(name, word)
    assert (hit.modality, hit.view) == (Modality.VIDEO, View.AUDIO)
    assert_moment(hit, start_s, end_s)


@pytest.mark.parametrize("name", SEVENS)
@pytest.mark.parametrize(
    ("word", "view", "start_s", "end_s"),
    [
        ("red", View.VISUAL, 0, 7),
        ("brown", View.VISUAL, 56, 63),
        ("high", View.AUDIO, 84, 91),
        ("purple", View.VISUAL, 119, 126),
        ("orange", View.VISUAL, 140, 147),
    ],
)
def test_a_moment_of_a_longer_clip_is_found_wherever_it_lies(
    cinema: Cinema, name: str, word: str, view: View, start_s: int, end_s: int
) -> None:
    hit = cinema.hit(name, word)
    assert hit.view is view
    if word != "red":  # there is more red
        assert_moment(hit, start_s, end_s)


@pytest.mark.parametrize("name", SEVENS)
def test_every_scene_of_a_longer_clip_is_one_shot(cinema: Cinema, name: str) -> None:
    shots = cinema.shots(name)
    beginnings = [start for start, _ in shots]
    for number in range(21):
        assert any(start == pytest.approx(7 * number, abs=1) for start in beginnings), number


@pytest.mark.parametrize("name", [*LENGTHS_S])
def test_shots_cover_a_clip_without_gap_or_overlap(cinema: Cinema, name: str) -> None:
    shots = cinema.shots(name)
    assert shots[0][0] == 0
    assert shots[-1][1] == pytest.approx(LENGTHS_S[name], abs=0.3)
    assert all(end == pytest.approx(start, abs=1e-6) for (_, end), (start, _) in pairwise(shots))


@pytest.mark.parametrize("name", [*LENGTHS_S])
def test_no_shot_is_longer_than_ten_seconds_nor_shorter_than_two(cinema: Cinema, name: str) -> None:
    spans = [end - start for start, end in cinema.shots(name)]
    assert max(spans) <= 10 + 1e-6
    assert min(spans[:-1], default=2) >= 2 - 1e-6  # the last one ends where the file does
    assert len(spans) == 1 or spans[-1] >= 1


def test_a_scene_that_stands_is_cut_into_shots(cinema: Cinema) -> None:
    assert len(cinema.shots("static-25.mp4")) == 3
    assert len(cinema.shots("static-11.mp4")) == 2
    assert len(cinema.shots("short.mp4")) == 1


def test_scene_borders_are_shot_borders_in_a_clip_of_uneven_scenes(cinema: Cinema) -> None:
    borders = [start for start, _ in cinema.shots("uneven.mp4")]
    for border in (3, 28, 39.5):
        assert any(start == pytest.approx(border, abs=0.6) for start in borders), border


def test_windows_of_a_long_sound_leave_nothing_out_and_find_the_moment(cinema: Cinema) -> None:
    windows = cinema.shots("song.flac")
    assert windows[0][0] == 0
    assert windows[-1][1] == pytest.approx(150, abs=0.1)
    assert all(start <= end for (_, end), (start, _) in pairwise(windows))
    assert all(end - start <= 10 for start, end in windows)
    hit = cinema.hit("song.flac", "high")
    assert (hit.modality, hit.view) == (Modality.AUDIO, View.AUDIO)
    assert hit.start_s == pytest.approx(120, abs=5)
    assert hit.end_s == pytest.approx(130, abs=5)


@pytest.mark.parametrize("name", ["goes-on.mp4", "voice.mp4", "voice.m4a", "voice.mp3"])
def test_sound_that_goes_on_alone_is_found_wherever_it_lies(cinema: Cinema, name: str) -> None:
    windows = cinema.shots(name)
    assert windows[0][0] == 0
    assert windows[-1][1] == pytest.approx(200, abs=0.3)
    assert all(start <= end + 1e-6 for (_, end), (start, _) in pairwise(windows))
    assert all(end - start <= 10 + 1e-6 for start, end in windows)
    assert len(windows) == len(set(windows))
    hit = cinema.hit(name, "high")
    assert hit.view is View.AUDIO
    assert hit.start_s == pytest.approx(170, abs=5)
    assert hit.end_s == pytest.approx(180, abs=5)


def test_a_clip_answers_once(cinema: Cinema) -> None:
    paths = [hit.path for hit in cinema.library.query("red", k=1000)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("name", SPOKEN)
@pytest.mark.parametrize(("word", "at_s"), [("kettle", 0.5), ("kangaroo", 5), ("violin", 12)])
def test_what_is_said_is_found_when_it_is_said(cinema: Cinema, name: str, word: str, at_s: float) -> None:
    hit = cinema.hit(name, word)
    assert hit.view is View.TEXT
    assert hit.text is not None
    assert word in hit.text
    assert hit.start_s is not None
    assert hit.end_s is not None
    assert hit.start_s - 0.1 <= at_s < hit.end_s
    assert hit.end_s - hit.start_s <= 10
    others = {"kettle", "kangaroo", "violin"} - {word}
    assert name == "sung.wav" or not any(other in hit.text for other in others)


def test_subtitles_answer_only_as_part_of_what_they_stand_beside(cinema: Cinema) -> None:
    found = cinema.library.query("kangaroo", k=len(SPOKEN))
    assert {hit.path.name for hit in found} == set(SPOKEN)
    assert not any(path.suffix in {".srt", ".vtt"} for path in contents(cinema.library, cinema.folder))


@pytest.mark.parametrize("name", ["sevens.mkv", "sevens.mp4"])
def test_what_is_said_late_in_a_longer_clip_is_found_there(cinema: Cinema, name: str) -> None:
    hit = cinema.hit(name, "volcano")
    assert (hit.view, hit.text) == (View.TEXT, "The volcano smokes.")
    assert_moment(hit, 119, 126)


def test_a_clip_asks_with_its_pictures_and_its_sound(cinema: Cinema, tmp_path: Path) -> None:
    names = ["blue-low.mp4", "blue-high.mp4", "red-low.mp4", "red-high.mp4"]
    for colour, pitch, best in ((RED, HIGH, "red-high.mp4"), (BLUE, LOW, "blue-low.mp4")):
        asked = tmp_path / f"{best}.mkv"
        clip(asked, Pictures([(colour, 5)], size=(48, 48)), Tones([(pitch, 5)], rate=16_000))
        assert cinema.order(names, asked)[0] == best


def test_a_clip_without_sound_asks_with_its_pictures(cinema: Cinema, tmp_path: Path) -> None:
    clip(tmp_path / "asked.webm", Pictures([(GREEN, 3)], "libvpx", size=(48, 48)))
    assert_moment(cinema.hit("three.mp4", tmp_path / "asked.webm"), 4, 9)


def test_a_sound_finds_the_clips_that_sound_like_it(cinema: Cinema, tmp_path: Path) -> None:
    asked = put(tmp_path, "asked.wav", sound_bytes([(HIGH, 3)], 44_100))
    names = ["blue-low.mp4", "red-low.mp4", "blue-high.mp4", "red-high.mp4"]
    assert set(cinema.order(names, asked)[:2]) == {"blue-high.mp4", "red-high.mp4"}
    hit = cinema.hit("three.mp4", asked)
    assert hit.view is View.AUDIO
    assert_moment(hit, 4, 9)


def test_a_picture_finds_the_moment_that_looks_like_it(cinema: Cinema, tmp_path: Path) -> None:
    asked = put(tmp_path, "asked.png", encoded(plain(BLUE, 80, 60), "PNG"))
    hit = cinema.hit("three.mp4", asked)
    assert hit.view is View.VISUAL
    assert_moment(hit, 9, 16)


@pytest.mark.parametrize("name", ["three.mp4", "sevens.mkv", "sung.wav"])
def test_a_file_finds_itself_first(cinema: Cinema, name: str) -> None:
    assert cinema.library.query(cinema.folder / name, k=1)[0].path == cinema.folder / name


def test_a_clip_that_is_gone_takes_its_moments_with_it(tmp_path: Path) -> None:
    file = tmp_path / "clips" / "clip.mp4"
    put(tmp_path, "clips/photo.png", encoded(plain(RED), "PNG"))
    clip(file, Pictures(THREE), Tones(THREE_TONES))
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        library.index(tmp_path / "clips")
        assert library.status().segments == 4
        file.unlink()
        assert library.index(tmp_path / "clips").removed == 1
        assert library.status().segments == 1
        assert [hit.path.name for hit in library.query("blue", k=10)] == ["photo.png"]


def test_paths_of_moments_say_when_and_photos_have_none(cinema: Cinema, run: Run) -> None:
    lines = run("query", "purple", "--paths", "-k", "100", "--all", library=cinema.library.folder).stdout.splitlines()
    assert str(cinema.folder / "photo.png") in lines
    moments = {match[1]: (float(match[2]), float(match[3])) for line in lines if (match := MOMENT.fullmatch(line))}
    start_s, end_s = moments[str(cinema.folder / "sevens.mkv")]
    assert start_s == pytest.approx(119, abs=1)
    assert end_s == pytest.approx(126, abs=1)
    assert {line for line in lines if "#" not in line} == {line for line in lines if line.endswith(".png")}


def test_paths_that_end_with_nul_are_paths_and_nothing_else(cinema: Cinema, run: Run) -> None:
    done = run("query", "purple", "-0", "-k", "100", "--all", library=cinema.library.folder)
    paths = done.stdout.split("\0")[:-1]
    assert str(cinema.folder / "sevens.mkv") in paths
    assert all(Path(path).is_file() for path in paths)
