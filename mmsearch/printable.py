"""Texts of strangers on a terminal: names of files, words in them, and messages of decoders."""

from __future__ import annotations

from pathlib import Path

from mmsearch.invisible import IGNORABLE

_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that Unicode counts among letters and symbols, and that show nothing."""
_MOST_MARKS = 4
"""How many combining marks stand on a letter at most: more of them cover the lines above and below."""
_OVERLAY = 1
"""The combining class of marks that strike a letter out."""


def printable(text: str | Path) -> str:
    """Return a text in which everything that can't be seen is escaped, so that it can't steer or deceive a terminal.

    That is control characters (C0, C1), line and paragraph separators, marks that turn the direction of writing or
    have no width (Unicode's Cc, Cf, Zl, Zp, Default_Ignorable_Code_Point), fillers, spaces other than U+0020, and bytes
    that are no text; and combining marks that strike a letter out, or are more than four in a row.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    import unicodedata  # most texts are ASCII, and need none of it

    shown, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        is_seen = character.isprintable() and character not in _FILLERS and not IGNORABLE.match(character)
        is_plain = marks <= _MOST_MARKS and unicodedata.combining(character) != _OVERLAY
        shown.append(character if is_seen and is_plain else _escaped(character))
    return "".join(shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
