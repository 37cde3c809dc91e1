"""The parts of a filter: conditions on one content each, joined by and, or, not. Pure data, compared by value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from mmsearch.types import Modality


class Fact(StrEnum):
    """What `has:` asks for."""

    DATE = "date"
    """A date of its own: not only that of its file."""
    PLACE = "place"
    CAMERA = "camera"
    TEXT = "text"
    """Words that belong to it, whatever their origin."""
    CAPTION = "caption"
    SPEECH = "speech"
    """Words that are said in it: from its subtitles, or recognised."""


class Measure(StrEnum):
    """What the size of a file is measured in."""

    BYTES = "bytes"
    PIXELS = "pixels"


@dataclass(frozen=True, slots=True)
class Kind:
    """The content is of one of these kinds."""

    kinds: frozenset[Modality]


@dataclass(frozen=True, slots=True)
class Under:
    """A path of the content lies below a folder.

    An absolute `folder` is that one folder. Any other, such as "Holidays" or "2019/Prague", names folders anywhere on
    the way, in any case of letters, where `*` and `?` stand for any characters but a separator.
    """

    folder: str


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a path of the content, without its folder, matches a glob in any case of letters."""

    glob: str


@dataclass(frozen=True, slots=True)
class After:
    """The content was made at `moment` or later.

    That is the date that the file gives, else the time of its last change, the earliest of several paths. Both are
    local times where it was made: a moment without an offset from UTC is compared with the clock on the wall there.
    """

    moment: datetime


@dataclass(frozen=True, slots=True)
class Before:
    """The content was made before `moment`: see `After`."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class Near:
    """The content was made within `km` of a place, in degrees, north and east positive."""

    latitude: float
    longitude: float
    km: float


@dataclass(frozen=True, slots=True)
class Camera:
    """Maker and model of the camera contain each of these words, in any case of letters."""

    words: str


@dataclass(frozen=True, slots=True)
class Longer:
    """The content lasts longer than this."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Shorter:
    """The content lasts less long than this; what has no duration isn't shorter than anything."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Larger:
    """The file, or the picture in it, is larger than this: of several paths, one of them."""

    amount: int
    measure: Measure


@dataclass(frozen=True, slots=True)
class Smaller:
    """The file, or the picture in it, is smaller than this: of several paths, one of them."""

    amount: int
    measure: Measure


@dataclass(frozen=True, slots=True)
class Has:
    """The content has this, whatever it is."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Says:
    """These very words, in this order, belong to the content: in any case of letters, with or without accents."""

    words: str


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds; without parts, it holds for everything."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the parts holds, of which there are two or more."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part doesn't hold: also where what it asks for isn't known."""

    part: Expression


Condition: TypeAlias = (
    Kind | Under | Name | After | Before | Near | Camera | Longer | Shorter | Larger | Smaller | Has | Says
)
Expression: TypeAlias = Condition | And | Or | Not
EVERYTHING = And(())
NOTHING = Not(Kind(frozenset(Modality)))


def conjunction(*parts: Expression) -> Expression:
    """Return what holds where all parts do, as flat as it can be written."""
    flat: list[Expression] = []
    for part in parts:
        flat += part.parts if isinstance(part, And) else (part,)
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else And(unique)


def disjunction(*parts: Expression) -> Expression:
    """Return what holds where at least one part does, as flat as it can be written."""
    flat: list[Expression] = []
    for part in parts:
        flat += part.parts if isinstance(part, Or) else (part,)
    unique = tuple(dict.fromkeys(flat))
    if EVERYTHING in unique:
        return EVERYTHING
    return unique[0] if len(unique) == 1 else Or(unique)


def negation(part: Expression) -> Expression:
    """Return what holds where the part doesn't."""
    if part == EVERYTHING:
        return NOTHING
    return part.part if isinstance(part, Not) else Not(part)
