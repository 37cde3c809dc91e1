"""Tags of sounds and clips, as FFmpeg names them alike in ID3, MP4, QuickTime, Vorbis comments, Matroska and RIFF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.media.encodings import decode_text

_APPLE = "com.apple.quicktime."
_CAPTIONS = ("title", "artist", "album", "show", "description", "comment", "synopsis", "subtitle", "displayname")
_LYRICS = ("lyrics", "unsyncedlyrics")
_KEYWORDS = ("genre", "keywords", "grouping")
_MOST_CHARACTERS = 20_000
_BY_MACHINES = re.compile(
    r"(?:https?:|www\.)\S*|vid:\w+|.*\b(?:ripped|encoded|downloaded|converted) (?:by|with|from|using)\b.*|track ?\d+|"
    r"unknown(?: (?:artist|album|title))?|lavf[\d.]+|(?:[0-9A-F]{8} ?){3,}|core media \w+|mainconcept.*|gopro.*",
    re.IGNORECASE | re.DOTALL,
)


def describe_tags(tags: Mapping[str, str]) -> Description:
    """Return what the tags of a container say."""
    known = {name.lower().removeprefix(_APPLE): _mended(value[:_MOST_CHARACTERS]) for name, value in tags.items()}
    captions = [known.get(name, "") for name in _CAPTIONS]
    captions += [line for name, text in known.items() if name.split("-")[0] in _LYRICS for line in text.splitlines()]
    keywords = [word for name in _KEYWORDS for word in re.split("[;,/\0]", known.get(name, ""))]
    found = Description.of(
        (text for text in captions if not _BY_MACHINES.fullmatch(text.strip())),
        keywords,
        **metadata.container_facts(tags),
    )
    return found.without_machine_text


def _mended(text: str) -> str:
    """Undo a reading as Latin-1 of bytes that were in another encoding, as in ID3 tags of Windows programs."""
    if text.isascii() or any(character > "\xff" for character in text):
        return text
    with suppress(UnicodeError, MediaError):
        return decode_text(text.encode("latin-1"))
    return text
