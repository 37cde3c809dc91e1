"""Facts: what pictures, clips and sounds say of themselves, what of it can't be true; old libraries get them later."""

from __future__ import annotations

import io
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from support.clip_maker import Pictures, Tones, clip
from support.media_maker import RED, encoded, heic, noise, put, quarters
from support.old_catalogs import downgrade

import mmsearch
from mmsearch import FileFacts, Settings
from mmsearch.catalog.checking import find_faults
from mmsearch.media import facts_of, find_sidecars
from mmsearch.media.metadata import camera, container_facts, duration, exif_facts
from mmsearch.records import DatedBy
from mmsearch.settings import Limits

SUMMER = timezone(timedelta(hours=2))


def exif(
    fields: Mapping[int, object],
    details: Mapping[int, object] | None = None,
    place: Mapping[int, object] | None = None,
) -> Image.Exif:
    data = Image.Exif()
    data.update(fields)
    for number, values in ((0x8769, details), (0x8825, place)):
        if values:
            data.get_ifd(number).update(values)
    return data


PLACE: Mapping[int, object] = {1: "N", 2: (50.0, 5.0, 15.0), 3: "E", 4: (14.0, 25.0, 16.68)}
PHOTO = exif(
    {0x010F: "Canon", 0x0110: "Canon EOS 5D", 0x0112: 6, 0x0132: "2020:01:01 00:00:00"},
    {0x9003: "2019:06:01 12:30:15", 0x9011: "+02:00"},
    PLACE,
)
TAKEN = datetime(2019, 6, 1, 12, 30, 15, tzinfo=SUMMER)


def facts(path: Path) -> FileFacts | None:
    return facts_of(os.fsencode(path), find_sidecars(os.fsencode(path)), Limits()).facts


