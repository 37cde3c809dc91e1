"""The words of filters, `under:Holidays`: from a word and its value to a condition, and back to text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from mmsearch.errors import FilterError
from mmsearch.filters.conditions import (
    After,
    And,
    Before,
    Camera,
    Condition,
    Expression,
    Fact,
    Has,
    Kind,
    Larger,
    Longer,
    Measure,
    Name,
    Near,
    Not,
    Or,
    Says,
    Shorter,
    Smaller,
    Under,
    conjunction,
)
from mmsearch.filters.dates import read_period, read_range
from mmsearch.filters.places import read_near
from mmsearch.filters.quantities import read_distance, read_length, read_size
from mmsearch.paths import expand
from mmsearch.types import Modality

Choice = TypeVar("Choice", bound=StrEnum)

_SYNONYMS = {
    "photo": Modality.IMAGE,
    "picture": Modality.IMAGE,
    "clip": Modality.VIDEO,
    "sound": Modality.AUDIO,
    "note": Modality.TEXT,
}
_BARE = re.compile(r'[^\s"()]+')
"""A value that needs no quotes."""


@dataclass(frozen=True, slots=True)
class Within:
    """What `within:5` says: how far the place before it reaches. No condition by itself."""

    km: float


def _kind(value: str, _now: datetime) -> Expression:
    kinds, start = set(), 0
    for name in value.split(","):
        plain = name.strip().lower()
        known = _SYNONYMS.get(plain.removesuffix("s"))
        kinds.add(known or _choice(Modality, plain.removesuffix("s"), value, start))
        start += len(name) + 1
    return Kind(frozenset(kinds))


def _choice(choices: type[Choice], name: str, value: str, start: int = 0) -> Choice:
    try:
        return choices(name)
    except ValueError:
        raise FilterError(f"it is one of {', '.join(choices)}", value, start) from None


def under(folder: str) -> Under:
    """Return the condition of a folder; one that begins with a separator, `~` or a dot is made absolute."""
    plain = folder.strip()
    if not plain:
        raise FilterError("a folder is missing", folder, 0)
    if "\0" in plain:
        raise FilterError("a folder's name has no NUL in it", folder, folder.index("\0"))
    if os.path.isabs(plain) or plain[0] == "~" or re.match(r"\.{1,2}(?:[/\\]|$)", plain):  # noqa: PTH117
        return Under(os.path.abspath(expand(plain)))  # noqa: PTH100  links stay as they are
    parts = [part for part in re.split(r"[/\\]" if os.sep == "\\" else "/", plain) if part not in ("", ".")]
    if not parts:
        raise FilterError("a folder is missing", folder, 0)
    return Under("/".join(parts))


def name(glob: str) -> Name:
    """Return the condition of a file's name."""
    if not glob.strip():
        raise FilterError("a name is missing; write it as *.heic", glob, 0)
    if "/" in glob:
        raise FilterError("a name has no folder in it; write under:FOLDER for that", glob, glob.index("/"))
    return Name(glob.strip())


def camera(words: str) -> Camera:
    """Return the condition of a camera."""
    if not words.strip():
        raise FilterError("a camera is missing; write part of its name, such as pixel", words, 0)
    return Camera(" ".join(words.split()))


def says(words: str) -> Says:
    """Return the condition of words that belong to the content."""
    if not words.strip():
        raise FilterError("words are missing", words, 0)
    return Says(words.strip())


def date(value: str, now: datetime) -> Expression:
    """Return the condition of a period or a range."""
    first, end = read_range(value, now)
    both = (After(moment(first)) if first else None, Before(moment(end)) if end else None)
    return conjunction(*(part for part in both if part))


def moment(value: datetime) -> datetime:
    """Return a moment to the second, whose offset from UTC, if there is one, is a plain one of whole minutes."""
    plain = value.replace(microsecond=0)
    offset = value.utcoffset()
    return (
        plain if offset is None else plain.replace(tzinfo=timezone(timedelta(minutes=offset // timedelta(minutes=1))))
    )


WORDS: Mapping[str, Callable[[str, datetime], Expression | Within]] = {
    "kind": _kind,
    "under": lambda value, _: under(value),
    "name": lambda value, _: name(value),
    "after": lambda value, now: After(moment(read_period(value, now).first)),
    "before": lambda value, now: Before(moment(read_period(value, now).first)),
    "date": date,
    "near": lambda value, _: read_near(value),
    "place": lambda value, _: read_near(value),
    "within": lambda value, _: Within(read_distance(value)),
    "camera": lambda value, _: camera(value),
    "longer": lambda value, _: Longer(read_length(value)),
    "shorter": lambda value, _: Shorter(read_length(value)),
    "larger": lambda value, _: Larger(*read_size(value)),
    "smaller": lambda value, _: Smaller(*read_size(value)),
    "has": lambda value, _: Has(_choice(Fact, value.strip().lower(), value)),
}
"""From each word to the condition that a value makes of it, as it is said at a time; raises `FilterError`."""


def written(expression: Expression) -> str:
    """Return an expression as text that is read as the same one; "" for the one that holds for everything."""
    match expression:
        case And(parts):
            return " ".join(_in_brackets(part) if isinstance(part, Or) else written(part) for part in parts)
        case Or(parts):
            return " or ".join(_in_brackets(part) if isinstance(part, And) else written(part) for part in parts)
        case Not(And() | Or() as part):
            return f"not {_in_brackets(part)}"
        case Not(part):
            return f"-{written(part)}"
    return _written(expression)


def _in_brackets(expression: Expression) -> str:
    return f"({written(expression)})"


def _written(condition: Condition) -> str:
    word, value = type(condition).__name__.lower(), ""
    match condition:
        case Kind(kinds):
            value = ",".join(sorted(kinds))
        case Under(text) | Name(text) | Camera(text):
            value = text
        case After(when) | Before(when):
            value = when.isoformat().removesuffix("T00:00:00")
        case Near(latitude, longitude, km):
            value = f"{_number(latitude)},{_number(longitude)},{_number(km)}km"
        case Longer(seconds) | Shorter(seconds):
            value = _number(seconds)
        case Larger(amount, measure) | Smaller(amount, measure):
            value = f"{amount}{'B' if measure is Measure.BYTES else 'px'}"
        case Has(fact):
            value = fact
        case Says(words):
            return _quoted(words)
    return f"{word}:{value}" if _BARE.fullmatch(value) else f"{word}:{_quoted(value)}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _number(value: float) -> str:
    """Return a number without an exponent, that is read as the same one."""
    return str(int(value)) if value == math.floor(value) else format(Decimal(repr(value)), "f")
