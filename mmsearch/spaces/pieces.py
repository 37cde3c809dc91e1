"""A front end that cuts texts into the pieces of a unigram model, and what no piece spells into its bytes.

The `tokenizers` library takes 0.06 s to load such a vocabulary, most of a query's start. Here a piece is known by a
digest of its letters, so that a vocabulary of any size is three sorted arrays on disk and costs nothing to open.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import ModelError
from mmsearch.files import read_bounded, unpack_arrays, write_whole

if TYPE_CHECKING:
    from mmsearch.spaces.base import Prepared
    from mmsearch.types import Payload

SPACE = "\u2581"
"""What stands for the space before a word."""
_LONGEST = 16
"""How many characters a piece has at most."""
_DIGEST = 8
_BYTES = 256
_UNSEEN = 10.0
"""How much less likely than the rarest piece a character is that is in no piece (SentencePiece's own penalty)."""
_MOST_BYTES = 64 * 2**20
_MOST_IDS = 2**24
_STRETCH = 512
"""A longer word is cut in stretches of so many characters: what weighing its pieces takes grows with its length."""
_WORDS = 65_536
_DROPPED = {"Cc", "Cf", "Cs", "Cn", "Co"}
"""Categories of characters that nobody sees."""
_SELECTORS = {"\ufe0e", "\ufe0f"}
"""They say whether a character is drawn in colour."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces by their digests, in ascending order: digests (n,) uint64, ids (n,) int32, scores (n,) float32.

    `bytes` is the id of the byte 0; `begin` and `end` are the ids that stand around every text.
    """

    digests: NDArray[np.uint64]
    ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    bytes: int
    begin: tuple[int, ...]
    end: tuple[int, ...]
    size: int

    def check(self) -> None:
        """Raise `ValueError` unless the arrays are what `write` writes: a file from elsewhere may hold anything."""
        arrays = (self.digests, np.uint64), (self.ids, np.int32), (self.scores, np.float32)
        if any(array.dtype != kind or array.shape != (len(self.digests),) for array, kind in arrays):
            raise ValueError("its arrays have other types or shapes than a vocabulary's")
        if not len(self.digests) or (self.digests[1:] < self.digests[:-1]).any() or not np.isfinite(self.scores).all():
            raise ValueError("its pieces are none, unsorted or without a score")
        numbers = np.concatenate([self.ids, np.asarray(self.begin + self.end, np.int64)])
        if not 0 < self.size <= _MOST_IDS or numbers.min() < 0 or numbers.max() >= self.size:
            raise ValueError("a piece has a number that there is no embedding for")

    def find(self, pieces: list[str]) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.float32]]:
        """Return which of some pieces are known, and the ids and the scores of those that are."""
        wanted = np.frombuffer(b"".join(map(digest, pieces)), "<u8")
        places = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        return self.digests[places] == wanted, self.ids[places], self.scores[places]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Turns a text into the ids of pieces, as the file `pieces.npz` of a space says."""

    file: Path
    max_ids: int

    def __call__(self, payload: Payload) -> Prepared:
        """Return (t,) int64 ids with those around them, t ≤ `max_ids`; what is longer is cut at its end."""
        if not isinstance(payload, str):
            raise TypeError(f"a text tower takes a text, not {type(payload).__name__}")
        known = _vocabulary(self.file)
        ids = itertools.islice(self._ids(payload), self.max_tokens)
        return np.asarray([*known.begin, *ids, *known.end], np.int64)

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""
        return _vocabulary(self.file).size

    @property
    def max_tokens(self) -> int:
        """The longest passage, in tokens that carry words."""
        known = _vocabulary(self.file)
        return self.max_ids - len(known.begin) - len(known.end)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes, without those around it."""
        return sum(1 for _ in self._ids(text))

    def _ids(self, text: str) -> Iterator[int]:
        words = (SPACE + word for word in visible(text).split())
        stretches = (word[at : at + _STRETCH] for word in words for at in range(0, len(word), _STRETCH))
        return itertools.chain.from_iterable(_cut(self.file, stretch) for stretch in stretches)


def visible(text: str) -> str:
    """Return a text in Unicode's composed form (NFKC), without what nobody sees; every separator is a space."""
    if text.isascii() and text.isprintable():
        return text
    composed = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    seen = []
    for letter in composed:
        if letter.isspace():
            seen.append(" ")
        elif letter not in _SELECTORS and unicodedata.category(letter) not in _DROPPED:
            seen.append(letter)
    return "".join(seen)


def digest(piece: str) -> bytes:
    """Return by what a vocabulary knows a piece."""
    return hashlib.blake2b(piece.encode(), digest_size=_DIGEST).digest()


def write(file: Path, pieces: list[str], scores: NDArray[np.float32], *, begin: list[int], end: list[int]) -> None:
    """Write a vocabulary. `pieces` are in the order of their ids, "" for one that no text is cut into.

    The ids of the 256 bytes follow.
    """
    used = [number for number, piece in enumerate(pieces) if 0 < len(piece) <= _LONGEST]
    digests = np.frombuffer(b"".join(digest(pieces[number]) for number in used), "<u8")
    order = np.argsort(digests, kind="stable")
    ids = np.asarray(used, np.int32)[order]
    around = np.asarray([len(pieces), len(begin), *begin, *end], np.int32)
    content = io.BytesIO()
    np.savez(content, digests=digests[order], ids=ids, scores=scores[ids].astype(np.float32), around=around)
    write_whole(file, content.getvalue())


@lru_cache(maxsize=8)
def _vocabulary(file: Path) -> Vocabulary:
    try:
        arrays = unpack_arrays(read_bounded(file, _MOST_BYTES), file, _MOST_BYTES)
        around = arrays["around"].tolist()
        begin, end = around[2 : 2 + around[1]], around[2 + around[1] :]
        digests, ids, scores = (arrays[name] for name in ("digests", "ids", "scores"))
        known = Vocabulary(digests, ids, scores, around[0], tuple(begin), tuple(end), around[0] + _BYTES)
        known.check()
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(f"{file} can't be loaded ({error}); reinstall the model it belongs to") from error
    return known


@lru_cache(maxsize=_WORDS)
def _cut(file: Path, word: str) -> tuple[int, ...]:
    """Return the ids of the most likely pieces of a word (Viterbi; Kudo 2018, arXiv:1804.10959)."""
    known, many = _vocabulary(file), len(word)
    spans = [(at, to) for at in range(many) for to in range(at + 1, min(many, at + _LONGEST) + 1)]
    found, ids, scores = known.find([word[at:to] for at, to in spans])
    by_end: list[list[tuple[int, int, float]]] = [[] for _ in range(many + 1)]
    for number in np.flatnonzero(found).tolist():
        at, to = spans[number]
        by_end[to].append((at, int(ids[number]), float(scores[number])))
    unseen = float(known.scores.min()) - _UNSEEN
    best, back = [0.0], [(0, -1)]
    for to in range(1, many + 1):
        options = [(best[at] + score, at, number) for at, number, score in by_end[to]]
        score, at, number = max([*options, (best[to - 1] + unseen, to - 1, -1)])
        best.append(score)
        back.append((at, number))
    parts: list[tuple[int, ...]] = []
    while many:
        at, number = back[many]
        spelt = (known.bytes + byte for byte in word[at:many].encode())
        parts.append((number,) if number >= 0 else tuple(spelt))
        many = at
    return tuple(number for part in reversed(parts) for number in part)
