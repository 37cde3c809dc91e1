"""Dates as people write them: "2019", "2019-06-01", "March 2020", "last summer", "3 days ago", "2019-06..2019-08".

Each stands for a period, from its first moment to the first one after it. Seasons are those of the northern half of the
earth, of whole months; a week begins on a Monday.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import NamedTuple, NoReturn

from mmsearch.errors import FilterError

EXAMPLES = "write it as 2019, 2019-06, 2019-06-01, March 2020, last summer, yesterday or 3 days ago"
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        1,
    )
    for name in names.split()
}
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
"""The first month of each. A winter is that of the year in which it begins."""
_UNITS = ("day", "week", "month", "year")
_NUMBERED = re.compile(
    r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?"
    r"(Z|[+-]\d{2}:?\d{2})?)?)?)?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s,]+")
_END = datetime(9999, 12, 31, 23, 59, 59)


class Period(NamedTuple):
    """A span of time, [first, end)."""

    first: datetime
    end: datetime


def read_period(text: str, now: datetime) -> Period:
    """Return the period that a text stands for, as it is said at `now`. Raises `FilterError`."""
    if not text.strip():
        raise FilterError(f"a date is missing; {EXAMPLES}", text, 0)
    if found := _NUMBERED.fullmatch(text.strip()):
        return _numbered(found, text)
    return _Words(text, now).period()


def read_range(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the first moment of a range "A..B" and the first one after it; None for the side that is left open."""
    first, dots, last = text.partition("..")
    if not dots:
        return read_period(text, now)
    if not first.strip() and not last.strip():
        raise FilterError(f"a range needs a date on one side at least; {EXAMPLES}", text, 0)
    begin = read_period(first, now).first if first.strip() else None
    try:
        end = read_period(last, now).end if last.strip() else None
    except FilterError as error:
        raise error.within(text, len(first) + 2) from None
    if begin is not None and end is not None and _wall(begin) >= _wall(end):
        raise FilterError("the range ends before it begins", text, len(first) + 2)
    return begin, end


