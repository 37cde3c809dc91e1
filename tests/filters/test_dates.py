"""Dates as people write them stand for the period that they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mmsearch.errors import FilterError
from mmsearch.filters.dates import read_period, read_range

NOW = datetime(2026, 11, 28, 15, 30)  # a Saturday


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("2019", "2019-01-01", "2020-01-01"),
        (" 2019 ", "2019-01-01", "2020-01-01"),
        ("2019-06", "2019-06-01", "2019-07-01"),
        ("2019/12", "2019-12-01", "2020-01-01"),
        ("2020-02-29", "2020-02-29", "2020-03-01"),
        ("1.5.2019", None, None),
        ("2019-06-01T12:30", "2019-06-01T12:30", "2019-06-01T12:31"),
        ("2019-06-01 12:30:15", "2019-06-01T12:30:15", "2019-06-01T12:30:16"),
        ("9999", "9999-01-01", "9999-12-31T23:59:59"),
        ("March 2020", "2020-03-01", "2020-04-01"),
        ("mar 2020", "2020-03-01", "2020-04-01"),
        ("December 2020", "2020-12-01", "2021-01-01"),
        ("3 March 2020", "2020-03-03", "2020-03-04"),
        ("March 3rd, 2020", "2020-03-03", "2020-03-04"),
        ("summer 2019", "2019-06-01", "2019-09-01"),
        ("winter 2019", "2019-12-01", "2020-03-01"),
        ("last summer", "2026-06-01", "2026-09-01"),
        ("last autumn", "2025-09-01", "2025-12-01"),  # this one isn't over yet
        ("this autumn", "2026-09-01", "2026-12-01"),
        ("last winter", "2025-12-01", "2026-03-01"),
        ("last march", "2026-03-01", "2026-04-01"),
        ("December", "2025-12-01", "2026-01-01"),
        ("November", "2026-11-01", "2026-12-01"),
        ("last november", "2025-11-01", "2025-12-01"),
        ("today", "2026-11-28", "2026-11-29"),
        ("Yesterday", "2026-11-27", "2026-11-28"),
        ("this week", "2026-11-23", "2026-11-30"),
        ("last week", "2026-11-16", "2026-11-23"),
        ("last month", "2026-10-01", "2026-11-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("3 days ago", "2026-11-25", "2026-11-26"),
        ("1 week ago", "2026-11-21", "2026-11-22"),
        ("11 months ago", "2025-12-01", "2026-01-01"),
        ("2 years ago", "2024-01-01", "2025-01-01"),
    ],
)
def test_a_date_stands_for_a_period(text: str, first: str | None, end: str | None) -> None:
    if first is None or end is None:
        with pytest.raises(FilterError):
            read_period(text, NOW)
    else:
        assert read_period(text, NOW) == (datetime.fromisoformat(first), datetime.fromisoformat(end))


def test_a_time_with_an_offset_is_that_very_moment() -> None:
    first, end = read_period("2019-06-01T12:30:00+02:00", NOW)
    assert first == datetime(2019, 6, 1, 10, 30, tzinfo=UTC)
    assert first.utcoffset() == timedelta(hours=2)
    assert end - first == timedelta(seconds=1)
    assert read_period("2019-06-01T12:30Z", NOW).first == datetime(2019, 6, 1, 12, 30, tzinfo=UTC)
    west = timezone(-timedelta(hours=3, minutes=30))
    assert read_period("2019-06-01T12:30-0330", NOW).first == datetime(2019, 6, 1, 12, 30, tzinfo=west)


def test_a_range_goes_from_the_first_moment_of_one_date_to_the_last_of_another() -> None:
    assert read_range("2019-06..2019-08", NOW) == (datetime(2019, 6, 1), datetime(2019, 9, 1))
    assert read_range("2019..", NOW) == (datetime(2019, 1, 1), None)
    assert read_range("..last summer", NOW) == (None, datetime(2026, 9, 1))
    assert read_range("2019", NOW) == (datetime(2019, 1, 1), datetime(2020, 1, 1))


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "a date is missing"),
        ("2019-13", 5, "a year has 12 months"),
        (" 2019-00", 6, "a year has 12 months"),
        ("0000", 0, "years go from 0001"),
        ("2019-02-30", 8, "2019-02 has no day 30"),
        ("2019-06-01T25:00", 11, "hours end at 23"),
        ("2019-06-01T12:60", 14, "minutes end at 59"),
        ("31 June 2019", 0, "june 2019 has no day 31"),
        ("March 20", 6, "20 is no year"),
        ("last weekend", 5, "this is no date"),
        ("sommer 2019", 0, "this is no date"),
        ("5000 years ago", 0, "before the first year"),
        ("99999999999 days ago", 0, "before the first year"),
    ],
)
def test_what_is_no_date_is_refused_where_it_goes_wrong(text: str, position: int, reason: str) -> None:
    with pytest.raises(FilterError, match=reason) as caught:
        read_period(text, NOW)
    assert (caught.value.text, caught.value.position) == (text, position)


@pytest.mark.parametrize(("text", "position"), [("2019..2018", 6), ("..", 0), ("2019..foo", 6), ("foo..2019", 0)])
def test_a_range_is_refused_where_it_goes_wrong(text: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        read_range(text, NOW)
    assert caught.value.position == position
