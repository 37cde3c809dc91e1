"""Broken and odd clips and sounds in one folder: what can be seen and heard of them is found, the rest is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Run
from support.media_maker import encoded, put, quarters
from support.odd_clips import CLIPS
from support.odd_media import FAILED, KEPT, Answer, Fate, Shelf, shelf
from support.odd_sounds import SOUNDS

from mmsearch import Modality, Stage, View

CASES = [*CLIPS, *SOUNDS]
BY_NAME = {case.name: case for case in CASES}
ANSWERS = [(case.name, answer) for case in CASES for answer in case.answers]
UGLY = re.compile(r"Traceback|Error\b|Errno|0x[0-9a-f]{6}|crashed|killed|^can't be decoded:")
CONTROLS = {
    "low": ("middle.flac", "song.flac", "no-sound.mp4"),
    "middle": ("low.wav", "song.flac", "no-sound.mp4"),
    "high": ("low.wav", "middle.flac", "no-sound.mp4"),
    "red": ("lure/target.mp4", "low.wav", "song.flac"),
    "green": ("no-sound.mp4", "low.wav", "song.flac"),
    "blue": ("lure/target.mp4", "low.wav", "song.flac"),
    "black": ("no-sound.mp4", "low.wav", "song.flac"),
    "white": ("no-sound.mp4", "low.wav", "song.flac"),
    "umbrella": ("no-sound.mp4", "low.wav", "song.flac"),
}
"""Words, and what no file that holds them may come after."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with shelf(tmp_path_factory.mktemp("odd"), CASES) as made:
        yield made


def every(fates: set[Fate]) -> list[str]:
    return [case.name for case in CASES if case.fate in fates]


def ids(cases: list[tuple[str, Answer]]) -> list[str]:
    return [f"{name}-{answer.word}" for name, answer in cases]


def test_every_name_is_used_once_and_there_are_many() -> None:
    assert len(BY_NAME) == len(CASES) > 150


@pytest.mark.parametrize(("name", "answer"), ANSWERS, ids=ids(ANSWERS))
def test_a_word_finds_it_before_what_is_something_else(odd: Shelf, name: str, answer: Answer) -> None:
    hit = odd.hit(name, answer.word)
    assert hit.view is answer.view
    assert hit.modality is BY_NAME[name].kind
    for other in CONTROLS[answer.word]:
        assert hit.rank < odd.hit(other, answer.word).rank, other


@pytest.mark.parametrize(("name", "answer"), ANSWERS, ids=ids(ANSWERS))
def test_a_hit_points_to_the_moment(odd: Shelf, name: str, answer: Answer) -> None:
    hit = odd.hit(name, answer.word)
    if answer.start_s is None:
        assert (hit.start_s, hit.end_s) == (None, None)
    else:
        assert hit.start_s == pytest.approx(answer.start_s, abs=answer.within_s)
        assert hit.end_s == pytest.approx(answer.end_s, abs=answer.within_s)


@pytest.mark.parametrize("name", every(KEPT))
def test_what_can_be_decoded_is_in_the_library(odd: Shelf, name: str) -> None:
    assert odd.held[odd.path(name)].modality == BY_NAME[name].kind


@pytest.mark.parametrize("name", every({Fate.FAILED}))
def test_what_cannot_be_decoded_is_not_in_the_library(odd: Shelf, name: str) -> None:
    assert odd.path(name) not in odd.held


@pytest.mark.parametrize("name", every(FAILED))
def test_what_is_broken_stands_among_the_failures(odd: Shelf, name: str) -> None:
    (failure,) = (failure for failure in odd.failures if failure.path == odd.path(name))
    assert failure.stage in {Stage.DECODE, Stage.READ}


@pytest.mark.parametrize("name", every({Fate.KEPT}))
def test_what_is_whole_does_not_stand_among_the_failures(odd: Shelf, name: str) -> None:
    assert [failure.reason for failure in odd.failures if failure.path == odd.path(name)] == []


@pytest.mark.parametrize("name", every({Fate.ANY}))
def test_what_may_become_either_becomes_one_of_them(odd: Shelf, name: str) -> None:
    path = odd.path(name)
    assert (path in odd.held) != (path in {failure.path for failure in odd.failures})


def test_nothing_else_is_held_and_nothing_else_failed(odd: Shelf) -> None:
    failed = odd.names(failure.path for failure in odd.failures)
    assert odd.names(odd.held) <= set(BY_NAME)
    assert odd.names(odd.held) | failed == set(BY_NAME)
    assert len(failed) == len(odd.failures) == odd.first.failed
    assert set(odd.first.failures) == set(odd.failures)
    assert odd.first.added == len(odd.held)


