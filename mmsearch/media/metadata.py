"""What a file says of itself: when and where it was taken, and with what, from EXIF and from a container's tags.

A file may say anything. What can't be true, or can't be read, is left out; no fact is worth an error.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

_TAKEN = ((0x9003, 0x9011), (0x9004, 0x9012))
"""DateTimeOriginal and DateTimeDigitized, each with its offset from UTC."""
_CHANGED, _CHANGED_OFFSET = 0x0132, 0x9010
_MAKE, _MODEL = 0x010F, 0x0110
_EXIF, _GPS = 0x8769, 0x8825
_LENS_MAKE, _LENS = 0xA433, 0xA434
_RATING, _PERCENT = 0x4746, 0x4749
_CLOCK_OFF_S = 180.0
_QUARTER_S = 900
"""Time zones are whole quarters of an hour; a camera's clock may be this much off the satellites'."""
_DATE = re.compile(r"(\d{4})[:\-./](\d{1,2})[:\-./](\d{1,2})(?:[ T]+(\d{1,2})[:\-](\d{2})(?:[:\-](\d{2}))?)?(?!\d)")
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
_PLACE = re.compile(r"([+-]\d{1,3}(?:\.\d{1,12})?)([+-]\d{1,3}(?:\.\d{1,12})?)")
_NAMED = re.compile(r"[A-Za-z]{2}|\d ?mm")
_YEARS = range(1826, 2101)
"""From the first photograph on."""
_UNSET = (datetime(1904, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC))
"""What containers begin to count from, and hold where nobody set a clock."""
_LONGEST_S = 366 * 24 * 3600.0
MOST_CHARACTERS = 100
"""What is kept of the name of a camera, a lens or a place."""
_READ_CHARACTERS = 400
"""How much of a value is looked at, however long it is."""
BROKEN = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    SyntaxError,
    RecursionError,
    struct.error,
)
"""What Pillow's reader of EXIF raises on a damaged block."""


def exif_facts(exif: Any) -> dict[str, Any]:  # noqa: ANN401  Pillow's Exif, which this module doesn't import
    """Return the date, place and camera in EXIF data as fields of `FileFacts`."""
    fields, details, gps = _plain(exif), _block(exif, _EXIF), _block(exif, _GPS)
    taken = [date(details.get(when), details.get(offset)) for when, offset in _TAKEN]
    taken.append(date(fields.get(_CHANGED), details.get(_CHANGED_OFFSET)))
    latitude, longitude = _degrees(gps.get(2), gps.get(1), b"S"), _degrees(gps.get(4), gps.get(3), b"W")
    return {
        "taken_at": _with_zone(next(filter(None, taken), None), gps),
        "camera": camera(fields.get(_MAKE), fields.get(_MODEL)),
        "lens": lens(details.get(_LENS_MAKE), details.get(_LENS)),
        "rating": rating(fields.get(_RATING), fields.get(_PERCENT)),
        **place(latitude, longitude),
    }


def _with_zone(taken: datetime | None, gps: Mapping[int, Any]) -> datetime | None:
    """Return a date without a zone with the one by which it is the time that satellites gave."""
    if taken is None or taken.tzinfo is not None:
        return taken
    try:
        hours, minutes, seconds = (float(part) for part in gps[7])
        day = date(f"{words(gps[29])} 00:00:00")
        assert day is not None
        apart_s = (taken - day).total_seconds() - 3600 * hours - 60 * minutes - seconds
        offset = timedelta(seconds=_QUARTER_S * round(apart_s / _QUARTER_S))
    except (*BROKEN, AssertionError):
        return taken
    likely = abs(apart_s - offset.total_seconds()) <= _CLOCK_OFF_S and abs(offset) <= timedelta(hours=14)
    return taken.replace(tzinfo=timezone(offset)) if likely else taken


