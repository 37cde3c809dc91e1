"""What stands beside a file: captions (`photo.txt`, `photo.json`, `photo.jpg.json`) and subtitles (`clip.en.srt`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from mmsearch.errors import MediaError
from mmsearch.invisible import without_invisible
from mmsearch.media.encodings import decode_text
from mmsearch.media.kinds import by_name
from mmsearch.types import Modality

_LANGUAGES = b"en eng de deu ger fr fra fre cs ces cze es spa it ita pt por nl nld pl pol ru rus ja jpn zh zho ko kor"
_SUBTITLES = (b".srt", b".vtt")
SIDECAR_ENDINGS = (b".txt", b".json", *_SUBTITLES)
"""How the name of every sidecar ends."""
_TAKEOUT_KEYS = frozenset({"photoTakenTime", "googlePhotosOrigin", "geoDataExif"})
"""Fields by which Google Takeout's JSON is known. Its `title` is the name of the file, and no caption."""
_TAKEOUT_LENGTH = 46
"""Characters to which Takeout cuts a name before it puts `.json` behind it."""
_KEYS = ("caption", "captions", "description", "title", "alt_text", "alt", "text")


def sidecar_names(name: bytes) -> tuple[bytes, ...]:
    """Return the names under which a file's sidecars may stand in its folder, in reading order; () for texts.

    Pictures and clips have captions, clips and sounds have subtitles: `clip.srt`, `clip.mp4.srt`, `clip.de.vtt`.
    """
    modality = by_name(name)
    stem = name.rpartition(b".")[0]
    captions = (stem + b".txt", stem + b".json", name + b".json", *_takeout_names(name))
    stems = (stem, name, *(stem + b"." + language for language in _LANGUAGES.split()))
    subtitles = tuple(each + ending for each in stems for ending in _SUBTITLES)
    match modality:
        case Modality.IMAGE:
            return captions
        case Modality.VIDEO:
            return captions + subtitles
        case Modality.AUDIO:
            return subtitles
        case _:
            return ()


def _takeout_names(name: bytes) -> Iterator[bytes]:
    """Yield the names of a picture's or clip's metadata in Google Takeout, which aren't `name.json`.

    `a.jpg` has `a.jpg.supplemental-metadata.json`, cut to 46 bytes before the ending; `a(1).jpg` has
    `a.jpg(1).json` or `a.jpg.supplemental-metadata(1).json`; `a-edited.jpg` has that of `a.jpg`.
    """
    stem, ending = os.path.splitext(name)  # noqa: PTH122  names are bytes
    stem = stem.removesuffix(b"-edited")
    original, bracket, number = stem.rpartition(b"(")
    counted = bool(original) and number.endswith(b")") and number[:-1].isdigit()
    base, count = (original + ending, bracket + number) if counted else (stem + ending, b"")
    full = (base + b".supplemental-metadata")[:_TAKEOUT_LENGTH]
    for known in (base[:_TAKEOUT_LENGTH] + count, full + count):
        if known != name:
            yield known + b".json"


def has_times(name: bytes) -> bool:
    """Return whether a sidecar's lines belong to moments: subtitles."""
    return name.lower().endswith(_SUBTITLES)


def language_of(name: bytes) -> str:
    """Return the language that a sidecar's name gives, as "de" in `clip.de.srt`; "" where it gives none."""
    before = name.rpartition(b".")[0].rpartition(b".")[2]
    return before.decode() if before in _LANGUAGES.split() else ""


def read_sidecar(name: bytes, raw: bytes) -> list[str]:
    """Return the captions in a sidecar's bytes: a text's lines, or the caption fields of a JSON object.

    Raises `MediaError` where it is neither.
    """
    text = decode_text(raw)
    if not name.endswith(b".json"):
        return [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MediaError(f"not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        return []
    found: list[str] = []
    for key in ("description",) if not _TAKEOUT_KEYS.isdisjoint(fields) else _KEYS:
        value = fields.get(key)
        found += [value] if isinstance(value, str) else value if isinstance(value, list) else []
    # JSON may hold half of a surrogate pair, which no text outside it can.
    clean = (
        " ".join(without_invisible(text).encode("utf-8", "replace").decode().split())
        for text in found
        if isinstance(text, str)
    )
    return list(dict.fromkeys(text for text in clean if text))
