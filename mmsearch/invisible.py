"""Characters that a reader doesn't see and that would part a word for a text tower and for the word index."""

from __future__ import annotations

import re

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
