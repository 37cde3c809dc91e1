"""Subtitles and lyrics as players take them: dialects, tags, rolling captions, drawings, telemetry; nothing twice."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from av.stream import Disposition
from support.clip_maker import LOW, Pictures, Tones, Words, clip_bytes, disposed, srt, vtt
from support.media_maker import BLUE, RED, put

import mmsearch
from mmsearch import Settings
from mmsearch.media.subtitle_files import cues, has_lines, spoken
from mmsearch.media.subtitles import Cue, Script, said
from mmsearch.media.video import Video
from mmsearch.settings import Limits


def lines(text: str) -> list[tuple[float, float, str]]:
    return [(cue.start_s, cue.end_s, cue.text) for cue in cues(text)]


GOOSE = [(0.5, 2.5, "A goose walks"), (3.0, 5.0, "Grandmother")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("00:00:00,500 --> 00:00:02,500", "00:00:03,000 --> 00:00:05,000"),
        ("00:00:00,500-->00:00:02,500", "00:00:03,000-->00:00:05,000"),
        ("00:00:00.5 --> 00:00:02.5", "00:00:03.0 --> 00:00:05.0"),
        ("00:00:00:500 --> 00:00:02:500", "00:00:03:000 --> 00:00:05:000"),
        ("00: 00: 00,500 --> 00: 00: 02,500", "00:00:03, 000 --> 00:00:05, 000"),
        ("0:0:0,500 -> 0:0:2,500", "0:0:3 -> 0:0:5"),
        ("00:00,500 --> 00:02,500 X1:10 Y1:20", "00:03 --> 00:05"),
        (" 00:00:00,500 -->  00:00:02,500", "\t00:00:03,000\t-->\t00:00:05,000"),
        ("0:00:00.500,0:00:02.500", "0:00:03.000,0:00:05.000"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_times_are_read_as_players_read_them(first: str, second: str, ends: str) -> None:
    text = f"1\n{first}\nA goose walks\n\n2\n{second}\nGrandmother\n".replace("\n", ends)
    assert lines(text) == GOOSE
    assert lines(text + "\0\0") == GOOSE


def test_a_first_time_that_is_negative_is_zero() -> None:
    text = "-00:00:00,500 --> 00:00:02,500\nA goose\n\n-00:00:03,000 --> -00:00:02,000\nbefore it began\n"
    assert lines(text) == [(0.0, 2.5, "A goose")]


def test_a_line_of_srt_goes_on_behind_an_empty_row_and_one_of_webvtt_doesnt() -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,000\nA goose\n\nwalks\n\n2\n00:00:03,000 --> 00:00:04,000\nHome\n"
    assert [cue.text for cue in cues(srt)] == ["A goose walks", "Home"]
    assert [cue.text for cue in cues("WEBVTT\n\n" + srt.replace(",", "."))] == ["A goose", "Home"]


def test_entities_and_blanks_are_characters() -> None:
    text = "WEBVTT\n\n00:00.500 --> 00:02.500\nTom &amp; Jerry &lt;3 cheese&nbsp;and &#39;milk&#39; AT&T &copy2\n"
    assert lines(text) == [(0.5, 2.5, "Tom & Jerry <3 cheese and 'milk' AT&T &copy2")]


ASS = r"""[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.50,0:00:02.50,Default,,0,0,0,,{\an8\i1}A goose{\i0}\hwalks\Ninto{TN: a pun} the kitchen, slowly
Dialogue: 1,0:00:00.50,0:00:02.50,Default,,0,0,0,,{\blur3}A goose\hwalks\Ninto the kitchen, slowly
Dialogue: 0,0:00:03.00,0:00:05.00,Default,,0,0,0,,{\p1}m 0 0 l 100 0 100 100 0 100{\p0}
Dialogue: 0,0:00:03.00,0:00:05.00,Default,,0,0,0,,{\pos(10,20)\fad(100,200)}Grandmother{\p1}m 0 0 l 5 5{\p0} feeds it
Comment: 0,0:00:03.00,0:00:05.00,Default,,0,0,0,,a note of the translator
"""


def test_of_ass_words_are_read_and_drawings_comments_and_layers_arent() -> None:
    expected = [(0.5, 2.5, "A goose walks into the kitchen, slowly"), (3.0, 5.0, "Grandmother feeds it")]
    assert lines(ASS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{1}{1}25.000\n{12}{62}A goose walks\n{75}{125}Grandmother\n",
        "[5][25]A goose walks\n[30][50]Grandmother\n",
        "<SAMI><BODY><SYNC Start=500><P>A goose walks<SYNC Start=2500><P>&nbsp;<SYNC Start=3000><P>Grandmother"
        "<SYNC Start=5000><P>&nbsp;</BODY></SAMI>",
        '<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="0.5s" end="2.5s">A goose walks</p>'
        '<p begin="3s" end="5s">Grandmother</p></div></body></tt>',
    ],
    ids=["microdvd", "mpl2", "sami", "ttml"],
)
def test_older_and_rarer_kinds_are_read(text: str) -> None:
    found = lines(text)
    assert [words for *_, words in found] == ["A goose walks", "Grandmother"]
    assert [start_s for start_s, *_ in found] == pytest.approx([0.5, 3.0], abs=0.03)


def test_lyrics_last_until_the_next_line_and_a_chorus_is_sung_as_often() -> None:
    text = (
        "[ti:A song]\n[offset:+500]\n[00:01.00]A <00:01.20>goose <00:01.40>walks\n[00:03.5][00:09:50]home\n[00:05.00]\n"
    )
    assert lines(text) == [(0.5, 3.0, "A goose walks"), (3.0, 4.5, "home"), (9.0, 19.0, "home")]


ROLLING = """WEBVTT

00:00.500 --> 00:02.000
\x20
so<00:00:00.700><c> today</c><00:00:00.900><c> we</c>

00:02.000 --> 00:02.010
so today we
\x20

00:02.010 --> 00:04.000
so today we
bake<00:00:02.500><c> bread</c>

00:04.000 --> 00:04.010
bake bread
\x20

00:04.010 --> 00:05.500
bake bread
and<00:00:04.500><c> eat</c>
"""


def test_captions_that_roll_are_said_once() -> None:
    assert lines(ROLLING) == [(0.5, 2.01, "so today we"), (2.01, 4.01, "bake bread"), (4.01, 5.5, "and eat")]
    assert spoken(ROLLING) == "so today we\n\nbake bread\n\nand eat"


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        (["a b", "a b\nc d", "a b\nc d\ne f", "c d\ne f\ng h"], ["a b", "c d", "e f", "g h"]),
        (["so", "so today", "so today we", "so today we bake"], ["so today we bake"]),
        (["a b\nc", "a b\nc d", "a b\nc d e", "c d e\nf"], ["a b c d e", "f"]),
        (["No!", "No!", "Never!"], ["No!", "Never!"]),
    ],
    ids=["three rows", "word by word", "word by word in rows", "shown twice"],
)
def test_however_captions_grow_each_word_is_said_once(shown: list[str], kept: list[str]) -> None:
    script = Script()
    for number, words in enumerate(shown):
        script.add(Cue(number, number + 1, words))
    assert " ".join(cue.text for cue in script.cues) == " ".join(kept)


def test_what_is_said_again_later_is_said_again() -> None:
    script = Script()
    for start_s, words in ((0, "la la"), (1, "hey"), (9, "hey")):
        script.add(Cue(start_s, start_s + 1, words))
    assert [cue.text for cue in script.cues] == ["la la", "hey", "hey"]


@pytest.mark.parametrize(
    "words",
    [
        '<font size="28">FrameCnt: 1, DiffTime: 33ms\n2024-05-01 10:00:00.033\n[iso: 100] [shutter: 1/640.0] '
        "[fnum: 2.8] [latitude: 50.000001] [longitude: 14.000001] [rel_alt: 20.1 abs_alt: 250.3] </font>",
        "F/2.8, SS 206.14, ISO 150, EV 0, GPS (-122.3699, 37.8166, 15), D 24.26m, H 6.00m, H.S 0.00m/s, V.S 0.00m/s",
        "HOME(149.0251,-20.2533) 2017.08.05 14:11:51\nGPS(149.0210,-20.2532,16) BAROMETER:1.9\nISO:100 Shutter:60",
        "2021/03/04 10:00:00 N50.0875 E14.4213 45 km/h",
    ],
)
def test_telemetry_is_no_speech(words: str) -> None:
    text = f"1\n00:00:00,000 --> 00:00:00,033\n{words}\n\n2\n00:00:00,033 --> 00:00:00,066\n{words}\n"
    assert cues(text) == []
    assert has_lines(text)
    assert spoken(text) == ""


@pytest.mark.parametrize(
    "words",
    ["10, 9, 8, 7, 6, 5, 4, 3, 2, 1, go!", "Call 555 0123 456 789 now: 24 hours", "In 1984, 1985 and 1986, 1987 came"],
)
def test_numbers_that_somebody_says_are_speech(words: str) -> None:
    assert [cue.text for cue in cues(f"00:00:00,000 --> 00:00:01,000\n{words}\n")] == [words]


@pytest.mark.parametrize(
    "text",
    [
        "1\n" * 200_000,
        "00:00:00,000 --> 00:00:01,000\n" + "\n" * 200_000 + "a",
        "00:00:00,000 --> 00:00:01,000\n" * 20_000,
        "00:00:00,000 --> 00:00:01,000\n" + "<" * 200_000,
        "00:00:00,000 --> 00:00:01,000\n" + "{\\p1}" * 50_000,
        "[00:00.00]" * 50_000,
        "[Events]\nDialogue: " + "," * 200_000,
        "Dialogue: 0,0:00:00.00,0:00:01.00,,,,,,," + "{\\p1}a" * 50_000,
        "<tt><!DOCTYPE a [<!ENTITY b 'c'>]>" + "&b;" * 1000,
        "<tt>" * 50_000,
        "<sami>" + "<sync>" * 50_000,
        "{1}{" + "1" * 100_000 + "}a",
        "00:00:00,000 --> 99999:00:01,000\na",
        " " * 200_000 + "00:00",
    ],
    ids=range(14),
)
def test_hostile_subtitles_are_done_with_quickly(text: str) -> None:
    began = time.process_time()
    cues(text)
    spoken(text)
    assert time.process_time() - began < 5


def test_all_tracks_in_words_are_read_with_their_language_and_signs_never() -> None:
    texts = [Words([(0.2, 0.8, words)], "srt") for words in ("EXIT", "a goose", "eine Gans")]
    clip = disposed(
        clip_bytes(Pictures([(RED, 2.0)]), *texts, container="matroska"),
        {1: Disposition.forced | Disposition.default},
        metadata={1: {"language": "eng"}, 2: {"language": "eng"}, 3: {"language": "ger"}},
    )
    found = [event for event in Video(io.BytesIO(clip), Limits()).events() if isinstance(event, Cue)]
    assert [(cue.text, cue.language) for cue in found] == [("a goose", "eng"), ("eine Gans", "ger")]
    assert len({cue.track for cue in found}) == 2


def test_the_title_of_a_track_tells_that_it_says_only_signs() -> None:
    tracks = (Pictures([(RED, 2.0)]), Words([(0.1, 0.9, "EXIT")], "srt"), Words([(0.2, 0.8, "a goose")], "srt"))
    clip = disposed(clip_bytes(*tracks, container="matroska"), {}, metadata={1: {"title": "Signs & Songs"}})
    found = [event for event in Video(io.BytesIO(clip), Limits()).events() if isinstance(event, Cue)]
    assert [cue.text for cue in found] == ["a goose"]


def test_drawings_and_tags_inside_a_clip_are_no_words() -> None:
    drawn = [
        (0.1, 0.4, "{\\p1}m 0 0 l 100 0 100 100{\\p0}"),
        (0.5, 0.9, "{\\an8}A goose\\hwalks\\Nhome, &amp; rests"),
    ]
    clip = clip_bytes(Pictures([(RED, 1.0)]), Words(drawn, "ass"), container="matroska")
    found = [event for event in Video(io.BytesIO(clip), Limits()).events() if isinstance(event, Cue)]
    assert [cue.text for cue in found] == ["A goose walks\nhome, & rests"]


def test_of_two_tracks_in_one_language_the_second_adds_what_it_says_more() -> None:
    shown = [Cue(0, 1, "a goose", 0, "en"), Cue(0, 1, "a goose", 1, "en"), Cue(1, 2, "[honks]", 1, "en")]
    assert [text.words for text in said(shown, 0, 2)] == ["a goose", "[honks]"]


def test_a_silent_track_before_one_that_is_heard_is_passed_over() -> None:
    tracks = (Pictures([(RED, 2.0)]), Tones([(None, 2.0)]), Tones([(LOW, 2.0)]))
    clip = disposed(clip_bytes(*tracks, container="matroska"), {1: Disposition.default})
    video = Video(io.BytesIO(clip), Limits())
    peak = max((float(abs(event.samples).max()) for event in video.events() if hasattr(event, "samples")), default=0.0)
    assert peak > 0.1


def test_a_clip_answers_with_every_subtitle_beside_and_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    clip_bytes_ = clip_bytes(Pictures([(RED, 6.0)]), Words([(0.5, 2.0, "a kettle boils")]), container="mp4")
    put(folder, "clip.mp4", clip_bytes_)
    put(folder, "clip.en-US.srt", srt([(0.5, 2.5, "a goose walks")]))
    put(folder, "clip.de.forced.VTT", vtt([(0.5, 2.5, "ein Schild")]))
    put(folder, "clip.ass", ASS)
    put(folder, "DJI_1.MP4", clip_bytes(Pictures([(BLUE, 2.0)]), container="mp4"))
    put(folder, "DJI_1.SRT", srt([(0.0, 1.0, "F/2.8, SS 206.14, ISO 150, EV 0, GPS (-122.3699, 37.8166, 15)")]))
    put(folder, "lonely.lrc", "[00:01.00]a lonely violin\n")
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        report = library.index(folder)
        assert report.failed == 0
        texts = {item.path.name: item.texts for item in library.items()}
    assert set(texts) == {"clip.mp4", "DJI_1.MP4", "lonely.lrc"}
    assert {(text.words, text.language) for text in texts["clip.mp4"]} == {
        ("a goose walks", "en-US"),
        ("ein Schild", "de"),
        ("A goose walks into the kitchen, slowly Grandmother feeds it", ""),
        ("a kettle boils", ""),
    }
    assert texts["DJI_1.MP4"] == ()
    assert [text.words for text in texts["lonely.lrc"]] == ["a lonely violin"]
