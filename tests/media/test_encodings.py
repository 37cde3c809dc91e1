"""Encodings: texts of every age and land are read as they were written, and what nobody sees parts no word."""

from __future__ import annotations

import pytest

import mmsearch
from mmsearch.errors import MediaError
from mmsearch.media.encodings import decode_text
from mmsearch.printable import without_invisible

GERMAN = "Die Großmutter füttert die Gänse auf dem Hof."
CZECH = "Příliš žluťoučký kůň pěl ďábelské ódy. Řeka teče kolem mlýna."
RUSSIAN = "Красная машина едет по улице"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "latin-1"),
        ("Ça c'est déjà l'été où l'on dîne à Besançon", "cp1252"),
        ("El niño comió una piña en España", "cp1252"),
        (CZECH, "cp1250"),
        ("Zażółć gęślą jaźń", "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        ("Это кошка спит на окне", "cp866"),
        ("Καλημέρα κόσμε", "cp1253"),
        ("红色的汽车在街上", "gbk"),
        ("貓在窗邊睡覺", "big5"),
        ("赤い車が道を走っている", "shift-jis"),
        ("猫が窓で眠る", "euc-jp"),
        ("고양이가 잔다", "euc-kr"),
    ],
)
def test_a_text_of_before_unicode_is_read_by_a_guess_at_its_code_page(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [GERMAN, CZECH, "Привет мир"])
def test_utf_16_is_known_without_its_mark(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


def test_one_wrong_byte_spoils_only_itself_in_utf_8() -> None:
    assert decode_text(GERMAN.encode() + b"\xc3") == GERMAN + "\ufffd"
    assert decode_text(b"\xff " + CZECH.encode()) == "\ufffd " + CZECH


def test_lines_of_another_encoding_are_read_among_those_of_utf_8() -> None:
    assert decode_text(GERMAN.encode() + b"\n" + GERMAN.encode("latin-1")) == f"{GERMAN}\n{GERMAN}"


def test_zeros_behind_a_text_are_no_binary_data_and_zeros_in_it_are() -> None:
    assert decode_text(GERMAN.encode() + bytes(16)) == GERMAN
    with pytest.raises(MediaError, match="binary"):
        decode_text(b"words \0 and words")


def test_a_few_bytes_beyond_ascii_are_western_european() -> None:
    assert decode_text(b"caf\xe9 at the corner") == "café at the corner"


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("go\u200bose wal\u00adks in\u2060to the kit\ufeffchen", "goose walks into the kitchen"),
        ("\u202ered\u202c car\u200e", "red car"),
        ("\x1b[31mred\x07 car\x85", "[31mred car"),
        ("line\nand\ttab\x0c", "line\nand\ttab\x0c"),
        ("wa\u200dlk", "walk"),
        ("👩\u200d👧", "👩\u200d👧"),  # a family stays one
        ("می\u200cخواهم", "می\u200cخواهم"),  # noqa: RUF001  Persian needs its joiner
        ("❤\ufe0f 1\ufe0f\u20e3 a\ufe0f", "❤\ufe0f 1\ufe0f\u20e3 a"),
        ("🏴\U000e0067\U000e0062\U000e007f x\U000e0067", "🏴\U000e0067\U000e0062\U000e007f x"),
    ],
)
def test_characters_that_nobody_sees_go_and_those_that_shape_others_stay(written: str, seen: str) -> None:
    assert without_invisible(written) == seen


@pytest.mark.parametrize("model", ["mini", "hashing"])
def test_a_soft_hyphen_changes_no_vector(model: str) -> None:
    plain, parted = mmsearch.embed(["a goose walks", "a go\u00adose\u200b walks"], model=model)
    assert float(plain @ parted) == pytest.approx(1.0, abs=1e-6)
