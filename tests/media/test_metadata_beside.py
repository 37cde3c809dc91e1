"""Words and facts that stand beside a file or in its name: takeouts, NFO files, dates; and XML made to harm."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.described_media import BOMB, FULL, SAID, items
from support.media_maker import put

from mmsearch import FileFacts
from mmsearch.errors import MediaError
from mmsearch.media.captions import read_captions
from mmsearch.media.markup import parse
from mmsearch.media.name_dates import date_of_name
from mmsearch.records import DatedBy, Origin

TAKEOUT = {
    "title": "IMG_0001.jpg",
    "description": SAID,
    "photoTakenTime": {"timestamp": "1559385015"},
    "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
    "geoDataExif": {"latitude": 50.0875, "longitude": 14.4213},
    "people": [{"name": "Anna Nováková"}, {"name": ""}, {}],
}


def test_a_takeout_gives_description_date_place_and_people() -> None:
    found = read_captions(b"a.jpg.json", json.dumps(TAKEOUT).encode())
    assert (found.captions, found.people) == ((SAID,), ("Anna Nováková",))
    assert found.facts == FileFacts(
        datetime(2019, 6, 1, 10, 30, 15, tzinfo=UTC), 50.0875, 14.4213, people=("Anna Nováková",)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"photoTakenTime": {"timestamp": "9" * 400}},
        {"photoTakenTime": {"timestamp": "x"}},
        {"photoTakenTime": []},
        {"photoTakenTime": {"timestamp": "0"}},
        {"geoDataExif": {"latitude": "x", "longitude": 1}},
        {"geoDataExif": {"latitude": 91, "longitude": 1}},
        {"geoDataExif": None, "people": "Anna", "description": {"x": 1}},
    ],
)
def test_a_takeout_that_says_nonsense_is_read_as_far_as_it_makes_sense(change: dict[str, object]) -> None:
    read_captions(b"a.jpg.json", json.dumps(TAKEOUT | change).encode())


def test_tags_of_other_tools_are_keywords() -> None:
    found = read_captions(
        b"clip.info.json", json.dumps({"title": "A goose walks", "tags": ["goose", "farm", 7]}).encode()
    )
    assert (found.captions, found.keywords) == (("A goose walks",), ("goose", "farm"))


NFO = b"""\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>
<movie><title>The Goose</title><plot>A goose walks into a kitchen.</plot><genre>Drama</genre><tag>farm</tag>
<userrating>8</userrating><actor><name>Anna Nov\xc3\xa1kov\xc3\xa1</name></actor></movie>
https://www.example.org/title/tt0000001/
"""


def test_the_nfo_of_a_film_gives_title_plot_genre_and_actors() -> None:
    found = read_captions(b"film.nfo", NFO)
    assert found.captions == ("The Goose", "A goose walks into a kitchen.")
    assert (found.keywords, found.people, found.fields["rating"]) == (("Drama", "farm"), ("Anna Nováková",), 4)


@pytest.mark.parametrize("raw", [b"https://example.org/tt1/", b"\xdc\xdb\xb2 RELEASE \xb2\xdb", b"", b"<other/>"])
def test_any_other_nfo_says_nothing(raw: bytes) -> None:
    assert read_captions(b"film.nfo", raw).captions == ()


@pytest.mark.parametrize(
    "raw",
    [
        BOMB.encode(),
        BOMB.encode("utf-16"),
        b'<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd"><movie/>',
        b"<movie>" * 100_000,
        b"<movie>",
        b"<movie>\x80\x81</movie" * 3,
        b"\0" * 100,
        b"",
        b"<x " + b"a='1' " * 1000 + b"/>",
    ],
    ids=range(9),
)
def test_hostile_xml_is_refused_in_one_line(raw: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


def test_what_stands_beside_and_in_a_photo_and_in_its_name_is_put_together(tmp_path: Path) -> None:
    for name in ("lightroom.jpg", "darktable.jpg", "IMG_0002.jpg", "IMG_20190601_123015.jpg"):
        exif = Image.Exif()
        exif[0x0132] = "2015:01:01 00:00:00"
        exif[0x4746] = 2
        options: dict[str, Any] = {"exif": exif} if name == "darktable.jpg" else {}
        Image.new("RGB", (64, 48), (len(name) * 9 % 256, 90, 30)).save(tmp_path / name, **options)
    put(tmp_path, "lightroom.xmp", FULL)
    put(tmp_path, "darktable.jpg.xmp", FULL)
    put(tmp_path, "IMG_0002.jpg.supplemental-metadata.json", json.dumps(TAKEOUT))
    found = items(tmp_path)
    tags = (Origin.TAGS, "goose, Grandmother, Jan Novák, Anna Nováková, Eva, Praha, Česko")
    assert found["lightroom.jpg"][0] == [(Origin.CAPTION, SAID), tags]
    assert found["lightroom.jpg"][1].dated_by is DatedBy.SIDECAR
    dark = found["darktable.jpg"][1]
    assert (dark.taken_at, dark.dated_by, dark.rating) == (datetime(2015, 1, 1), DatedBy.FILE, 4)
    assert (dark.lens, dark.latitude) == ("EF24-70mm f/2.8L", 50.0875)
    taken = found["IMG_0002.jpg"]
    assert taken[0] == [(Origin.CAPTION, SAID), (Origin.TAGS, "Anna Nováková")]
    assert (taken[1].people, taken[1].dated_by, taken[1].width) == (("Anna Nováková",), DatedBy.SIDECAR, 64)
    named = found["IMG_20190601_123015.jpg"]
    assert named[0] == []
    assert (named[1].taken_at, named[1].dated_by) == (datetime(2019, 6, 1, 12, 30, 15), DatedBy.NAME)


@pytest.mark.parametrize(
    ("name", "taken_at"),
    [
        ("IMG_20190601_123015.jpg", datetime(2019, 6, 1, 12, 30, 15)),
        ("PXL_20240101_120000000.PORTRAIT.jpg", datetime(2024, 1, 1, 12, tzinfo=UTC)),
        ("VID_20190601_123015(1).mp4", datetime(2019, 6, 1, 12, 30, 15)),
        ("2019-06-01 12.30.15.jpg", datetime(2019, 6, 1, 12, 30, 15)),
        ("Screenshot_2019-06-01-12-30-15.png", datetime(2019, 6, 1, 12, 30, 15)),
        ("Screen Shot 2019-06-01 at 1.30.15\u202fPM.png", datetime(2019, 6, 1, 13, 30, 15)),
        ("WhatsApp Image 2019-06-01 at 12.30.15.jpeg", datetime(2019, 6, 1, 12, 30, 15)),
        ("signal-2019-06-01-123015.jpg", datetime(2019, 6, 1, 12, 30, 15)),
        ("20190601123015.jpg", datetime(2019, 6, 1, 12, 30, 15)),
        ("IMG-20190601-WA0001.jpg", datetime(2019, 6, 1)),
        ("2019-06-01 Prague.jpg", datetime(2019, 6, 1)),
        ("FB_IMG_1559385015123.jpg", datetime(2019, 6, 1, 10, 30, 15, tzinfo=UTC)),
        ("IMG_1016.JPG", None),
        ("IMG_20191341_1.jpg", None),
        ("20190230.jpg", None),
        ("12345678901234567890.jpg", None),
        ("DSC01234567.jpg", None),
        ("2019.jpg", None),
        ("\udcff\udcfe.jpg", None),
    ],
)
def test_dates_in_names_are_read_where_they_are_dates(name: str, taken_at: datetime | None) -> None:
    assert date_of_name(os.fsencode(f"/2001-01-01/{name}")) == ({"taken_at": taken_at} if taken_at else {})