def _wall(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _numbered(found: re.Match[str], text: str) -> Period:
    """Return the period of a date in numbers, and of a time if there is one."""
    offset = len(text) - len(text.lstrip())
    year, month, day, hour, minute, second = (int(part) if part else None for part in found.groups()[:6])
    limits: tuple[tuple[int, int, int, str], ...] = (
        (1, 1, 9999, "years go from 0001 to 9999"),
        (2, 1, 12, "a year has 12 months"),
        (4, 0, 23, "hours end at 23"),
    )
    limits += ((5, 0, 59, "minutes end at 59"), (6, 0, 59, "seconds end at 59"))
    for group, least, most, reason in limits:
        if found[group] and not least <= int(found[group]) <= most:
            raise FilterError(f"{reason}; {EXAMPLES}", text, offset + found.start(group))
    assert year is not None
    if month is None:
        return _years(year)
    if day is None:
        return _months(year, month)
    try:
        begin = datetime(year, month, day, hour or 0, minute or 0, second or 0, tzinfo=_zone(found[7]))
    except ValueError:
        raise FilterError(f"{year}-{month:02} has no day {day}; {EXAMPLES}", text, offset + found.start(3)) from None
    length = timedelta(days=1) if hour is None else timedelta(minutes=1) if second is None else timedelta(seconds=1)
    return _from(begin, length)


def _zone(written: str | None) -> timezone | None:
    if not written:
        return None
    if written in "Zz":
        return UTC
    offset = timedelta(hours=int(written[1:3]), minutes=int(written[-2:]))
    if offset >= timedelta(hours=24):
        return UTC
    return timezone(-offset if written[0] == "-" else offset)


def _from(begin: datetime, length: timedelta) -> Period:
    try:
        return Period(begin, begin + length)
    except OverflowError:
        return Period(begin, _END.replace(tzinfo=begin.tzinfo))


def _months(year: int, month: int, count: int = 1) -> Period:
    """Return a number of months from this one on."""
    years, last = divmod(month - 1 + count, 12)
    end = datetime(year + years, last + 1, 1) if year + years <= 9999 else _END
    return Period(datetime(year, month, 1), end)


def _years(year: int) -> Period:
    return _months(year, 1, 12)


def _days(day: date, count: int = 1) -> Period:
    return _from(datetime.combine(day, time()), timedelta(days=count))


class _Words:
    """A date in words, read from left to right."""

    def __init__(self, text: str, now: datetime) -> None:
        self._text, self._now = text, now
        found = list(_WORD.finditer(text))
        self._words = [each.group().lower() for each in found]
        self._starts = [each.start() for each in found]

    def period(self) -> Period:
        words, now = self._words, self._now
        match words:
            case ["today"]:
                return _days(now.date())
            case ["yesterday"]:
                return _days(now.date() - timedelta(days=1))
            case ["this" | "last" as which, unit] if unit in _UNITS:
                return self._unit(unit, back=which == "last")
            case ["this" | "last" as which, name] if name in _MONTHS or name in _SEASONS:
                return self._named(name, back=which == "last")
            case [count, unit, "ago"] if count.isdecimal() and unit.removesuffix("s") in _UNITS:
                return self._ago(int(count), unit.removesuffix("s"))
            case [name] if name in _MONTHS or name in _SEASONS:
                return self._named(name, back=False)
            case [name, year] if name in _MONTHS or name in _SEASONS:
                return self._of_year(name, self._year(year, 1))
            case [name, day, year] if name in _MONTHS:
                return self._day(day, 1, name, self._year(year, 2))
            case [day, name, year] if name in _MONTHS:
                return self._day(day, 0, name, self._year(year, 2))
        self._refuse()

    def _refuse(self) -> NoReturn:
        known = {
            *_MONTHS,
            *_SEASONS,
            *_UNITS,
            *(f"{unit}s" for unit in _UNITS),
            "this",
            "last",
            "ago",
            "today",
            "yesterday",
        }
        odd = next((n for n, word in enumerate(self._words) if word not in known and not word.isdecimal()), 0)
        raise FilterError(f"this is no date; {EXAMPLES}", self._text, self._starts[odd])

    def _year(self, word: str, at: int) -> int:
        if not re.fullmatch(r"\d{4}", word) or word == "0000":
            raise FilterError(f"{word} is no year; {EXAMPLES}", self._text, self._starts[at])
        return int(word)

    def _day(self, word: str, at: int, month: str, year: int) -> Period:
        found = re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th|\.)?", word)
        try:
            return _days(date(year, _MONTHS[month], int(found[1]) if found else 0))
        except ValueError:
            raise FilterError(f"{month} {year} has no day {word}; {EXAMPLES}", self._text, self._starts[at]) from None

    def _unit(self, unit: str, *, back: bool) -> Period:
        today = self._now.date()
        match unit:
            case "day":
                return _days(today - timedelta(days=back))
            case "week":
                return _days(today - timedelta(days=today.weekday() + 7 * back), 7)
            case "month":
                months = 12 * today.year + today.month - 1 - back
                return _months(months // 12, months % 12 + 1)
        return _years(today.year - back)

    def _ago(self, count: int, unit: str) -> Period:
        """Return the day that lies so many days or weeks back, or the month or year that lies so many back."""
        today = self._now.date()
        try:
            if unit in ("day", "week"):
                return _days(today - timedelta(days=count * (7 if unit == "week" else 1)))
            months = 12 * today.year + today.month - 1 - count * (12 if unit == "year" else 1)
            return _years(months // 12) if unit == "year" else _months(months // 12, months % 12 + 1)
        except (ValueError, OverflowError):
            raise FilterError("that lies before the first year", self._text, self._starts[0]) from None

    def _of_year(self, name: str, year: int) -> Period:
        return _months(year, _MONTHS[name]) if name in _MONTHS else _months(year, _SEASONS[name], 3)

    def _named(self, name: str, *, back: bool) -> Period:
        """Return the latest month or season of this name that has begun; with `back`, the latest that is over."""
        year = self._now.year + 1
        while True:
            period = self._of_year(name, year)
            if (period.end if back else period.first) <= _wall(self._now):
                return period
            year -= 1