def test_a_photo_says_when_and_where_it_was_taken_and_with_what(tmp_path: Path) -> None:
    file = put(tmp_path, "photo.jpg", encoded(quarters(64, 48), "JPEG", exif=PHOTO))
    assert facts(file) == FileFacts(TAKEN, 50.0875, 14.4213, "Canon EOS 5D", 48, 64, dated_by=DatedBy.FILE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_the_size_is_that_of_the_upright_picture(tmp_path: Path, kind: str, turn: int) -> None:
    file = put(tmp_path, "photo", encoded(quarters(64, 48), kind, exif=exif({0x0112: turn})))
    found = facts(file)
    assert found is not None
    assert (found.width, found.height) == ((48, 64) if turn in (6, 8) else (64, 48))


def test_a_heic_picture_has_a_size(tmp_path: Path) -> None:
    with Image.open(io.BytesIO(encoded(noise(1), "PNG"))):
        found = facts(put(tmp_path, "photo.heic", heic()))
    assert found is not None
    assert found.width
    assert found.height


@pytest.mark.parametrize(
    ("fields", "details", "taken_at"),
    [
        ({0x0132: "2019:06:01 12:30:15"}, {}, datetime(2019, 6, 1, 12, 30, 15)),
        ({}, {0x9004: "2019-06-01 12:30"}, datetime(2019, 6, 1, 12, 30)),
        ({}, {0x9003: "2019:06:01 12:30:15", 0x9011: "nonsense"}, datetime(2019, 6, 1, 12, 30, 15)),
        ({}, {0x9003: "2019:06:01 12:30:15", 0x9011: "+99:00"}, datetime(2019, 6, 1, 12, 30, 15)),
        ({0x0132: "2020:01:01 00:00:00"}, {0x9003: "0000:00:00 00:00:00"}, datetime(2020, 1, 1)),
        ({}, {0x9003: "2019:13:41 12:30:15"}, None),
        ({}, {0x9003: "9999:06:01 12:30:15"}, None),
        ({}, {0x9003: "    :  :     :  :  "}, None),
        ({}, {0x9003: "x" * 2**20}, None),
        ({}, {0x9003: b"\xff" * 99}, None),
        ({}, {0x9003: 5}, None),
    ],
)
def test_a_date_is_read_or_left_out(
    fields: dict[int, object], details: dict[int, object], taken_at: datetime | None
) -> None:
    assert exif_facts(exif(fields, details))["taken_at"] == taken_at


@pytest.mark.parametrize(
    "change",
    [
        {2: (float("nan"), 0.0, 0.0)},
        {2: (IFDRational(0, 0), 0.0, 0.0)},
        {2: (float("inf"),)},
        {2: (91.0, 0.0, 0.0)},
        {4: (181.0, 0.0, 0.0)},
        {2: (-1.0, 0.0, 0.0)},
        {2: "fifty"},
        {2: ()},
        {2: None},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
    ],
)
def test_a_place_that_is_none_is_left_out(change: dict[int, object]) -> None:
    found = exif_facts(exif({}, {}, {**PLACE, **change}))
    assert "latitude" not in found
    assert "longitude" not in found


def test_south_and_west_are_negative() -> None:
    found = exif_facts(exif({}, {}, {**PLACE, 1: "S", 3: b"W\0"}))
    assert (found["latitude"], found["longitude"]) == (-50.0875, -14.4213)


@pytest.mark.parametrize(
    ("make", "model", "said"),
    [
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Google", "Pixel 7", "Google Pixel 7"),
        ("Google", None, "Google"),
        (None, "Pixel\0\0", "Pixel"),
        ("\x1b[31mred\n", "\u202e", "[31mred"),
        ("x" * 2**20, "y" * 2**20, "x" * 100),
        (b"Canon\0", b"\xff\xfe", "Canon"),
        ("   ", 7, None),
    ],
)
def test_a_camera_is_one_short_line(make: object, model: object, said: str | None) -> None:
    assert camera(make, model) == said


@pytest.mark.filterwarnings("ignore")  # a decoder's warnings have no reader in a worker either
def test_an_exif_block_that_is_broken_costs_no_picture(tmp_path: Path) -> None:
    raw = bytearray(encoded(quarters(64, 48), "JPEG", exif=PHOTO))
    draw, start = np.random.default_rng(0), raw.index(b"Exif\0\0") + 6
    end = start - 8 + int.from_bytes(raw[start - 8 : start - 6])
    for n in range(40):
        damaged = bytearray(raw)
        for at in draw.integers(start, end, 25):
            damaged[at] = draw.integers(0, 256)
        file = put(tmp_path, f"{n}.jpg", bytes(damaged))
        assert (found := facts(file)) is not None
        assert {found.width, found.height} == {64, 48}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"creation_time": "2019-06-01T10:30:15.000000Z"}, FileFacts(datetime(2019, 6, 1, 10, 30, 15, tzinfo=UTC))),
        (
            {
                "creation_time": "2019-06-01T10:30:15.000000Z",
                "com.apple.quicktime.creationdate": "2019-06-01T12:30:15+0200",
                "com.apple.quicktime.location.ISO6709": "+50.0875+014.4213+250.0/",
                "com.apple.quicktime.make": "Apple",
                "com.apple.quicktime.model": "iPhone 12",
            },
            FileFacts(TAKEN, 50.0875, 14.4213, "Apple iPhone 12"),
        ),
        ({"creation_time": "1904-01-01T00:00:00.000000Z"}, FileFacts()),
        ({"creation_time": "1970-01-01T00:00:00Z", "location": "+99.0+014.4/"}, FileFacts()),
        ({"creation_time": "x" * 2**20, "location": "-" * 2**20, "make": "\0"}, FileFacts()),
        ({"LOCATION": "-33.8+151.2/"}, FileFacts(latitude=-33.8, longitude=151.2)),
    ],
)
def test_a_container_says_when_and_where_it_was_taken(tags: dict[str, str], expected: FileFacts) -> None:
    assert FileFacts(**container_facts(tags)) == expected


