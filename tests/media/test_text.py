"""Texts are decoded from any encoding, and cut into passages that lose no letter."""

from __future__ import annotations

import codecs
import random
import re
import time
from collections.abc import Callable

import pytest

from mmsearch.errors import MediaError
from mmsearch.media.encodings import decode_text
from mmsearch.media.subtitle_files import spoken
from mmsearch.media.text import CountTokens, passages
from mmsearch.spaces import TextFrontEnd, load_profile
from mmsearch.types import View

SENTENCE = "Žluťoučký kůň für Günther — 東京 🎉, naïve café."


def count_words(text: str) -> int:
    return len(text.split())


@pytest.fixture(scope="module")
def mini() -> TextFrontEnd:
    front_end = load_profile("mini").spaces[0].front_ends[View.TEXT]
    assert isinstance(front_end, TextFrontEnd)
    return front_end


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_every_encoding_of_unicode_gives_the_same_text_without_its_mark(mark: bytes, encoding: str) -> None:
    assert decode_text(mark + SENTENCE.encode(encoding)) == SENTENCE


def test_windows_1252_is_read_where_bytes_are_no_utf_8() -> None:
    assert decode_text("Käse für 5 € „günstig“".encode("cp1252")) == "Käse für 5 € „günstig“"


def test_a_byte_that_windows_1252_leaves_open_spoils_only_itself() -> None:
    assert decode_text(b"K\xe4se \x81 hier") == "Käse \ufffd hier"


def test_nothing_decodes_to_nothing() -> None:
    assert decode_text(b"") == ""
    assert decode_text(codecs.BOM_UTF8) == ""


@pytest.mark.parametrize("raw", [b"\0", b"some \0 words and then", b"\x89PNG\r\n\x1a\n\0\0\0\r", bytes(range(256))])
def test_binary_data_is_refused(raw: bytes) -> None:
    with pytest.raises(MediaError, match="binary"):
        decode_text(raw)


@pytest.mark.parametrize("raw", [b"\xff\xfea", b"\xff\xfe\x00\xd8", b"\xff\xfe\0\0abc", b"\xef\xbb\xbf\xff\xff"])
def test_a_byte_order_mark_that_lies_is_refused_with_a_remedy(raw: bytes) -> None:
    with pytest.raises(MediaError, match="save it as UTF-8"):
        decode_text(raw)


def random_text(seed: int) -> str:
    """Words of many lengths and scripts, in sentences, lines and paragraphs of many lengths."""
    draw = random.Random(seed)
    alphabet = draw.choice(["abcdefghij", "aábcčdďeéě", "äöüßeinstr", "αβγδε", "東京大学の日本語", "xyz0123456789-_/"])
    parts: list[str] = []
    for _ in range(draw.randint(1, 400)):
        longest = draw.choice([3, 8, 8, 8, 20, 60])
        parts.append("".join(draw.choices(alphabet, k=draw.randint(1, longest))))
        parts.append(
            draw.choice([" "] * 14 + ["  ", ", ", ". ", "! ", "? ", "… ", "\n", "\t", "\r\n", "\n\n", "\r\n \r\n"])
        )
    return "".join(parts)


