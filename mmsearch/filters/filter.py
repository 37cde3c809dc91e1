"""`Filter`: which contents may answer, as an expression that can be written, read and combined."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Self

from mmsearch.errors import FilterError
from mmsearch.filters import vocabulary
from mmsearch.filters.conditions import (
    EVERYTHING,
    After,
    Before,
    Expression,
    Fact,
    Has,
    Kind,
    Larger,
    Longer,
    Shorter,
    Smaller,
    conjunction,
    disjunction,
    negation,
)
from mmsearch.filters.dates import read_period
from mmsearch.filters.grammar import parse_filter
from mmsearch.filters.places import near as near_point
from mmsearch.filters.places import read_near
from mmsearch.filters.quantities import read_size
from mmsearch.types import Modality

Point = tuple[float, float]
"""Latitude and longitude in degrees, north and east positive."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Filter:
    """Which contents may answer: all arguments have to hold, and none holds for everything.

        Filter(after="2019-06", under="Holidays") & ~Filter(camera="pixel") | Filter.parse("near:Prague has:date")

    `&`, `|` and `~` combine filters, `str` writes one as the command line reads it. Pure data, compared by value: which
    contents a filter holds for is decided by a library alone.
    """

    expression: Expression

    def __init__(
        self,
        *,
        after: str | date | None = None,
        before: str | date | None = None,
        date: str | None = None,
        under: str | Path | None = None,
        name: str | None = None,
        kind: str | Modality | Collection[str | Modality] | None = None,
        near: str | Point | None = None,
        within_km: float | None = None,
        place: str | None = None,
        camera: str | None = None,
        longer_s: float | None = None,
        shorter_s: float | None = None,
        larger: str | None = None,
        smaller: str | None = None,
        has: str | Fact | Iterable[str | Fact] = (),
        says: str | None = None,
    ) -> None:
        """Make a filter of conditions that all have to hold. Raises `FilterError` for a value that makes no sense.

        `after` and `before` are dates as in "2019-06", "March 2020", "last summer"; `after` includes its first moment.
        `date` is such a period or a range, "2019-06..2019-08". `under` is a folder: a path, or names anywhere on the
        way; `name` a glob of the file's name. `near` is (latitude, longitude) or a town, `place` a town, and
        `within_km` how far from there. `camera` is a part of its name, `longer_s` and `shorter_s` are seconds. `larger`
        and `smaller` are sizes such as "5MB", "12MP" or "1920x1080". `has` names facts that have to be known, and
        `says` words that have to stand in the item.
        """
        now = datetime.now()
        parts: list[Expression] = []
        if kind is not None:
            parts.append(_kinds(kind))
        if under is not None:
            parts.append(vocabulary.under(os.path.abspath(under.expanduser()) if isinstance(under, Path) else under))  # noqa: PTH100
        if name is not None:
            parts.append(vocabulary.name(name))
        if after is not None:
            parts.append(After(_moment(after, now)))
        if before is not None:
            parts.append(Before(_moment(before, now)))
        if date is not None:
            parts.append(vocabulary.date(date, now))
        parts += _surroundings(near, place, within_km)
        if camera is not None:
            parts.append(vocabulary.camera(camera))
        if longer_s is not None:
            parts.append(Longer(_seconds(longer_s, "longer_s")))
        if shorter_s is not None:
            parts.append(Shorter(_seconds(shorter_s, "shorter_s")))
        parts += [] if larger is None else [Larger(*read_size(larger))]
        parts += [] if smaller is None else [Smaller(*read_size(smaller))]
        parts += [Has(_fact(fact)) for fact in ([has] if isinstance(has, str) else has)]
        if says is not None:
            parts.append(vocabulary.says(says))
        object.__setattr__(self, "expression", conjunction(*parts))

    @classmethod
    def of(cls, expression: Expression) -> Self:
        """Return the filter of an expression."""
        made = cls()
        object.__setattr__(made, "expression", expression)
        return made

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the filter that is written in a text, as the command line reads it: see `docs/filters.md`.

        Raises `FilterError`, which says at which character.
        """
        return cls.of(parse_filter(text))

    def __and__(self, other: Filter) -> Filter:
        return (
            Filter.of(conjunction(self.expression, other.expression)) if isinstance(other, Filter) else NotImplemented
        )

    def __or__(self, other: Filter) -> Filter:
        return (
            Filter.of(disjunction(self.expression, other.expression)) if isinstance(other, Filter) else NotImplemented
        )

    def __invert__(self) -> Filter:
        return Filter.of(negation(self.expression))

    def __str__(self) -> str:
        return vocabulary.written(self.expression)

    def __repr__(self) -> str:
        return f"Filter.parse({str(self)!r})"

    @property
    def is_everything(self) -> bool:
        """Whether it is the filter without conditions, that holds for everything."""
        return self.expression == EVERYTHING


def _kinds(kind: str | Modality | Collection[str | Modality]) -> Expression:
    names = [kind] if isinstance(kind, str) else list(kind)
    if not names:
        raise FilterError(f"kinds are missing; give some of {', '.join(Modality)}", "", 0)
    try:
        return Kind(frozenset(Modality(name) for name in names))
    except ValueError:
        raise FilterError(f"{', '.join(map(str, names))}: kinds are {', '.join(Modality)}", "", 0) from None


def _moment(value: str | date, now: datetime) -> datetime:
    if isinstance(value, str):
        return vocabulary.moment(read_period(value, now).first)
    if isinstance(value, datetime):
        return vocabulary.moment(value)
    if isinstance(value, date):
        return datetime.combine(value, time())
    raise FilterError(f"{value!r} is no date; give a text such as 2019-06, a date or a datetime", "", 0)


def _surroundings(near: str | Point | None, place: str | None, within_km: float | None) -> list[Expression]:
    if near is not None and place is not None:
        raise FilterError("give near or place: each is a point and its surroundings", "", 0)
    where = place if near is None else near
    if where is None:
        if within_km is not None:
            raise FilterError("within_km says how far from a place, which is missing; give near or place", "", 0)
        return []
    if isinstance(where, str):
        found = read_near(where)
        latitude, longitude, within_km = found.latitude, found.longitude, found.km if within_km is None else within_km
    else:
        try:
            latitude, longitude = (float(each) for each in where)
        except (TypeError, ValueError):
            raise FilterError(f"{where!r} is no place; give (latitude, longitude) or a town", "", 0) from None
    return [near_point(latitude, longitude, _number(within_km, "within_km") if within_km is not None else None)]


def _number(value: float, name: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise FilterError(f"{name} is {value!r}, which is no number", "", 0)
    return float(value)


def _seconds(value: float, name: str) -> float:
    if _number(value, name) < 0:
        raise FilterError(f"{name} is {value!r}; give seconds, 0 or more", "", 0)
    return float(value)


def _fact(fact: str | Fact) -> Fact:
    try:
        return Fact(fact)
    except ValueError:
        raise FilterError(f"{fact}: what an item can have is {', '.join(Fact)}", "", 0) from None
