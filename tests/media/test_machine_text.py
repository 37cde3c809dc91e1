"""Machine text: what a camera or a program writes into a picture is no caption, what a person writes is one."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from support.media_maker import plain

from mmsearch.media.image import read_image
from mmsearch.media.machine_text import is_machine_text
from mmsearch.settings import Limits

MACHINES = (
    "OLYMPUS DIGITAL CAMERA",
    "SONY DSC",
    "DCIM\\100MEDIA\\DJI_0001.JPG",
    "Exif_JPEG_PICTURE",
    "dav",
    "hdrpl",
    "oznor",
    "_cuva",
    "KODAK Digital Still Camera",
    "SAMSUNG CAMERA PICTURES",
    "SAMSUNG",
    "Processed with VSCO with f2 preset",
    "Created with GIMP",
    "<Digimax S600 / Kenox S600 / Digimax Cyber 630>",
    "AppleMark",
    "Untitled",
    "charset=Ascii",
    "ImageJ=1.53k\nunit=inch",
    '{"shape": [240, 320, 3]}',
    "File written by Adobe Photoshop\u00a8 5.2",
    "cam_1",
    "IMG_1016.JPG",
    "Screenshot_20240101",
    "LEAD Technologies Inc. V1.01",
    "8C6E21AB-1C2D",
    "filter: 0; fileterIntensity: 0.0; filterMask: 0; ",
    "2019:07:04 12:30:00",
)
PEOPLE = (
    "A dog",
    "dog",
    "Paris 2019",
    "Room 12",
    "Ann and Bob: the wedding",
    "Tom, 5 years",
    "Camera club meeting",
    "Samsung factory visit",
    "Untitled painting by Klee",
    "HDR panorama of the Alps",
    "Nikon D90 on a table",
    "Created with love by Anna",
    "12 angry men",
    "Kodak Theatre",
    "Note: buy milk",
    "[unreadable] old house",
    "虎",
    "Großmutter",
)


@pytest.mark.parametrize("text", MACHINES)
def test_what_a_machine_writes_is_no_caption(text: str) -> None:
    assert is_machine_text(text)


@pytest.mark.parametrize("text", PEOPLE)
def test_what_a_person_writes_is_a_caption(text: str) -> None:
    assert not is_machine_text(text)


@pytest.mark.parametrize(("text", "kept"), [("dav", []), ("Ann at the sea", ["Ann at the sea"])])
def test_a_picture_keeps_the_words_of_people_alone(text: str, kept: list[str]) -> None:
    exif = Image.Exif()
    exif[0x010E] = text
    out = io.BytesIO()
    plain((9, 9, 9)).save(out, "JPEG", exif=exif)
    assert read_image(io.BytesIO(out.getvalue()), Limits())[1] == kept
