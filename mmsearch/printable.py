"""Makes untrusted text safe: escapes invisible characters for a terminal, and removes them before encoding."""

from __future__ import annotations

import re
from pathlib import Path

_IGNORABLE = re.compile(
    "[\u0000-\u0008\u000e-\u001f\u007f-\u009f"  # control characters except white space
    "\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Control characters and Unicode's Default_Ignorable_Code_Point, without the Hangul fillers that are in syllables."""
_JOINERS = frozenset("\u200c\u200d")
_FIRST_JOINED = "\u0590"
"""The first character of scripts in which a joiner changes the shape of letters; Latin and Cyrillic come before it."""
_FIRST_EMOJI = "\u203c"
_KEYCAPS = frozenset("0123456789#*\u00a9\u00ae")
_BLACK_FLAG = "\U0001f3f4"
"""The first character of the flags of England, Scotland and Wales; tag characters follow."""
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Characters without a glyph that Unicode classifies as letters or symbols."""
_MAX_MARKS = 4
"""Maximum number of combining marks on a letter: more would cover the lines above and below."""
_OVERLAY = 1
"""The combining class of marks that strike through a letter."""


def printable(text: str | Path) -> str:
    """Return a text with all invisible characters escaped, so that it can't control a terminal or mislead its user.

    These are control characters (C0, C1), line and paragraph separators, direction and zero-width marks (Unicode's Cc,
    Cf, Zl, Zp, Default_Ignorable_Code_Point), fillers, spaces other than U+0020, and undecodable bytes. Combining marks
    that strike through a letter, and those beyond four in a row, are escaped as well.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    import unicodedata  # not needed for ASCII, which most texts are

    shown, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        is_visible = character.isprintable() and character not in _FILLERS and not _IGNORABLE.match(character)
        is_plain = marks <= _MAX_MARKS and unicodedata.combining(character) != _OVERLAY
        shown.append(character if is_visible and is_plain else _escaped(character))
    return "".join(shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def without_invisible(text: str) -> str:
    """Return a text without soft hyphens, zero-width marks, direction marks and control characters.

    White space is kept, as are joiners between emoji and in scripts that need them (Arabic, Persian, Indic scripts),
    variation selectors after symbols, and tag characters in flag emoji.
    """
    if text.isascii() and text.isprintable():
        return text
    return _IGNORABLE.sub(_kept, text)


def _kept(match: re.Match[str]) -> str:
    character, start = match.group(), match.start()
    before = match.string[start - 1] if start else ""
    if character in _JOINERS:
        return character if before >= _FIRST_JOINED else ""
    if "\ufe00" <= character <= "\ufe0f":
        return character if before >= _FIRST_EMOJI or before in _KEYCAPS else ""
    if "\U000e0020" <= character <= "\U000e007f":
        return character if before == _BLACK_FLAG or "\U000e0020" <= before <= "\U000e007f" else ""
    return ""
