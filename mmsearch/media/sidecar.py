"""What stands beside a file: captions (`photo.txt`, `photo.json`, `photo.jpg.json`) and subtitles (`clip.en.srt`)."""

from __future__ import annotations

import json

from mmsearch.errors import MediaError
from mmsearch.media.kinds import by_name
from mmsearch.media.text import decode_text
from mmsearch.types import Modality

_LANGUAGES = b"en eng de deu ger fr fra fre cs ces cze es spa it ita pt por nl nld pl pol ru rus ja jpn zh zho ko kor"
_SUBTITLES = (b".srt", b".vtt")
SIDECAR_ENDINGS = (b".txt", b".json", *_SUBTITLES)
"""How the name of every sidecar ends."""
_KEYS = ("caption", "captions", "description", "title", "alt_text", "alt", "text")


def sidecar_names(name: bytes) -> tuple[bytes, ...]:
    """Return the names under which a file's sidecars may stand in its folder, in reading order; () for texts.

    Pictures and clips have captions, clips and sounds have subtitles: `clip.srt`, `clip.mp4.srt`, `clip.de.vtt`.
    """
    modality = by_name(name)
    stem = name.rpartition(b".")[0]
    captions = (stem + b".txt", stem + b".json", name + b".json")
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
    for key in _KEYS:
        value = fields.get(key)
        found += [value] if isinstance(value, str) else value if isinstance(value, list) else []
    # JSON may hold half of a surrogate pair, which no text outside it can.
    clean = (" ".join(text.encode("utf-8", "replace").decode().split()) for text in found if isinstance(text, str))
    return list(dict.fromkeys(text for text in clean if text))
