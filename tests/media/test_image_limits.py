"""Pictures that are too large, cut off or none at all are refused in one line, and Pillow's own limit stays."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image
from support.images import LIMITS, read
from support.media_maker import (
    HUGE,
    RED,
    bmp_header,
    encoded,
    gif_header,
    noise,
    plain,
    png,
    png_chunk,
    quarters,
    tiff_header,
)

from mmsearch.errors import MediaError
from mmsearch.media import image as image_module
from mmsearch.media.image import read_image
from mmsearch.settings import Limits


def reason(raw: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        read_image(io.BytesIO(raw), limits)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "raw",
    [
        png(HUGE, HUGE, zlib.compress(b"\0")),
        bmp_header(HUGE, HUGE),
        tiff_header(HUGE, HUGE),
    ],
    ids=["png", "bmp", "tiff"],
)
def test_a_header_of_ten_billion_pixels_is_refused_by_its_size(raw: bytes) -> None:
    assert "100000 x 100000 pixels" in reason(raw)


def test_a_gif_header_of_four_billion_pixels_is_refused_by_its_size() -> None:
    assert "65535 x 65535 pixels" in reason(gif_header(65_535, 65_535))


def test_a_picture_of_just_the_limit_is_read_and_one_more_row_is_not() -> None:
    limits = Limits(pixels=64 * 48)
    assert read_image(io.BytesIO(encoded(quarters(64, 48), "PNG")), limits)[0].size == (64, 48)
    assert "64 x 49 pixels" in reason(encoded(quarters(64, 49), "PNG"), limits)


def test_reading_leaves_pillow_s_own_limit_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    read(encoded(plain(RED), "PNG"))
    reason(png(HUGE, HUGE, b""))
    reason(b"nonsense")
    assert before == Image.MAX_IMAGE_PIXELS is not None


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"])
def test_a_truncated_picture_is_refused_in_one_line(kind: str, share: float) -> None:
    raw = encoded(noise(7), kind)
    assert reason(raw[: int(len(raw) * share)])


def test_a_png_whose_text_is_a_deflate_bomb_is_refused() -> None:
    bomb = png_chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(100 * 2**20), 9))
    assert reason(png(1, 1, zlib.compress(bytes(2)), extra=bomb))


@pytest.mark.parametrize("raw", [b"", b"\xff\xd8\xff", b"nonsense" * 100, bytes(1000), b"GIF89a", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_refused_with_a_remedy(raw: bytes) -> None:
    assert "convert it" in reason(raw)


def test_a_postscript_program_is_never_run() -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert reason(program) == reason(b"nonsense")


def test_a_png_of_no_width_is_refused() -> None:
    assert reason(png(0, 10, b""))


def test_pillow_s_own_limit_refuses_no_picture_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    raw = encoded(quarters(64, 48).convert("L"), "TIFF", compression="tiff_lzw")
    for limits in (Limits(), Limits(picture_bytes=64 * 48 * 4)):  # the second one has it converted in bands
        assert read_image(io.BytesIO(raw), limits, 8)[0].width in (64, 11)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_last_of_several_readers_puts_pillow_s_limit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    lifted = image_module._Unlimited()
    with lifted:
        with lifted:
            pass
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == 100
