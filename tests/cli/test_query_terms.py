"""What a TERM of the command line means, and which queries make sense."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmsearch import Filter
from mmsearch.errors import QueryError
from mmsearch.search.query import Query, make_query, parse_file, parse_term
from mmsearch.types import Modality, Term


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with cat.jpg, notes (no extension), a.b/c.txt, and a folder that is named like a picture."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.jpg", "notes", "readme.cfg", "a.b/c.txt", "3:cat.jpg", "-cat.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "photos").mkdir()
    return tmp_path


def one_line(error: pytest.ExceptionInfo[QueryError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("raw", "text", "weight"),
    [
        ("red car", "red car", 1.0),
        ("2:beach", "beach", 2.0),
        ("0.5:a dog", "a dog", 0.5),
        ("10.25:x", "x", 10.25),
        ("2: beach", " beach", 2.0),
        ("2::x", ":x", 2.0),
        ("2:-x", "-x", 2.0),
        ("12:05", "12:05", 1.0),
        ("1:2:3", "1:2:3", 1.0),
        ("12:", "12:", 1.0),
        (".5:x", ".5:x", 1.0),
        ("1.:x", "1.:x", 1.0),
        ("-2:x", "-2:x", 1.0),
        ("1e3:x", "1e3:x", 1.0),
        (" 2:x", " 2:x", 1.0),
        ("Genesis 1:1", "Genesis 1:1", 1.0),
        ("-red", "-red", 1.0),
        ("--not", "--not", 1.0),
        ("-", "-", 1.0),
    ],
)
def test_a_weight_is_digits_and_a_colon_before_something_that_is_no_digit(raw: str, text: str, weight: float) -> None:
    assert parse_term(raw) == Term(text, weight)
    assert parse_term(raw, -1) == Term(text, -weight)


def test_an_existing_file_with_a_known_extension_is_a_file(here: Path) -> None:
    assert parse_term("cat.jpg") == Term(Path("cat.jpg"))
    assert parse_term("2:cat.jpg") == Term(Path("cat.jpg"), 2.0)
    assert parse_term("0.5:./cat.jpg") == Term(Path("cat.jpg"), 0.5)
    assert parse_term(str(here / "cat.jpg"), -1) == Term(here / "cat.jpg", -1.0)
    assert parse_term("-cat.jpg") == Term(Path("-cat.jpg"))


def test_an_existing_file_without_a_known_extension_is_a_file_only_with_a_separator(here: Path) -> None:
    assert parse_term("notes") == Term("notes")
    assert parse_term("./notes") == Term(Path("notes"))
    assert parse_term("readme.cfg") == Term("readme.cfg")
    assert parse_term("3:./readme.cfg") == Term(Path("readme.cfg"), 3.0)
    assert parse_term("a.b/c.txt") == Term(Path("a.b/c.txt"))


def test_a_file_whose_name_begins_like_a_weight_is_named_with_its_folder(here: Path) -> None:
    assert parse_term("3:cat.jpg") == Term(Path("cat.jpg"), 3.0)
    assert parse_term("./3:cat.jpg") == Term(Path("3:cat.jpg"))


def test_a_home_folder_is_followed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert parse_term("~/notes") == Term(here / "notes")
    assert parse_file("~/cat.jpg") == Term(here / "cat.jpg")
    assert parse_term("~nobody here") == Term("~nobody here")
    assert parse_term("~") == Term("~")


@pytest.mark.parametrize("raw", ["dog.jpg", "2:dog.jpg", "photos/dog.PNG", "my dog.mp4", "folder.jpg", "no/such/a.wav"])
def test_a_known_extension_without_such_a_file_is_an_error_that_names_it(here: Path, raw: str) -> None:
    with pytest.raises(QueryError, match="there is no such file") as caught:
        parse_term(raw)
    assert raw.removeprefix("2:") in one_line(caught)
    assert "--text" in one_line(caught)


@pytest.mark.parametrize(
    "raw",
    [
        "and/or",
        "photos",
        "photos/",
        "./photos",
        ".",
        "..",
        "/",
        "e.g. a dog",
        "version 3.14",
        "file.unknown",
        "a photo of a cat.",
        "no/such/file",
        "cat.jpg is my favourite",
        ".jpg files",
        "http://x.org/",
        "https://x.org/index.html",
    ],
)
def test_anything_else_is_text_also_with_dots_slashes_or_the_name_of_a_folder(here: Path, raw: str) -> None:
    assert parse_term(raw) == Term(raw)


def test_a_pipe_is_no_file_and_isnt_waited_for(here: Path) -> None:
    os.mkfifo(here / "pipe.jpg")
    os.mkfifo(here / "pipe")
    with pytest.raises(QueryError, match="there is no such file"):
        parse_term("pipe.jpg")
    assert parse_term("./pipe") == Term("./pipe")


@pytest.mark.parametrize(
    "raw", ["word " * 20_000, "x" * 100_000, "a/" * 5_000, "nul\0byte", "a/\0/b", "caf\udce9", "\n"]
)
def test_a_text_that_could_be_no_file_name_is_a_text(here: Path, raw: str) -> None:
    assert parse_term(raw) == Term(raw)


def test_a_name_that_is_no_utf_8_is_a_file(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (here / name).write_text("x")
    assert parse_term(name) == Term(Path(name))


@pytest.mark.parametrize("raw", ["0:x", "0.0:beach", "00:cat.jpg"])
def test_a_weight_of_nothing_is_an_error(here: Path, raw: str) -> None:
    with pytest.raises(QueryError, match="a weight of 0 asks for nothing") as caught:
        parse_term(raw)
    assert raw in one_line(caught)


def test_a_weight_beyond_all_numbers_is_an_error() -> None:
    with pytest.raises(QueryError, match="weight"):
        make_query(parse_term("9" * 400 + ":x"))


def test_like_is_always_a_file(here: Path) -> None:
    assert parse_file("notes") == Term(Path("notes"))
    assert parse_file("3:cat.jpg") == Term(Path("3:cat.jpg"))
    for raw in ("dog.jpg", "red car", "photos", ""):
        with pytest.raises(QueryError, match="there is no such file") as caught:
            parse_file(raw)
        assert raw in one_line(caught)


@pytest.mark.parametrize("raw", ["nul\0byte.jpg", "x" * 5_000 + ".jpg"])
def test_like_of_what_could_be_no_file_name_is_an_error(here: Path, raw: str) -> None:
    with pytest.raises(QueryError, match="there is no such file"):
        parse_file(raw)
    with pytest.raises(QueryError, match="there is no such file"):
        parse_term(raw)


# Queries


def test_in_python_a_str_is_a_text_and_a_path_a_file_whatever_they_look_like(here: Path) -> None:
    assert make_query("cat.jpg").terms == (Term("cat.jpg"),)
    assert make_query("2:beach").terms == (Term("2:beach"),)
    assert make_query(Path("no such file")).terms == (Term(Path("no such file")),)
    assert make_query(Term("x", 0.5)).terms == (Term("x", 0.5),)


def test_several_items_are_one_query_in_their_order() -> None:
    items: Sequence[str | Path | Term] = ["a", Path("b.jpg"), Term("c", -2.0)]
    assert make_query(items).terms == (Term("a"), Term(Path("b.jpg")), Term("c", -2.0))
    assert make_query(tuple(items)) == make_query(items)


def test_a_query_asks_for_ten_hits_of_any_modality_uncut_unless_told() -> None:
    assert make_query("x") == Query((Term("x"),), 10, None, None, False)
    both = Filter(kind={Modality.IMAGE, Modality.VIDEO})
    assert make_query("x", 3, {"image", Modality.VIDEO}, True, True) == Query((Term("x"),), 3, both, True, True)
    assert make_query("x", modalities=[]).filter is None
    assert make_query("x", modalities="video", filter=Filter(under="a")).filter == Filter(under="a") & Filter(
        kind="video"
    )


@pytest.mark.parametrize("k", [0, -1, -100])
def test_at_least_one_hit_has_to_be_asked_for(k: int) -> None:
    with pytest.raises(QueryError, match=f"k is {k}"):
        make_query("x", k)


@pytest.mark.parametrize("items", [[], (), [Term("x", -1.0)], [Term("x", 0.0)], [Term("x", -1), Term(Path("y"), -2)]])
def test_at_least_one_term_has_to_be_looked_for(items: Sequence[Term]) -> None:
    with pytest.raises(QueryError, match="at least one term to look for"):
        make_query(items)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_has_to_be_a_number_that_can_be_reckoned_with(weight: float) -> None:
    with pytest.raises(QueryError, match="weight"):
        make_query([Term("x"), Term("y", weight)])


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_an_empty_text_is_an_error_in_any_place(text: str) -> None:
    for items in ([text], ["x", text], [Term("x"), Term(text, -1.0)]):
        with pytest.raises(QueryError, match="an empty text"):
            make_query(items)


@pytest.mark.parametrize("modalities", [{"photo"}, ["image", "Image"], "photo", {""}])
def test_an_unknown_modality_is_an_error_that_names_the_known_ones(modalities: Sequence[str]) -> None:
    with pytest.raises(QueryError, match="audio, image, text, video") as caught:
        make_query("x", modalities=modalities)
    assert "\n" not in str(caught.value)


def test_a_query_that_makes_no_sense_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        Query((Term("x"),), k=0)
