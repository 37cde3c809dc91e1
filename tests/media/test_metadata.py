"""Words and facts that programs, cameras and people write in files and beside them, each with its origin."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, PngImagePlugin
from support.clip_maker import LOW, Pictures, Tones, Track, clip
from support.media_maker import RED, put

import mmsearch
from mmsearch import FileFacts, Settings
from mmsearch.errors import MediaError
from mmsearch.media import facts_of, find_sidecars
from mmsearch.media.captions import read_captions
from mmsearch.media.container_metadata import describe_tags
from mmsearch.media.image import read_picture
from mmsearch.media.markup import parse
from mmsearch.media.metadata import exif_facts, rating
from mmsearch.media.name_dates import date_of_name
from mmsearch.media.xmp import read_xmp
from mmsearch.records import DatedBy, Origin
from mmsearch.settings import Limits

SAID = "Großmutter füttert Gänse"
SUMMER = timezone(timedelta(hours=2))
SPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:digiKam="http://www.digikam.org/ns/1.0/" '
    'xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"'
)


def xmp(inside: str, attributes: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {SPACES} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
        f'{" " * 100}<?xpacket end="w"?>'
    ).encode()


def bag(name: str, *items: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{item}</rdf:li>' for item in items)}</rdf:Bag></{name}>"


def alt(name: str, words: str) -> str:
    return f'<{name}><rdf:Alt><rdf:li xml:lang="x-default">{words}</rdf:li></rdf:Alt></{name}>'


FULL = xmp(
    alt("dc:description", SAID)
    + bag("dc:subject", "goose", "Grandmother")
    + bag("lr:hierarchicalSubject", "Animals|Birds|goose", "People|Anna Nováková")
    + bag("Iptc4xmpExt:PersonInImage", "Jan Novák")
    + "<mwg-rs:Regions><mwg-rs:RegionList><rdf:Bag>"
    '<rdf:li><rdf:Description mwg-rs:Name="Eva" mwg-rs:Type="Face"/></rdf:li>'
    '<rdf:li><rdf:Description mwg-rs:Name="a car" mwg-rs:Type="Focus"/></rdf:li>'
    "</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>",
    'xmp:Rating="4" exif:DateTimeOriginal="2019-06-01T12:30:15+02:00" exif:GPSLatitude="50,5.25N" '
    'exif:GPSLongitude="14,25,16.68E" tiff:Make="Canon" tiff:Model="Canon EOS 5D" aux:Lens="EF24-70mm f/2.8L" '
    'photoshop:City="Praha" photoshop:Country="Česko"',
)


def test_a_packet_of_xmp_says_words_names_and_facts() -> None:
    found = read_xmp(FULL)
    assert found.captions == (SAID,)
    assert found.keywords == ("goose", "Grandmother")
    assert found.people == ("Jan Novák", "Anna Nováková", "Eva")
    assert found.facts == FileFacts(
        datetime(2019, 6, 1, 12, 30, 15, tzinfo=SUMMER),
        50.0875,
        14.4213,
        "Canon EOS 5D",
        place="Praha, Česko",
        lens="EF24-70mm f/2.8L",
        rating=4,
        keywords=found.keywords,
        people=found.people,
    )


@pytest.mark.parametrize(
    "inside",
    [
        alt("dc:title", SAID),
        alt("Iptc4xmpCore:AltTextAccessibility", SAID),
        f"<photoshop:Headline>{SAID}</photoshop:Headline>",
        alt("exif:UserComment", SAID),
        alt("dc:description", "OLYMPUS DIGITAL CAMERA") + alt("dc:title", SAID),
    ],
)
def test_every_property_that_people_write_in_is_a_caption(inside: str) -> None:
    assert read_xmp(xmp(inside)).captions == (SAID,)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_xmp_is_read_in_every_kind_of_picture(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "photo"
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", FULL.decode())
    special: dict[str, dict[str, Any]] = {"PNG": {"pnginfo": info}, "TIFF": {"tiffinfo": {700: FULL}}}
    options = special.get(kind, {"xmp": FULL})
    Image.new("RGB", (64, 48), RED).save(file, kind, **options)
    with file.open("rb") as opened:
        found = read_picture(opened, Limits()).description
    assert (found.captions, found.keywords, found.fields["rating"]) == ((SAID,), ("goose", "Grandmother"), 4)


def described(tmp_path: Path, **options: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    file = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 48), RED).save(file, "JPEG", **options)
    with file.open("rb") as opened:
        found = read_picture(opened, Limits()).description
    return found.captions, found.keywords


@pytest.mark.parametrize(
    "value",
    [
        b"ASCII\0\0\0" + SAID.encode(),
        b"UNICODE\0" + SAID.encode("utf-16-le"),
        b"UNICODE\0" + SAID.encode("utf-16-be"),
        b"UNICODE\0" + SAID.encode(),
        b"\0" * 8 + SAID.encode("latin-1"),
        SAID.encode(),
    ],
)
def test_a_users_comment_is_read_whatever_its_encoding_is_said_to_be(tmp_path: Path, value: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = value
    assert described(tmp_path, exif=exif) == ((SAID,), ())


def test_comments_and_windows_keywords_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x9C9E] = "goose;Gänse".encode("utf-16-le")
    assert described(tmp_path, exif=exif, comment=SAID.encode()) == ((SAID,), ("goose", "Gänse"))
    assert described(tmp_path, comment=b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90") == ((), ())


def iptc(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((0x1C, 2, number)) + len(raw).to_bytes(2, "big") + raw for number, raw in fields)


def test_keywords_place_and_date_of_iptc_are_read(tmp_path: Path) -> None:
    block = iptc((25, b"goose"), (25, "Gänse".encode()), (90, b"Praha"), (55, b"20190601"), (60, b"123015+0200"))
    file = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 48), RED).save(file)
    resource = b"8BIM\x04\x04\0\0" + len(block).to_bytes(4, "big") + block + b"\0" * (len(block) % 2)
    segment = b"Photoshop 3.0\0" + resource
    raw = file.read_bytes()
    file.write_bytes(raw[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment + raw[2:])
    found = facts(file)
    assert (found.keywords, found.place, found.dated_by) == (("goose", "Gänse"), "Praha", DatedBy.FILE)
    assert found.taken_at == datetime(2019, 6, 1, 12, 30, 15, tzinfo=SUMMER)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_texts_of_a_png_are_read_before_and_behind_its_pixels(tmp_path: Path, compressed: bool, behind: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Description", SAID, zip=compressed)
    info.add_text("Software", "GIMP")
    info.add_text("parameters", "a goose, oil on canvas\nNegative prompt: blurry\nSteps: 20, Seed: 7")
    file = tmp_path / "drawing.png"
    Image.new("RGB", (64, 48), RED).save(file, pnginfo=info)
    if behind:
        raw = file.read_bytes()
        at, end = raw.index(b"IDAT") - 4, raw.index(b"IEND") - 4
        head, texts = raw[:33], raw[33:at]
        file.write_bytes(head + raw[at:end] + texts + raw[end:])
    with file.open("rb") as opened:
        assert read_picture(opened, Limits()).description.captions == (SAID, "a goose, oil on canvas")


def facts(file: Path) -> FileFacts:
    path = os.fsencode(file)
    found = facts_of(path, find_sidecars(path), Limits()).facts
    assert found is not None
    return found


def test_a_clock_that_satellites_confirm_has_a_zone() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2019:06:01 12:30:15"
    gps = exif.get_ifd(0x8825)
    gps[7], gps[29] = (10.0, 30.0, 2.0), "2019:06:01"
    assert exif_facts(exif)["taken_at"] == datetime(2019, 6, 1, 12, 30, 15, tzinfo=SUMMER)
    gps[7] = (10.0, 37.0, 0.0)  # a position that is seven minutes old
    assert exif_facts(exif)["taken_at"].tzinfo is None
    gps[7], gps[29] = (float("nan"),), "nonsense"
    assert exif_facts(exif)["taken_at"].tzinfo is None


@pytest.mark.parametrize(
    ("stars", "percent", "wanted"),
    [
        (4, None, 4),
        ("5", 99, 5),
        (None, 75, 4),
        (0, 1, 1),
        (-1, None, -1),
        (0, 0, None),
        ("x", "y", None),
        (9, 500, None),
    ],
)
def test_ratings_are_one_to_five_stars_or_a_rejection(stars: object, percent: object, wanted: int | None) -> None:
    assert rating(stars, percent) == wanted


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


BOMB = (
    "<!DOCTYPE a [" + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]><movie>&a9;</movie>"
)


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


def test_a_packet_that_is_broken_spoils_no_picture(tmp_path: Path) -> None:
    for packet in (BOMB.encode(), b"<x:xmpmeta>", b"\xff" * 999, FULL[: len(FULL) // 2]):
        assert described(tmp_path, xmp=packet) == ((), ())


def test_tags_of_a_container_are_captions_keywords_and_facts() -> None:
    found = describe_tags(
        {
            "TITLE": "A song of geese",
            "artist": "The Grandmothers",
            "comment": "recorded on the farm",
            "genre": "Folk; Choir",
            "lyrics-eng": "The goose walks\ninto the kitchen",
            "encoder": "Lavf62.1.1",
            "com.apple.quicktime.creationdate": "2019-06-01T12:30:15+0200",
            "com.apple.quicktime.camera.lens_model": "iPhone 12 back camera 4.2mm f/1.6",
            "com.apple.quicktime.keywords": "farm",
        }
    )
    expected = ("A song of geese", "The Grandmothers", "recorded on the farm", "The goose walks", "into the kitchen")
    assert found.captions == expected
    assert found.keywords == ("Folk", "Choir", "farm")
    assert found.fields["lens"] == "iPhone 12 back camera 4.2mm f/1.6"
    assert found.fields["taken_at"] == datetime(2019, 6, 1, 12, 30, 15, tzinfo=SUMMER)


@pytest.mark.parametrize(
    "words",
    [
        "https://example.org/x",
        "vid:v0f025",
        "Encoded by LAME",
        "Track 07",
        "Unknown Artist",
        "00001234 0000ABCD 00001234 0000ABCD",
    ],
)
def test_what_programs_write_into_tags_is_no_caption(words: str) -> None:
    assert describe_tags({"comment": words, "title": words}).captions == ()


def test_tags_of_windows_programs_keep_their_letters() -> None:
    song = "Песня про гусей"
    assert describe_tags({"title": song.encode("cp1251").decode("latin-1")}).captions == (song,)
    assert describe_tags({"title": "Gänse".encode().decode("latin-1")}).captions == ("Gänse",)
    assert describe_tags({"title": "Gänse"}).captions == ("Gänse",)


TAGS = {"title": "A song of geese", "artist": "The Grandmothers", "comment": "recorded on the farm", "genre": "Folk"}


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.ogg", "a.opus", "a.flac", "a.wav", "a.mp4", "a.mkv", "a.mov"])
def test_tags_are_read_in_every_kind_of_sound_and_clip(tmp_path: Path, name: str) -> None:
    codecs = {"mp3": "libmp3lame", "ogg": "vorbis", "opus": "opus", "flac": "flac", "wav": "pcm_s16le"}
    ending = name[2:]
    pictures = [Pictures([(RED, 1.0)])] if ending in ("mp4", "mkv", "mov") else []
    rate = 48_000 if ending == "opus" else 44_100
    layout = "stereo" if ending in ("ogg", "opus") else "mono"
    tracks: list[Track] = [*pictures, Tones([(LOW, 1.0)], codecs.get(ending, "aac"), rate, layout)]
    plain = tmp_path / f"plain.{ending}"
    clip(plain, *tracks)
    with av.open(str(plain)) as read, av.open(str(tmp_path / name), "w") as made:
        streams = [made.add_stream_from_template(stream) for stream in read.streams]
        made.metadata.update(TAGS)
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    plain.unlink()
    found = items(tmp_path)[name]
    assert found[0][0] == (Origin.CAPTION, "A song of geese The Grandmothers recorded on the farm")
    assert found[1].keywords == ("Folk",)
    assert (Origin.TAGS, "Folk") in found[0]


def items(folder: Path) -> dict[str, tuple[list[tuple[Origin, str]], FileFacts]]:
    with mmsearch.open(folder / "library", model="hashing", settings=Settings(workers=1)) as library:
        assert library.index(folder).failed == 0
        return {
            item.path.name: ([(text.origin, text.words) for text in item.texts], item.facts) for item in library.items()
        }


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
