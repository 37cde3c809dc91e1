"""Subtitles: what SRT and WebVTT say when, and which moment it belongs to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmsearch.media.subtitle_files import cues
from mmsearch.media.subtitles import Cue, plain, said
from mmsearch.records import Origin, Text

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,
dog.

2
01:02:03,250 --> 01:02:04,000
{\\an8}A red car
"""
VTT = """WEBVTT - a title

NOTE a remark

intro
00:01.000 --> 00:02.500 align:start
<v Anna>Hello there

00:00:03.000 --> 00:00:04.000
A red car
"""


def words(texts: list[Text]) -> list[str]:
    return [text.words for text in texts]


def test_srt_is_read_with_times_and_without_tags() -> None:
    assert cues(SRT) == [Cue(1.0, 2.5, "Hello there, dog."), Cue(3723.25, 3724.0, "A red car")]


def test_webvtt_is_read_without_remarks_names_and_settings() -> None:
    assert cues(VTT) == [Cue(1.0, 2.5, "Hello there"), Cue(3.0, 4.0, "A red car")]


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_any_line_ending_will_do(ending: str) -> None:
    assert cues(SRT.replace("\n", ending)) == cues(SRT)


@pytest.mark.parametrize("text", ["", "just words", "00:00:01 --> later", "-->\n-->", "99:99:99,999 --> \n", "\0" * 9])
def test_what_is_no_subtitle_has_no_lines(text: str) -> None:
    assert cues(text) == []


def test_lines_come_in_order_of_their_start() -> None:
    text = "00:00:09,0 --> 00:00:10,0\nlate\n\n00:00:01,0 --> 00:00:02,0\nearly\n"
    assert [cue.text for cue in cues(text)] == ["early", "late"]


def test_less_than_and_greater_than_are_no_tags() -> None:
    assert plain("2 < 3 and 5 > 4") == "2 < 3 and 5 > 4"


def test_a_line_belongs_to_moments_that_cover_half_of_it_or_of_which_it_covers_half() -> None:
    lines = [Cue(1, 3, "one"), Cue(3.5, 4.1, "short"), Cue(3.8, 9, "long"), Cue(20, 20, "point")]
    assert words(said(lines, 0, 4)) == ["one short"]
    assert words(said(lines, 4, 8)) == ["long"]
    assert words(said(lines, 8, 9)) == ["long"]
    assert words(said(lines, 8, 20)) == []
    assert words(said(lines, 20, 30)) == ["point"]


def test_every_line_belongs_to_one_of_the_moments_that_follow_each_other() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        borders = np.concatenate([[0], draw.uniform(2, 10, 6)]).cumsum()
        start, length = draw.uniform(0, borders[-1] - 15), draw.uniform(0.1, 15)
        line = [Cue(start, start + length, "said")]
        owners = [said(line, low, high) for low, high in itertools.pairwise(borders)]
        assert any(owners)


def test_what_is_said_in_two_languages_is_two_texts() -> None:
    lines = [Cue(0, 2, "a castle", 0), Cue(0, 2, "ein Schloss", 1), Cue(2, 4, "on a hill", 0)]
    assert words(said(lines, 0, 4)) == ["a castle on a hill", "ein Schloss"]


def test_what_is_said_has_a_language_and_the_span_of_its_lines() -> None:
    lines = [Cue(0.5, 2, "a castle", 0, "en"), Cue(0, 2.5, "ein Schloss", 1, "de"), Cue(2, 3, "on a hill", 0, "en")]
    assert said(lines, 0, 4) == [
        Text(Origin.SUBTITLE, "a castle on a hill", "en", (0.5, 3)),
        Text(Origin.SUBTITLE, "ein Schloss", "de", (0, 2.5)),
    ]


def test_a_line_in_two_files_is_said_once() -> None:
    assert words(said([Cue(0, 2, "same"), Cue(0.1, 2, "same")], 0, 5)) == ["same"]
