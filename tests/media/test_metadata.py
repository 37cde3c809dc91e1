"""Words and facts in a picture's XMP, EXIF, IPTC and texts, each with its origin."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from support.described_media import BOMB, FULL, SAID, SUMMER, alt, xmp
from support.media_maker import RED

from mmsearch import FileFacts
from mmsearch.media import facts_of, find_sidecars
from mmsearch.media.image import read_picture
from mmsearch.media.metadata import exif_facts, rating
from mmsearch.media.xmp import read_xmp
from mmsearch.records import DatedBy
from mmsearch.settings import Limits


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


def test_a_packet_that_is_broken_spoils_no_picture(tmp_path: Path) -> None:
    for packet in (BOMB.encode(), b"<x:xmpmeta>", b"\xff" * 999, FULL[: len(FULL) // 2]):
        assert described(tmp_path, xmp=packet) == ((), ())
