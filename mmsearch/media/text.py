"""Texts → passages that fit a text tower."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

CountTokens = Callable[[str], int]

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|\n")  # noqa: RUF001  full-width marks end sentences too
_HEADING = re.compile(r"[^\n]{1,80}(?<![.!?…:;,])")
_HEADINGS_LENGTH = 200
"""Headings above each other are joined up to this many characters: a list of names is no heap of headings."""


def passages(text: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    """Cut a text into passages of at most `max_tokens` tokens each, in order, losing no word.

    Paragraphs are never joined, since a new one is a new subject, but a heading goes with what it heads. Within a
    paragraph whole sentences are packed together; one that is too long by itself is cut between words, a word between
    characters.
    """
    for paragraph in _paragraphs(text):
        packed, tokens = "", 0
        for piece in _pieces(paragraph, count_tokens, max_tokens):
            size = count_tokens(piece)
            if packed and tokens + size > max_tokens:
                yield packed
                packed, tokens = "", 0
            packed, tokens = f"{packed} {piece}".lstrip(), tokens + size
        if packed:
            yield packed


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a text, in order, with single spaces between their words."""
    return [clean for piece in _SENTENCE.split(text) if (clean := " ".join(piece.split()))]


def _paragraphs(text: str) -> Iterator[str]:
    heading = ""
    for paragraph in _PARAGRAPH.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        joined = f"{heading}\n{paragraph}".strip()
        heading = joined if _HEADING.fullmatch(paragraph.strip()) and len(joined) < _HEADINGS_LENGTH else ""
        if not heading:
            yield joined
    if heading:
        yield heading


def _pieces(paragraph: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    for sentence in sentences(paragraph):
        yield from _halve(sentence, count_tokens, max_tokens)


def _halve(piece: str, count_tokens: CountTokens, max_tokens: int) -> Iterator[str]:
    # A character may be several tokens but never fewer than 1/40th of one, so what is much longer is halved uncounted.
    if len(piece) <= 40 * max_tokens and count_tokens(piece) <= max_tokens:
        yield piece
        return
    if len(piece) < 2:
        yield piece
        return
    middle = len(piece) // 2
    cut = piece.rfind(" ", 1, middle + 1)
    if cut < 0:
        cut = piece.find(" ", middle)
    if cut < 0:
        cut = middle
    yield from _halve(piece[:cut].strip(), count_tokens, max_tokens)
    yield from _halve(piece[cut:].strip(), count_tokens, max_tokens)