def container_facts(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the date, place and camera in a container's tags (QuickTime, MP4, Matroska) as fields of `FileFacts`."""
    known = {name.lower(): value for name, value in tags.items()}
    taken = [date(known.get(name)) for name in ("com.apple.quicktime.creationdate", "creation_time")]
    taken.append(date(f"{known.get('origination_date', '')} {known.get('origination_time', '')}"))  # a broadcast wave
    taken.append(date(known.get("date")))
    real = (each for each in taken if each is not None and not any(_is_at(each, unset) for unset in _UNSET))
    written = _first(known, "com.apple.quicktime.location.iso6709", "location", "location-eng")
    found = _PLACE.match(words(written))
    latitude, longitude = (float(found[1]), float(found[2])) if found else (None, None)
    make = _first(known, "com.apple.quicktime.make", "com.android.manufacturer", "make")
    model = _first(known, "com.apple.quicktime.model", "com.android.model", "model")
    return {
        "taken_at": next(real, None),
        "camera": camera(make, model),
        "lens": lens(None, known.get("com.apple.quicktime.camera.lens_model")),
        "rating": rating(_first(known, "com.apple.quicktime.rating.user", "rating"), None),
        **place(latitude, longitude),
    }


def pixels(width: int, height: int, *, turned: bool = False) -> dict[str, Any]:
    """Return the size of an upright picture as fields of `FileFacts`; `turned` says that width and height change."""
    sides = (height, width) if turned else (width, height)
    return dict(zip(("width", "height"), sides, strict=True)) if min(sides) > 0 else {}


def duration(seconds: float | None) -> float | None:
    """Return a length in seconds, None for one that can't be."""
    return round(seconds, 3) if seconds is not None and 0 < seconds <= _LONGEST_S else None


def camera(make: object, model: object) -> str | None:
    """Return a camera's maker and model in one, without saying the maker twice."""
    maker, name = words(make)[:MOST_CHARACTERS], words(model)[:MOST_CHARACTERS]
    known = maker and name.casefold().startswith(maker.split()[0].casefold())
    both = name if known else f"{maker} {name}"
    return both.strip()[:MOST_CHARACTERS].strip() or None


def lens(make: object, model: object) -> str | None:
    """Return a lens; what cameras write where they don't know it is none."""
    name = camera(make, model)
    return name if name is not None and _NAMED.search(name) else None


def rating(stars: object, percent: object) -> int | None:
    """Return stars from 1 to 5, -1 for a rejected one, None where nobody gave any."""
    for value, scale in ((stars, 1.0), (percent, 1 / 25)):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (ValueError, TypeError, ArithmeticError):
            continue
        if number == -1:
            return -1
        if scale != 1.0 and 1 <= number <= 99:  # Windows writes 1, 25, 50, 75, 99
            return 1 + round(number * scale)
        if scale == 1.0 and 1 <= number <= 5:
            return round(number)
    return None


def _plain(exif: Any) -> dict[int, Any]:  # noqa: ANN401
    try:
        return {tag: exif.get(tag) for tag in (_CHANGED, _MAKE, _MODEL, _RATING, _PERCENT)}
    except BROKEN:
        return {}


def _block(exif: Any, number: int) -> dict[int, Any]:  # noqa: ANN401
    try:
        return dict(exif.get_ifd(number))
    except BROKEN:
        return {}


def date(value: object, offset: object = None) -> datetime | None:
    """Return a date with its offset from UTC, which stands behind it or in a field of its own."""
    written = words(value)
    found = _DATE.match(written)
    if not found or int(found[1]) not in _YEARS:
        return None
    behind = re.sub(r"^\.\d+", "", written[found.end() :])
    zone = UTC if behind.startswith("Z") else _zone(behind) or _zone(words(offset))
    try:
        return datetime(*(int(part or 0) for part in found.groups()), tzinfo=zone)  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def _zone(written: str) -> timezone | None:
    found = _OFFSET.match(written)
    if not found:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-offset if found[1] == "-" else offset) if offset <= timedelta(hours=14) else None


def _is_at(date: datetime, other: datetime) -> bool:
    return abs(date.replace(tzinfo=date.tzinfo or UTC) - other) < timedelta(days=1)


def _degrees(parts: Any, side: object, negative: bytes) -> float | None:  # noqa: ANN401  whatever EXIF holds
    """Return degrees of degrees, minutes and seconds; None unless all are there and are numbers."""
    try:
        numbers = [float(part) for part in parts]
        degrees = sum((number / 60.0**power for power, number in enumerate(numbers[:3])), 0.0)
    except BROKEN:
        return None
    if not numbers or not math.isfinite(degrees) or min(numbers) < 0:
        return None
    return -degrees if words(side).upper().encode("ascii", "replace").startswith(negative) else degrees


def place(latitude: float | None, longitude: float | None) -> dict[str, Any]:
    """Return where it was taken as fields: none where half of it is missing or impossible.

    0° N 0° E is none either: cameras write it where they know no place.
    """
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return {}
    if latitude == 0 and longitude == 0:
        return {}
    return {"latitude": round(latitude, 7), "longitude": round(longitude, 7)}


def words(value: object) -> str:
    """Return what can be shown of a text or of bytes, with single spaces, cut to what is looked at."""
    if isinstance(value, bytes):
        value = value[:_READ_CHARACTERS].decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    shown = (character if character.isprintable() else " " for character in value[:_READ_CHARACTERS])
    return " ".join("".join(shown).replace("\ufffd", " ").split())


def _first(values: Mapping[str, str], *names: str) -> str | None:
    return next((values[name] for name in names if values.get(name)), None)
