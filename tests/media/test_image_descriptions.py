"""Descriptions in a picture's EXIF and IPTC: what a person wrote is found, and corrupt blocks spoil no picture."""

from __future__ import annotations

import io

import pytest
from support.images import LIMITS, assert_close, read
from support.media_maker import GREEN, RED, encoded, exif, plain, quarters, raw_exif, with_iptc, with_segment

from mmsearch.media.image import read_image


def descriptions(raw: bytes) -> list[str]:
    return read_image(io.BytesIO(raw), LIMITS)[1]


UMLAUTS = "Müller & Söhne, Ærø: žluťoučký kůň 東京"


def test_the_exif_description_is_found() -> None:
    assert descriptions(encoded(plain(RED), "JPEG", exif=exif(description="A red wall"))) == ["A red wall"]


def test_an_exif_description_in_utf_8_keeps_its_umlauts() -> None:
    raw = with_segment(encoded(plain(RED), "JPEG"), 0xE1, raw_exif(UMLAUTS.encode()))
    assert descriptions(raw) == [UMLAUTS]


def test_an_exif_description_in_latin_1_keeps_its_umlauts() -> None:
    raw = with_segment(encoded(plain(RED), "JPEG"), 0xE1, raw_exif("Käse für Günther".encode("latin-1")))
    assert descriptions(raw) == ["Käse für Günther"]


def test_the_title_that_windows_writes_is_found() -> None:
    title = (UMLAUTS + "\0").encode("utf-16-le")
    assert descriptions(encoded(plain(RED), "JPEG", exif=exif(xp_title=title))) == [UMLAUTS]


@pytest.mark.parametrize("record", [5, 105, 120])
def test_iptc_captions_are_found(record: int) -> None:
    assert descriptions(with_iptc(encoded(plain(RED), "JPEG"), record, UMLAUTS.encode())) == [UMLAUTS]


def test_iptc_captions_of_a_phone_s_multi_picture_jpeg_are_found() -> None:
    raw = encoded(plain(RED), "MPO", save_all=True, append_images=[plain(GREEN)])
    assert descriptions(with_iptc(raw, 120, b"A red wall")) == ["A red wall"]


def test_iptc_keywords_and_bylines_are_no_captions() -> None:
    assert descriptions(with_iptc(encoded(plain(RED), "JPEG"), 80, b"Jane Photographer")) == []


def test_a_description_written_twice_is_said_once_and_on_one_line() -> None:
    tags = exif(description="A red\n  wall ", xp_title="A red wall\0".encode("utf-16-le"))
    assert descriptions(with_iptc(encoded(plain(RED), "JPEG", exif=tags), 120, b"Brick")) == ["A red wall", "Brick"]


@pytest.mark.parametrize(
    "noise_text",
    [
        "OLYMPUS DIGITAL CAMERA         ",
        "SONY DSC",
        "Exif_JPEG_PICTURE",
        "DCIM\\100MEDIA\\DJI_0001.JPG",
        "default",
        "Screenshot",
        "   ",
    ],
)
def test_what_cameras_write_by_themselves_is_no_description(noise_text: str) -> None:
    assert descriptions(encoded(plain(RED), "JPEG", exif=exif(description=noise_text))) == []


@pytest.mark.parametrize(
    "said",
    ["Grandpa with his first digital camera", "The default settings page", "A screenshot of the map we followed"],
)
def test_a_person_s_description_is_kept_though_it_names_a_camera_s_words(said: str) -> None:
    assert descriptions(encoded(plain(RED), "JPEG", exif=exif(description=said))) == [said]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the very damage that is meant here
@pytest.mark.parametrize(
    "damaged",
    [
        b"Exif\0\0" + b"\xff" * 64,
        b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20),
        b"Exif\0\0XX*\0\x08\0\0\0" + bytes(20),
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x0e\x01\x02\0\xff\xff\xff\x7f\x08\0\0\0" * 4,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",  # a folder inside itself
        b"Exif\0\0",
    ],
    ids=["garbage", "offset", "byte-order", "counts", "loop", "empty"],
)
def test_a_picture_with_corrupt_exif_is_still_read(damaged: bytes) -> None:
    raw = with_segment(encoded(quarters(), "JPEG", quality=95), 0xE1, damaged)
    picture, said = read_image(io.BytesIO(raw), LIMITS)
    assert_close(picture, quarters(), 3)
    assert said == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "damaged",
    [
        b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff\x1c\x02\x78\xff\xff",
        b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06\x1c\x02\x78\x84\xff\xff",
        b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06abcdef",
        b"Photoshop 3.0\x008BIM",
    ],
    ids=["length", "extended-length", "no-records", "cut"],
)
def test_a_picture_with_corrupt_iptc_is_still_read(damaged: bytes) -> None:
    raw = with_segment(encoded(quarters(), "JPEG", quality=95), 0xED, damaged)
    assert_close(read(raw), quarters(), 3)
