"""Captions and metadata beside a file: texts, JSON of caption tools and Google Takeout, XMP, NFO of media centres."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.media.encodings import decode_text
from mmsearch.media.markup import parse
from mmsearch.media.xmp import read_xmp

_TAKEOUT_KEYS = frozenset({"photoTakenTime", "googlePhotosOrigin", "geoDataExif"})
"""Fields by which Google Takeout's JSON is known. Its `title` is the name of the file, and no caption."""
_KEYS = ("caption", "captions", "description", "title", "alt_text", "alt", "text")
_KEYWORD_KEYS = ("tags", "keywords", "categories")
_PLACE_KEYS = ("geoData", "geoDataExif")
_FILM = frozenset({"movie", "episodedetails", "tvshow", "musicvideo", "video"})
"""The outermost elements of NFO files. Others are drawings in letters, or a bare link."""
_ROOT = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,200}?\?>)?\s*(?:<!--.{0,2000}?-->)?\s*<(\w+)", re.DOTALL)
_FILM_CAPTIONS = ("title", "originaltitle", "tagline", "outline", "plot")
_FILM_KEYWORDS = ("genre", "tag")


def read_captions(name: bytes, raw: bytes) -> Description:
    """Return what a sidecar says. Raises `MediaError` where it isn't what its name promises."""
    ending = name.lower().rpartition(b".")[2]
    return _READERS.get(ending, _from_text)(raw)


def _from_text(raw: bytes) -> Description:
    return Description.of(decode_text(raw).splitlines())


def _from_json(raw: bytes) -> Description:
    try:
        fields = json.loads(decode_text(raw))
    except (ValueError, RecursionError) as error:
        raise MediaError(f"not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        return Description()
    if not _TAKEOUT_KEYS.isdisjoint(fields):
        return _from_takeout(fields)
    captions = [text for key in _KEYS for text in _list(fields.get(key))]
    return Description.of(captions, (word for key in _KEYWORD_KEYS for word in _list(fields.get(key))))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _from_takeout(fields: Mapping[str, Any]) -> Description:
    people = (person.get("name") for person in _list(fields.get("people")) if isinstance(person, dict))
    places = (_place(fields.get(key)) for key in _PLACE_KEYS)
    return Description.of(
        _list(fields.get("description")),
        people=people,
        taken_at=_instant(fields.get("photoTakenTime")),
        **next(filter(None, places), {}),
    )


def _instant(value: object) -> datetime | None:
    """Return the moment of `{"timestamp": "1500000000"}`; what wasn't after 1970 isn't known."""
    stamp = value.get("timestamp") if isinstance(value, dict) else None
    try:
        moment = datetime.fromtimestamp(int(str(stamp)[:20]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if 1826 <= moment.year <= 2100 and moment.timestamp() != 0 else None


def _place(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    latitude, longitude = value.get("latitude"), value.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return {}
    return metadata.place(float(latitude), float(longitude))


def _from_nfo(raw: bytes) -> Description:
    found = _ROOT.match(raw)
    if found is None or found[1].decode() not in _FILM:
        return Description()
    root = parse(raw[: raw.rfind(b">") + 1])  # a link may stand behind it
    actors = (actor.findtext("name") for actor in root.iter("actor"))
    stars = metadata.rating(_half(root.findtext("userrating")), None)
    return Description.of(
        (each.text for name in _FILM_CAPTIONS for each in root.findall(name)),
        (each.text for name in _FILM_KEYWORDS for each in root.findall(name)),
        (*actors, *(each.text for each in root.findall("director"))),
        rating=stars,
    )


def _half(stars: str | None) -> float | None:
    """Return stars out of ten as stars out of five."""
    try:
        return float(stars or "") / 2
    except ValueError:
        return None


_READERS: dict[bytes, Callable[[bytes], Description]] = {b"json": _from_json, b"xmp": read_xmp, b"nfo": _from_nfo}
