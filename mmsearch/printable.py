"""What can be seen of a stranger's text: on a terminal, and of words before they reach a tower or an index."""

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
"""The first character of the scripts in which a joiner changes how letters look; Latin and Cyrillic come before."""
_FIRST_EMOJI = "\u203c"
_KEYCAPS = frozenset("0123456789#*\u00a9\u00ae")
_BLACK_FLAG = "\U0001f3f4"
"""It begins the flags of England, Scotland and Wales, which tag characters spell."""
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
        is_seen = character.isprintable() and character not in _FILLERS and not _IGNORABLE.match(character)
        is_plain = marks <= _MOST_MARKS and unicodedata.combining(character) != _OVERLAY
        shown.append(character if is_seen and is_plain else _escaped(character))
    return "".join(shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def without_invisible(text: str) -> str:
    """Return a text without soft hyphens, zero-width and direction marks and control characters; white space stays.

    A joiner stays between emoji and in scripts that need it (Arabic, Persian, Indic ones), a variation selector behind
    a symbol, and tag characters in the emoji of a flag.
    """
    if text.isascii() and text.isprintable():
        return text
    return _IGNORABLE.sub(_kept, text)


def _kept(found: re.Match[str]) -> str:
    character, start = found.group(), found.start()
    before = found.string[start - 1] if start else ""
    if character in _JOINERS:
        return character if before >= _FIRST_JOINED else ""
    if "\ufe00" <= character <= "\ufe0f":
        return character if before >= _FIRST_EMOJI or before in _KEYCAPS else ""
    if "\U000e0020" <= character <= "\U000e007f":
        return character if before == _BLACK_FLAG or "\U000e0020" <= before <= "\U000e007f" else ""
    return ""
