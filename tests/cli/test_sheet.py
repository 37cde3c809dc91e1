"""The contact sheet of a query: one file with pictures and players, in which nothing of a stranger's runs."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import pytest
from conftest import Run
from PIL import Image

from mmsearch.cli.sheet import write_sheet
from mmsearch.types import Answer, Hit, Modality, View


@pytest.fixture(scope="module")
def library(samples: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries") / "library"
    media = [
        samples / name for name in ("photos/tiger.jpg", "clips/animals.mp4", "sounds/dog.ogg", "notes/moka_pot.md")
    ]
    done = run("index", *media, "--model", "hashing", library=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def sheet(library: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("sheets") / "sheet.html"
    done = run("query", "coffee <b>", "--all", "--html", file, library=library)
    assert done.returncode == 0
    assert done.stderr == f"the contact sheet is in {file}\n"
    assert len(done.stdout.splitlines()) == 4
    return file.read_text("utf-8")


def test_a_sheet_shows_each_hit_with_its_picture_player_or_words(sheet: str, samples: Path) -> None:
    assert sheet.count("<figure") == 4
    for tag in ("<img ", "<video ", "<audio ", "<blockquote>"):
        assert sheet.count(tag) == 1, tag
    (picture,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', sheet)
    assert Image.open(io.BytesIO(base64.b64decode(picture))).height == 360
    assert "moka" in re.findall(r"<blockquote>(.*?)</blockquote>", sheet)[0].lower()


@pytest.mark.parametrize(("tag", "name"), [("video", "clips/animals.mp4"), ("audio", "sounds/dog.ogg")])
def test_a_player_starts_at_the_moment_and_has_the_clip_where_the_file_is_away(
    sheet: str, samples: Path, tag: str, name: str
) -> None:
    (player,) = re.findall(rf"<{tag} .*?</{tag}>", sheet)
    file, clip = re.findall(r'<source src="([^"]+)"', player)
    assert re.fullmatch(re.escape((samples / name).as_uri()) + r"#t=\d+\.\d\d,\d+\.\d\d", file)
    assert re.match(rf"data:{tag}/\w+;base64,", clip)


def test_a_sheet_loads_nothing_and_runs_nothing(sheet: str) -> None:
    assert "default-src 'none'" in sheet
    assert not re.search(r"https?:|<script|<link|@import|url\(", sheet)
    assert "<h1>coffee &lt;b&gt;</h1>" in sheet


def test_names_and_words_of_strangers_are_text_and_a_file_that_is_gone_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / '"><img src=x onerror=alert(1)>.mp4'
    hits = [
        Hit(rank, 1.0, 0.756, path, modality, View.TEXT, start_s, end_s, "</figure><script>x</script>\x1b[2J", "mini")
        for rank, (modality, start_s, end_s) in enumerate(
            [(Modality.VIDEO, 5.0, float("inf")), (Modality.IMAGE, None, None), (Modality.TEXT, None, None)], 1
        )
    ]
    write_sheet(Answer(hits, hidden=2, weak=1), "<i>", tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text("utf-8")
    assert "<script" not in page
    assert "<i>" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert page.count("75 % sure") == 3
    assert "2 copies and 1 weak matches hidden" in page


def test_open_shows_the_sheet_in_the_users_browser(library: Path, run: Run, tmp_path: Path) -> None:
    browser = tmp_path / "browser.py"
    browser.write_text("import pathlib, sys\npathlib.Path(__file__).with_name('opened').write_text(sys.argv[1])\n")
    done = run("query", "tiger", "--open", "--all", library=library, BROWSER=f"{sys.executable} {browser} %s")
    assert done.returncode == 0, done.stderr
    place = (tmp_path / "opened").read_text()
    assert place.startswith("file://")
    sheet = Path(place.removeprefix("file://"))
    assert "<figure" in sheet.read_text("utf-8")
    sheet.unlink()
    sheet.parent.rmdir()


def test_a_sheet_that_cannot_be_written_is_one_line(library: Path, run: Run, tmp_path: Path) -> None:
    done = run("query", "tiger", "--html", tmp_path / "no" / "sheet.html", library=library)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "sheet.html" in done.stderr
