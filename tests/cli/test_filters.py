"""Filters on the command line: as options, among the terms, and alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from PIL import Image

from mmsearch import Filter, FilterError, Term
from mmsearch.search.query import parse_terms


@pytest.fixture(scope="module")
def library(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filtered")
    for n, (name, taken, camera) in enumerate(
        (
            ("My Holidays/one.jpg", "2019:07:01 10:00:00", "Pixel 6"),
            ("My Holidays/two.jpg", "2020:07:01 10:00:00", "EOS 5D"),
            ("Work/three.png", "2021:07:01 10:00:00", "Pixel 6"),
        )
    ):
        file = folder / "media" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0110] = camera
        exif.get_ifd(0x8769)[0x9003] = taken
        Image.new("RGB", (64, 48), (200, 20 * n, 20)).save(file, exif=exif)
    done = run("index", folder / "media", "--model", "hashing", library=folder / "library")
    assert done.returncode == 0, done.stderr
    return folder / "library"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["red", "--under", "My Holidays", "--camera", "pixel"], ["one"]),
        (["red", "under:my holidays", "-camera:pixel"], ["two"]),
        (["red -camera:pixel after:2019-06", "--before", "2021", "--in", "image"], ["two"]),
        (["--after", "2020", "--name", "T*"], ["three", "two"]),
        (["(camera:eos or name:*.png)"], ["three", "two"]),
        (["red", "--not", "under:Work", "--not", "camera:eos"], ["one"]),
    ],
)
def test_filters_are_options_and_terms(run: Run, library: Path, arguments: list[str], found: list[str]) -> None:
    done = run("query", "--json", "--all", *arguments, library=library)
    assert (done.returncode, done.stderr) == (0, "")
    hits: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(hit["path"]).stem for hit in hits] == found
    assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))


def test_a_list_shows_dates_and_ends_with_1_where_there_is_nothing(run: Run, library: Path) -> None:
    done = run("query", "camera:pixel", library=library)
    assert [line.split("\t")[:3] for line in done.stdout.splitlines()] == [
        ["1", "2021-07-01", "visual"],
        ["2", "2019-07-01", "visual"],
    ]
    nothing = run("query", "kind:video", library=library)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (1, "", "mmsearch: nothing found\n")


def test_a_wrong_filter_is_one_line_that_points_at_the_character(run: Run, library: Path) -> None:
    for arguments, said in (
        (["red", "after:2019-13"], 'character 12 of "after:2019-13": a year has 12 months'),
        (["red", "--after", "2019-13"], 'character 6 of "2019-13": a year has 12 months'),
        (["red", "--within", "5"], "give near or place"),
    ):
        done = run("query", *arguments, library=library)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_an_existing_file_is_a_file_whatever_else_it_could_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    shutil.copy(tmp_path / "x.png", tmp_path / "name:x.png")
    assert parse_terms(["name:x.png"]) == ([Term(Path("name:x.png"))], None)
    assert parse_terms(["name:y.png"]) == ([], Filter(name="y.png"))
    assert parse_terms(["2:x.png", "kind:video"]) == ([Term(Path("x.png"), 2.0)], Filter(kind="video"))


def test_texts_stay_as_they_are_and_keep_their_weights() -> None:
    assert parse_terms(["2:beach", "0.5:cat or dog (x)"]) == ([Term("beach", 2.0), Term("cat or dog (x)", 0.5)], None)
    assert parse_terms(["2:beach", "camera:x"]) == ([Term("beach", 2.0)], Filter(camera="x"))
    assert parse_terms(["time: 10:30", "http://x.org/a"]) == ([Term("time: 10:30"), Term("http://x.org/a")], None)
    assert parse_terms(['"no parking"']) == ([Term("no parking")], Filter(says="no parking"))
    assert parse_terms(['red "no parking"']) == ([Term("red"), Term("no parking")], Filter(says="no parking"))
    with pytest.raises(FilterError):
        parse_terms(["beach", "or", "kind:video"])


def test_a_text_without_filters_never_loads_their_grammar() -> None:
    code = (
        "import sys; from mmsearch.search.query import parse_terms; from mmsearch.cli import app; "
        "parse_terms(['red car', 'cat or dog']); print([m for m in sys.modules if m.startswith('mmsearch.filters')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
