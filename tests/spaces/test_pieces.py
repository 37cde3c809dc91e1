"""Pieces: texts cut as the most likely way says, and letters of no piece spelt in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.errors import ModelError
from mmsearch.spaces.pieces import SPACE, Pieces, visible, write

NAMES = ["", "", "", "", SPACE, f"{SPACE}ti", "ger", f"{SPACE}tiger", "t", "i", "g", "e", "r", "虎", "🐯", f"{SPACE}a"]
SCORES = np.asarray([0, 0, 0, 0, -3, -5, -5, -7, -9, -9, -9, -9, -9, -8, -8, -4], np.float32)
BYTES = len(NAMES)


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    file = tmp_path / "pieces.npz"
    write(file, NAMES, SCORES, begin=[0, 15], end=[2])
    return Pieces(file, 12)


def ids(pieces: Pieces, text: str) -> list[int]:
    found: list[int] = pieces(text).tolist()
    assert found[:2] == [0, 15]
    assert found[-1] == 2
    return found[2:-1]


def test_a_word_is_cut_into_the_most_likely_pieces(pieces: Pieces) -> None:
    assert ids(pieces, "tiger") == [7]  # -7 against -5 and -5
    assert ids(pieces, "tier") == [5, 11, 12]
    assert ids(pieces, "a tiger") == [15, 7]


def test_what_no_piece_spells_becomes_its_bytes_and_never_one_and_the_same(pieces: Pieces) -> None:
    runes = [ids(pieces, rune) for rune in ("ᚠ", "ᚢ", "🦔", "x", "q")]
    assert runes[0] == [4, *(BYTES + byte for byte in "ᚠ".encode())]
    assert len({tuple(rune) for rune in runes}) == len(runes)
    assert pieces.vocabulary == BYTES + 256


def test_scripts_and_emoji_that_are_pieces_are_read_as_such(pieces: Pieces) -> None:
    assert ids(pieces, "虎") == [4, 13]
    assert ids(pieces, "🐯\ufe0f") == [4, 14]


def test_what_nobody_sees_is_not_read(pieces: Pieces) -> None:
    assert visible("ti\u200bger\u00ad\x07 \u3000a") == "tiger  a"
    assert ids(pieces, "\u202e\uff54\uff49\uff47\uff45\uff52\n") == ids(pieces, "tiger")
    assert ids(pieces, "\ud800tiger") == ids(pieces, "?tiger")


def test_a_long_text_is_cut_at_its_end_and_counted_whole(pieces: Pieces) -> None:
    assert pieces.max_tokens == 9
    assert len(pieces("tiger " * 40)) == 12
    assert pieces.count_tokens("tiger " * 40) == 40
    assert pieces.count_tokens("") == 0
    assert pieces("").tolist() == [0, 15, 2]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + b"\0" * 18])
def test_a_damaged_vocabulary_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pieces.npz"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"pieces\.npz can't be loaded"):
        Pieces(file, 12)("tiger")


def test_a_word_without_end_is_cut_in_stretches(pieces: Pieces) -> None:
    assert len(pieces("tiger" * 100_000)) == 12
    assert pieces.count_tokens("tiger" * 1000) == pytest.approx(3000, rel=0.05)  # t, i, ger


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("digests", np.zeros(0, np.uint64)),
        ("digests", np.zeros(12, np.float64)),
        ("digests", np.arange(12, 0, -1).astype(np.uint64)),
        ("ids", np.full(12, 2**30, np.int32)),
        ("ids", np.full(12, -1, np.int32)),
        ("ids", np.zeros((12, 1), np.int32)),
        ("scores", np.full(12, np.nan, np.float32)),
        ("scores", np.full(12, "x")),
        ("around", np.asarray([2**40, 1, 0, 2])),
        ("around", np.asarray([16, 1, 99_999, 2])),
        ("around", np.zeros((2, 2), np.int32)),
        ("around", np.zeros(0, np.int32)),
    ],
)
def test_a_crafted_vocabulary_is_named(pieces: Pieces, tmp_path: Path, name: str, value: NDArray[np.generic]) -> None:
    with np.load(pieces.file) as whole:
        arrays = dict(whole)
    assert len(arrays["digests"]) == 12
    np.savez(tmp_path / "crafted.npz", **{**arrays, name: value})
    with pytest.raises(ModelError, match=r"crafted\.npz can't be loaded"):
        Pieces(tmp_path / "crafted.npz", 12)("tiger")
