"""Lengths, sizes and distances as people write them: "60", "1:30", "2min", "5MB", "12MP", "1920x1080", "10km"."""

from __future__ import annotations

import math
import re

from mmsearch.errors import FilterError
from mmsearch.filters.conditions import Measure

_NUMBER = r"(\d+(?:\.\d+)?)"
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:\.\d+)?)")
_LENGTH = re.compile(rf"{_NUMBER}\s*(s|sec|second|seconds|m|min|minute|minutes|h|hour|hours)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SIDES = re.compile(r"(\d{1,6})\s*[xX]\s*(\d{1,6})")
_SIZE = re.compile(rf"{_NUMBER}\s*(mp|px|[kmgt]?i?b)", re.IGNORECASE)
_POWERS = ("", "k", "m", "g", "t")
_DISTANCE = re.compile(rf"{_NUMBER}\s*(km|m|mi|mile|miles)?", re.IGNORECASE)
_KM = {"": 1.0, "k": 1.0, "m": 0.001, "mi": 1.609344}
FARTHEST_KM = 20_040.0
"""More than half of the earth's circumference."""


def read_length(text: str) -> float:
    """Return a length in seconds. Raises `FilterError`."""
    if clock := _CLOCK.fullmatch(text.strip()):
        return 3600.0 * int(clock[1] or 0) + 60.0 * int(clock[2]) + float(clock[3])
    found = _LENGTH.fullmatch(text.strip())
    if not found:
        raise FilterError("this is no length; write it as 60, 1:30, 2min or 1h", text, 0)
    return float(found[1]) * _SECONDS[(found[2] or "s")[0].lower()]


def read_size(text: str) -> tuple[int, Measure]:
    """Return a size in bytes or pixels. Raises `FilterError`."""
    if sides := _SIDES.fullmatch(text.strip()):
        return int(sides[1]) * int(sides[2]), Measure.PIXELS
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise FilterError("this is no size; write it as 500kB, 5MB, 12MP or 1920x1080", text, 0)
    unit = found[2].lower()
    if unit in ("mp", "px"):
        return round(float(found[1]) * (10**6 if unit == "mp" else 1)), Measure.PIXELS
    prefix = unit.rstrip("b").rstrip("i")
    return round(float(found[1]) * (1024 if "i" in unit else 1000) ** _POWERS.index(prefix)), Measure.BYTES


def read_distance(text: str) -> float:
    """Return a distance in kilometres. Raises `FilterError`."""
    found = _DISTANCE.fullmatch(text.strip())
    unit = (found[2] or "").lower() if found else ""
    km = float(found[1]) * _KM["mi" if unit.startswith("mi") else unit[:1]] if found else math.nan
    if not 0 < km <= FARTHEST_KM:
        raise FilterError("this is no distance; write kilometres, such as 5km or 0.5", text, 0)
    return km