@pytest.mark.parametrize("seconds", [None, 0.0, -1.0, float("nan"), float("inf"), 1e12])
def test_a_length_that_cannot_be_is_none(seconds: float | None) -> None:
    assert duration(seconds) is None


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_clip_has_a_length_and_an_upright_size(tmp_path: Path, rotation: int) -> None:
    file = tmp_path / "clip.mp4"
    clip(file, Pictures([(RED, 2.0)], rotation=rotation), Tones([(440.0, 2.0)]))
    found = facts(file)
    assert found is not None
    assert found.duration_s == pytest.approx(2.0, abs=0.1)
    assert (found.width, found.height) == ((48, 64) if rotation else (64, 48))


def test_sounds_have_a_length(tmp_path: Path) -> None:
    wave = np.sin(np.arange(3 * 8_000) / 10)
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, wave, 8_000)
        assert facts(tmp_path / name) == FileFacts(duration_s=3.0)


def stored(library: Path) -> list[tuple[object, ...]]:
    query = (
        "SELECT hash, version, taken_at, latitude, longitude, camera, width, height, duration_s "
        "FROM file_facts JOIN content ON content.id = content_id ORDER BY hash"
    )
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    put(folder, "photo.jpg", encoded(quarters(64, 48), "JPEG", exif=PHOTO))
    put(folder, "drawing.png", encoded(noise(3), "PNG"))
    put(folder, "copy/drawing.png", encoded(noise(3), "PNG"))
    put(folder, "note.txt", "a note")
    soundfile.write(folder / "song.wav", np.sin(np.arange(2 * 16_000) / 9), 16_000)
    clip(folder / "clip.mp4", Pictures([(RED, 2.0)], rotation=90), Tones([(440.0, 2.0)]))
    return folder


def test_an_older_library_gets_the_facts_in_one_run_that_embeds_nothing(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        assert library.index(media).failed == 0
        expected = stored(library.folder)
    assert len(expected) == 4
    assert expected != [(*row[:2], *[None] * 7) for row in expected]
    downgrade(tmp_path / "library" / "catalog.sqlite", 4)
    monkeypatch.setattr(
        sys.modules["indexer.executors.local"], "encode", lambda *_: pytest.fail("it is embedded again")
    )
    with mmsearch.open(tmp_path / "library", settings=Settings(workers=1)) as library:
        report = library.index(media)
        assert (report.added, report.updated, report.reused, report.failed) == (0, 0, 0, 0)
        assert stored(library.folder) == expected
        assert not find_faults(library.folder / "catalog.sqlite")
        monkeypatch.setattr(sys.modules["indexer.facts"], "Sandbox", lambda *_: pytest.fail("they are read again"))
        library.index(media)


def test_a_run_that_was_stopped_goes_on_and_one_elsewhere_reads_nothing_here(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        library.index(media)
        expected = stored(library.folder)
        catalog = library.folder / "catalog.sqlite"
    downgrade(catalog, 4)
    facts_module = sys.modules["indexer.facts"]
    monkeypatch.setattr(facts_module, "_BATCH", 1)
    read, calls = facts_module._read, []

    def once(*given: object) -> Iterator[object]:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        yield from read(*given)

    monkeypatch.setattr(facts_module, "_read", once)
    put(tmp_path, "other/note.txt", "another note")
    with mmsearch.open(tmp_path / "library", settings=Settings(workers=1)) as library:
        library.index(tmp_path / "other")
        assert stored(library.folder) == []
        with pytest.raises(KeyboardInterrupt):
            library.index(media)
        assert len(stored(library.folder)) == 2
        library.index(media)
        assert stored(library.folder) == expected
        assert len(calls) == 5


def test_a_file_that_is_broken_by_now_is_asked_once_and_keeps_its_place(media: Path, tmp_path: Path) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        library.index(media)
        before = len(stored(library.folder))
    downgrade(tmp_path / "library" / "catalog.sqlite", 4)
    song = media / "song.wav"
    times = song.stat()
    song.write_bytes(bytes(times.st_size))
    os.utime(song, ns=(times.st_atime_ns, times.st_mtime_ns))
    with mmsearch.open(tmp_path / "library", settings=Settings(workers=1)) as library:
        assert library.index(media).failed == 0
        rows = stored(library.folder)
        assert (len(rows), sum(row[2:] == (None,) * 7 for row in rows)) == (before, 1)
