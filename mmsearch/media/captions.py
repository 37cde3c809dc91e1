"""Captions beside a file: texts, and JSON objects of caption tools and of Google Takeout."""

from __future__ import annotations

import json

from mmsearch.errors import MediaError
from mmsearch.media.encodings import decode_text
from mmsearch.printable import without_invisible

_TAKEOUT_KEYS = frozenset({"photoTakenTime", "googlePhotosOrigin", "geoDataExif"})
"""Fields by which Google Takeout's JSON is known. Its `title` is the name of the file, and no caption."""
_KEYS = ("caption", "captions", "description", "title", "alt_text", "alt", "text")


def read_captions(name: bytes, raw: bytes) -> list[str]:
    """Return the captions in a sidecar's bytes: a text's lines, or the caption fields of a JSON object.

    Raises `MediaError` where it is neither.
    """
    text = decode_text(raw)
    if not name.lower().endswith(b".json"):
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