def test_every_reason_is_one_short_line_for_people(odd: Shelf) -> None:
    for failure in odd.failures:
        assert failure.reason.isprintable(), failure
        assert 5 < len(failure.reason) < 260, failure
        assert not UGLY.search(failure.reason), failure


def test_a_second_run_does_nothing_and_keeps_content_and_failures(odd: Shelf) -> None:
    second = odd.second
    assert (second.added, second.updated, second.reused, second.removed, second.failures) == (0, 0, 0, 0, ())
    assert odd.library.failures() == odd.failures


def test_nothing_that_a_lure_names_is_opened(odd: Shelf) -> None:
    assert not odd.called


def test_the_reason_names_what_is_wrong(odd: Shelf) -> None:
    reasons = {failure.path: failure.reason for failure in odd.failures}
    assert "empty" in reasons[odd.path("empty.mp4")]
    assert "empty" in reasons[odd.path("empty.wav")]
    assert "16000 x 16000" in reasons[odd.path("oversized.mov")]


@pytest.mark.parametrize("name", ["sound-only.mp4", "sound-only.mkv", "wav-in.mp4", "mp3-in.avi"])
def test_a_video_without_pictures_has_only_sound(odd: Shelf, name: str) -> None:
    assert {views for _, _, views in odd.held[odd.path(name)].segments} == {frozenset({"audio"})}


@pytest.mark.parametrize("name", ["with-cover.m4a", "with-cover-unbranded.m4a", "tagged.mp3"])
def test_the_cover_of_a_song_is_no_moment_of_it(odd: Shelf, name: str) -> None:
    titled = {frozenset({"text"})} if name == "tagged.mp3" else set()
    assert {views for _, _, views in odd.held[odd.path(name)].segments} == {frozenset({"audio"}), *titled}


def test_the_cover_of_a_video_is_no_moment_of_it(odd: Shelf) -> None:
    assert odd.hit("cover.mp4", "green").rank > odd.hit("lure/target.mp4", "green").rank
    assert len(odd.held[odd.path("cover.mp4")].segments) == 2


@pytest.mark.parametrize("name", ["silent.wav", "silent.m4a", "black-and-silent.mp4"])
def test_silence_answers_no_word_for_a_sound(odd: Shelf, name: str) -> None:
    low = {odd.path(other) for other, answer in ANSWERS if answer.word == "low"}
    last = max(hit.rank for hit in odd.answers("low") if hit.path in low)
    heard = [hit for hit in odd.answers("low") if hit.path == odd.path(name) and hit.view is View.AUDIO]
    assert [hit for hit in heard if hit.rank < last] == []


@pytest.mark.parametrize("name", ["25-s.wav", "25-s.m4a"])
def test_a_long_sound_is_several_windows_that_leave_nothing_out(odd: Shelf, name: str) -> None:
    times = [
        (start, end) for start, end, _ in odd.held[odd.path(name)].segments if start is not None and end is not None
    ]
    assert len(times) >= 3
    assert all(0 < end - start <= 10 for start, end in times)
    assert times[0][0] == 0
    assert times[-1][1] == pytest.approx(25, abs=0.1)
    assert all(later <= end for (_, end), (later, _) in pairwise(times))


def test_a_clip_whose_clock_leaps_is_no_endless_row_of_shots(odd: Shelf) -> None:
    assert len(odd.held[odd.path("leap.mkv")].segments) < 100
    assert len(odd.held[odd.path("years-long.mp4")].segments) < 100


def test_a_rotated_clip_is_seen_upright(odd: Shelf) -> None:
    lying = put(odd.folder.parent, "lying.png", encoded(quarters(64, 64), "PNG"))
    upright = put(odd.folder.parent, "upright.png", encoded(quarters(64, 64).rotate(90), "PNG"))
    seen, asleep, awake = odd.library.embed([odd.path("rotated.mp4"), lying, upright])
    assert float(seen @ awake) > float(seen @ asleep)


def test_decoders_say_nothing_on_the_terminal(odd: Shelf, run: Run, tmp_path: Path) -> None:
    damaged = [
        odd.path(case.name) for case in CASES if case.name.startswith(("spoiled", "broken-off", "garbage", "random"))
    ]
    done = run("index", *damaged, "--model", "hashing", "--workers", "2", "--json", library=tmp_path / "library")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_picture_under_the_name_of_a_clip_is_a_photo(odd: Shelf) -> None:
    assert odd.hit("png-in.mp4", "green").modality is Modality.IMAGE
