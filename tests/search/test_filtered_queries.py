"""Queries with filters over a small library in the space `hashing`: what they find, list, and leave out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

import mmsearch
from mmsearch import Filter, Hit, Library, Query, QueryError, Settings, Term
from mmsearch.search import retrieve

PHOTOS = {
    "Holidays/2019/red.jpg": ((220, 20, 20), "2019:07:01 10:00:00", "Pixel 6", (50.08, 14.42)),
    "Holidays/2020/red2.jpg": ((210, 30, 20), "2020:07:01 10:00:00", "EOS 5D", (48.2, 16.37)),
    "Work/blue.jpg": ((20, 40, 220), "2021:03:05 09:00:00", "Pixel 6", None),
    "Work/red.png": ((220, 20, 20), None, None, None),
}
OLD = datetime(2010, 1, 2, 3, 4, 5)


def photo(
    file: Path, colour: tuple[int, int, int], taken: str | None, camera: str | None, place: tuple[float, float] | None
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if camera:
        exif[0x0110] = camera
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    if place:
        exif.get_ifd(0x8825).update({1: "N", 2: (place[0], 0, 0), 3: "E", 4: (place[1], 0, 0)})
    Image.new("RGB", (64, 48), colour).save(file, exif=exif)
    os.utime(file, (OLD.timestamp(), OLD.timestamp()))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filtered") / "media"
    for name, about in PHOTOS.items():
        photo(folder / name, *about)
    note = folder / "Work" / "note.txt"
    note.write_text("a red car stands in the yard; no parking here", "utf-8")
    os.utime(note, (OLD.timestamp() + 60, OLD.timestamp() + 60))
    return folder


@pytest.fixture(scope="module")
def library(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with mmsearch.open(tmp_path_factory.mktemp("library"), model="hashing", settings=Settings(workers=1)) as opened:
        assert opened.index(media).added == 5
        yield opened


def names(hits: list[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("camera:pixel", {"red.jpg", "blue.jpg"}),
        ("-camera:pixel", {"red2.jpg", "red.png", "note.txt"}),
        ("under:holidays", {"red.jpg", "red2.jpg"}),
        ("after:2020 before:2021", {"red2.jpg"}),
        ("before:2011", {"red.png", "note.txt"}),
        ("near:Prague or has:place camera:eos", {"red2.jpg"}),
        ("near:Prague or (has:place camera:eos)", {"red.jpg", "red2.jpg"}),
        ("kind:note", {"note.txt"}),
        ("name:*.png", {"red.png"}),
        ('"no parking"', {"note.txt"}),
        ("kind:video", set()),
    ],
)
def test_only_what_the_filter_holds_for_answers(library: Library, text: str, found: set[str]) -> None:
    hits = library.query("red", k=20, filter=Filter.parse(text))
    assert set(names(hits)) == found
    everything = library.query("red", k=20)
    assert [hit.path for hit in everything if hit.path.name in found] == [hit.path for hit in hits]
    assert {hit.path: hit.score for hit in hits}.items() <= {hit.path: hit.score for hit in everything}.items()
    assert set(names(library.query(filter=Filter.parse(text)))) == found


def test_modalities_and_a_filter_both_have_to_hold(library: Library) -> None:
    hits = library.query("red", modalities={"image"}, filter=Filter(under="Work"))
    assert set(names(hits)) == {"blue.jpg", "red.png"}
    assert names(library.query("red", modalities="text", filter=Filter(under="Holidays"))) == []
    assert names(library.query(modalities="text")) == ["note.txt"]


def test_a_filter_alone_lists_the_newest_first(library: Library) -> None:
    hits = library.query(filter=Filter())
    assert names(hits) == ["blue.jpg", "red2.jpg", "red.jpg", "note.txt", "red.png"]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    dates = [datetime(1970, 1, 1) + timedelta(seconds=hit.score) for hit in hits]
    assert dates[0] == datetime(2021, 3, 5, 9)
    assert dates[-1] == OLD
    assert {(hit.confidence, hit.space, hit.why) for hit in hits} == {(None, "", None)}
    assert [(hit.modality, hit.view, hit.start_s) for hit in hits[2:4]] == [
        ("image", "visual", None),
        ("text", "text", None),
    ]
    assert hits[3].text == "a red car stands in the yard; no parking here"
    assert names(library.query(k=2, filter=Filter())) == names(hits)[:2]
    answer = library.answer(Query((), 10, Filter(), cut=True, explain=True))
    assert (names(answer.hits), answer.hidden, answer.weak) == (names(hits), 0, 0)


def test_a_query_of_nothing_at_all_is_refused(library: Library) -> None:
    empty: list[str] = []
    for terms in (empty, ""):
        with pytest.raises(QueryError):
            library.query(terms)
    with pytest.raises(QueryError, match="at least one term"):
        library.query([Term("red", -1.0)], filter=Filter(kind="image"))


def test_the_file_that_asks_answers_only_where_the_filter_holds_for_it(library: Library, media: Path) -> None:
    red = media / "Holidays" / "2019" / "red.jpg"
    assert library.query(red, filter=Filter(camera="pixel"))[0].path == red
    assert red not in [hit.path for hit in library.query(red, filter=Filter(camera="eos"))]


def test_many_queries_share_a_filter_or_bring_their_own(library: Library) -> None:
    own = Query((Term("red"),), filter=Filter(under="Work"))
    shared, kept = library.query_many(["red", own], filter=Filter(under="Holidays"))
    assert set(names(shared.hits)) == {"red.jpg", "red2.jpg"}
    assert set(names(kept.hits)) == {"blue.jpg", "red.png", "note.txt"}


def test_a_hit_is_shown_by_the_path_that_the_filter_holds_for(media: Path, tmp_path: Path) -> None:
    copies = tmp_path / "media"
    for folder in ("A", "Holidays"):
        (copies / folder).mkdir(parents=True)
        shutil.copy2(media / "Work" / "red.png", copies / folder / f"{folder}.png")
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as opened:
        opened.index(copies)
        assert names(opened.query("red")) == ["A.png"]
        assert names(opened.query("red", filter=Filter(under="holidays"))) == ["Holidays.png"]
        assert names(opened.query(filter=Filter(name="h*"))) == ["Holidays.png"]


def test_filters_follow_deletions_moves_and_new_files(media: Path, tmp_path: Path) -> None:
    copied = tmp_path / "media"
    shutil.copytree(media, copied)
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as opened:
        opened.index(copied)
        holidays = Filter(under="Holidays")
        assert set(names(opened.query("red", filter=holidays))) == {"red.jpg", "red2.jpg"}
        (copied / "Holidays" / "2019" / "red.jpg").unlink()
        (copied / "Work" / "blue.jpg").rename(copied / "Holidays" / "blue.jpg")
        photo(copied / "Holidays" / "new.jpg", (200, 0, 0), "2022:01:01 00:00:00", "Pixel 7", None)
        assert opened.index(copied).added == 1
        for _ in range(2):
            assert set(names(opened.query("red", filter=holidays))) == {"red2.jpg", "blue.jpg", "new.jpg"}
            assert names(opened.query(filter=holidays & Filter(camera="pixel"))) == ["new.jpg", "blue.jpg"]


def test_bitmaps_are_kept_for_few_filters_and_stay_right(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "BITMAPS", 2)
    chosen = [Filter(camera="pixel"), Filter(camera="eos"), Filter(under="Work"), Filter(kind="text")]
    seen = library.seen()
    engine = seen.engine.over(seen.catalog)
    for _ in range(2):
        for one in chosen:
            hits = engine.answer(Query((Term("red"),), filter=one)).hits
            assert names(hits) == names(library.query("red", filter=one))
    assert list(engine._retriever._bitmaps) == chosen[-2:]
