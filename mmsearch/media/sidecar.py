"""Captions beside a picture or clip: `photo.txt`, `photo.json` or `photo.jpg.json` beside `photo.jpg`."""

from __future__ import annotations

import json

from mmsearch.errors import MediaError
from mmsearch.media.kinds import by_name
from mmsearch.media.text import decode_text
from mmsearch.types import Modality

_KEYS = ("caption", "captions", "description", "title", "alt_text", "alt", "text")


def sidecar_names(name: bytes) -> tuple[bytes, ...]:
    """Return the names under which captions of `name` may stand in its folder, in reading order; () for other kinds."""
    if by_name(name) not in (Modality.IMAGE, Modality.VIDEO):
        return ()
    stem = name.rpartition(b".")[0]
    return (stem + b".txt", stem + b".json", name + b".json")


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
