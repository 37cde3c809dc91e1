"""Texts of strangers on a terminal: names of files, words in them, and messages of decoders."""

from __future__ import annotations

from pathlib import Path

_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters that Unicode counts among letters and symbols, and that show nothing."""


def printable(text: str | Path) -> str:
    """Return a text in which everything that can't be seen is escaped, so that it can't steer or deceive a terminal.

    That is control characters (C0, C1), line and paragraph separators, marks that turn the direction of writing or
    have no width (Unicode's Cc, Cf, Zl, Zp), fillers, spaces other than U+0020, and bytes that are no text.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and c not in _FILLERS else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