def letters(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("seed", range(20))
def test_passages_fit_the_mini_tower_and_lose_no_letter(seed: int, mini: TextFrontEnd) -> None:
    text = random_text(seed)
    found = list(passages(text, mini.count_tokens, mini.max_tokens))
    assert max(mini.count_tokens(passage) for passage in found) <= mini.max_tokens
    assert letters("".join(found)) == letters(text)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("max_tokens", [3, 8, 32])
def test_passages_of_words_keep_every_word_whole_and_in_order(seed: int, max_tokens: int) -> None:
    text = random_text(seed + 100)
    found = list(passages(text, count_words, max_tokens))
    assert max(count_words(passage) for passage in found) <= max_tokens
    # A word is cut only where it is longer than 40 characters a token, and none here is.
    assert " ".join(found).split() == text.split()


@pytest.mark.parametrize("seed", range(5))
def test_passages_are_clean_and_never_empty(seed: int) -> None:
    for passage in passages(random_text(seed + 200), count_words, 7):
        assert passage == " ".join(passage.split()) != ""


def test_short_sentences_of_one_paragraph_share_a_passage() -> None:
    assert list(passages("One two. Three!\nFour five? Six.", count_words, 10)) == ["One two. Three! Four five? Six."]


def test_a_sentence_that_still_fits_by_itself_is_not_cut() -> None:
    text = "One two three. Four five six. Seven eight."
    assert list(passages(text, count_words, 5)) == ["One two three.", "Four five six. Seven eight."]


@pytest.mark.parametrize("gap", ["\n\n", "\r\n\r\n", "\r\r", "\n \t\n", "\n\n\n\n"])
def test_paragraphs_of_sentences_are_not_joined(gap: str) -> None:
    text = f"The first subject ends here.{gap}The second one begins.{gap}And a third!"
    assert list(passages(text, count_words, 100)) == [
        "The first subject ends here.",
        "The second one begins.",
        "And a third!",
    ]


def test_a_sentence_too_long_for_the_tower_is_cut_between_words() -> None:
    words = [f"word{i}" for i in range(100)]
    found = list(passages(" ".join(words) + ".", count_words, 8))
    assert max(count_words(passage) for passage in found) <= 8
    assert " ".join(found) == " ".join(words) + "."


def test_a_sentence_without_spaces_is_cut_between_characters(mini: TextFrontEnd) -> None:
    text = "東京大学は日本で最も古い大学の一つである" * 30
    found = list(passages(text, mini.count_tokens, mini.max_tokens))
    assert "".join(found) == text
    assert max(mini.count_tokens(passage) for passage in found) <= mini.max_tokens


@pytest.mark.parametrize("text", ["", " ", "\n\n\n", "\r\n \t\r\n", "\u00a0\u2003"])
def test_a_text_without_words_has_no_passage(text: str) -> None:
    assert list(passages(text, count_words, 10)) == []


MEGABYTE = 2**20
LONG = {
    "one word": "x" * MEGABYTE,
    "one line of words": "word " * (MEGABYTE // 5),
    "one line of marks": "<" * MEGABYTE,
    "one line of stops": "." * MEGABYTE,
    "stops and spaces": ". " * (MEGABYTE // 2),
    "spaces": "a" + " " * MEGABYTE + "b",
    "one line break in spaces": "a\n" + " " * MEGABYTE + "b",
    "line breaks": "a" + "\n" * MEGABYTE + "b",
    "short lines": "a\n" * (MEGABYTE // 2),
    "numbers": "1" * MEGABYTE,
    "a word, then words": "x" * (MEGABYTE // 2) + " y z" * (MEGABYTE // 8),
}


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_on_one_line_is_cut_quickly_and_whole(name: str) -> None:
    began = time.process_time()
    found = list(passages(LONG[name], count_words, 60))
    assert time.process_time() - began < 10
    assert letters("".join(found)) == letters(LONG[name])


@pytest.mark.parametrize("name", ["one word", "one line of words", "one line of stops"])
def test_a_huge_line_is_cut_quickly_for_the_mini_tower(name: str, mini: TextFrontEnd) -> None:
    began = time.process_time()
    text = LONG[name][: MEGABYTE // 4]
    longest = max(mini.count_tokens(passage) for passage in passages(text, mini.count_tokens, mini.max_tokens))
    assert time.process_time() - began < 15
    assert longest <= mini.max_tokens


@pytest.mark.parametrize("name", LONG)
def test_long_lines_of_subtitles_are_read_quickly(name: str) -> None:
    began = time.process_time()
    spoken(LONG[name][: MEGABYTE // 16])
    assert time.process_time() - began < 3


SRT = """1
00:00:01,000 --> 00:00:04,000
<i>We met</i> in <font color="#ff0000">Prague</font>.

2
00:01:05,250 --> 00:01:07,000 X1:100 X2:200 Y1:10 Y2:20
She asked:
what time is it?
"""
VTT = """WEBVTT - made by hand

1
00:01.000 --> 00:04.000 align:start position:0%
<v Anna>We met in Prague.</v>

01:05:05.250 --> 01:05:07.000
She asked: <00:01:05.500><c.loud>what</c> time is it?
"""
SAID = "We met in Prague. She asked: what time is it?"


def said(text: str) -> str:
    return " ".join(spoken(text).split())


@pytest.mark.parametrize("text", [SRT, VTT], ids=["srt", "vtt"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_of_subtitles_only_the_words_are_left(text: str, ends: str) -> None:
    assert said(text.replace("\n", ends)) == SAID


def test_cues_stay_apart_as_paragraphs() -> None:
    assert list(passages(spoken(SRT), count_words, 50)) == ["We met in Prague.", "She asked: what time is it?"]


def test_a_cue_that_says_a_number_keeps_it() -> None:
    assert said("1\n00:00:01,000 --> 00:00:02,000\n1984\n\n2\n00:00:03,000 --> 00:00:04,000\nWas a year.\n") == (
        "1984 Was a year."
    )


def test_cues_without_a_blank_line_between_them_keep_their_words() -> None:
    assert said("00:01.000 --> 00:02.000\nHello.\n00:03.000 --> 00:04.000\nBye.\n") == "Hello. Bye."


def test_notes_and_styles_of_a_vtt_are_not_spoken() -> None:
    notes = "WEBVTT\n\nNOTE Translated by Bob\nin a hurry\n\nSTYLE\n::cue { color: red }\n\n"
    text = notes + "00:01.000 --> 00:02.000\nHello.\n"
    assert said(text) == "Hello."


def test_a_sentence_about_smaller_and_larger_keeps_its_words() -> None:
    assert said("1\n00:00:01,000 --> 00:00:02,000\nIf 3 < 5 then fine.\n") == "If 3 < 5 then fine."


COUNTERS: dict[str, CountTokens] = {"words": count_words, "characters": len}


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_tower_of_one_token_still_gets_every_letter(counter: str) -> None:
    count: Callable[[str], int] = COUNTERS[counter]
    text = "Two words. And äöü."
    found = list(passages(text, count, 1))
    assert max(count(passage) for passage in found) == 1
    assert letters("".join(found)) == letters(text)
