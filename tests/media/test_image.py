"""Pictures are read upright, in RGB and in their brightness, whatever their format stores."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose
from support.images import assert_close, read
from support.media_maker import BLUE, GREEN, RED, YELLOW, encoded, exif, heic, pixels, plain, quarters

from mmsearch.media.image import read_image
from mmsearch.settings import Limits

# How a camera stores an upright scene for each EXIF orientation: the inverse of the turn that the tag asks for.
STORED = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, row by row."""
    shape = pixels(picture)
    height, width = shape.shape[:2]
    return [tuple(shape[y, x]) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 3),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("AVIF", {"quality": 95}, 3),
    ],
)
def test_every_exif_orientation_gives_the_same_upright_picture(
    kind: str, options: dict[str, object], tolerance: float, orientation: int
) -> None:
    turn = STORED[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    raw = encoded(stored, kind, exif=exif(orientation=orientation), **options)
    assert_close(read(raw), quarters(), tolerance)


def test_a_reduced_jpeg_is_turned_upright_too() -> None:
    stored = quarters(640, 480).transpose(STORED[6] or Transpose.ROTATE_90)
    picture = read(encoded(stored, "JPEG", quality=95, exif=exif(orientation=6)), side=100)
    assert picture.width > picture.height
    assert np.abs(np.subtract(corners(picture), [RED, GREEN, BLUE, YELLOW])).max() <= 6


def test_an_unknown_orientation_leaves_the_picture_as_it_is() -> None:
    assert_close(read(encoded(quarters(), "PNG", exif=exif(orientation=42))), quarters(), 0)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_of_an_animation_or_a_stack_the_first_frame_is_read(kind: str, options: dict[str, object]) -> None:
    raw = encoded(plain(RED), kind, save_all=True, append_images=[plain(GREEN), plain(BLUE)], **options)
    with Image.open(io.BytesIO(raw)) as check:
        assert getattr(check, "n_frames", 1) == 3
    assert_close(read(raw), plain(RED), 0)


def test_a_heic_picture_is_read_and_turned_as_its_container_says() -> None:
    picture = read(heic())
    assert picture.size == (64, 64)
    assert np.abs(np.subtract(corners(picture), [GREEN, YELLOW, RED, BLUE])).max() <= 6


def test_an_avif_picture_is_read() -> None:
    assert np.abs(np.subtract(corners(read(encoded(quarters(), "AVIF"))), [RED, GREEN, BLUE, YELLOW])).max() <= 12


GREYS_16 = np.asarray([[0, 257, 12_850, 25_700], [32_896, 51_400, 65_278, 65_535]], np.uint16)
"""16-bit greys whose 8-bit values are exact: 257 times that."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_16_bit_grey_picture_keeps_its_brightness(kind: str) -> None:
    picture = read(encoded(Image.fromarray(GREYS_16), kind))
    assert pixels(picture)[:, :, 0].tolist() == (GREYS_16 // 257).tolist()
    assert picture.mode == "RGB"


def test_a_big_endian_16_bit_tiff_keeps_its_brightness() -> None:
    little = GREYS_16.astype("<u2").tobytes()
    fields = [(256, 4, 4), (257, 4, 2), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, len(little))]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in fields
    )
    big = GREYS_16.astype(">u2").tobytes()
    raw = b"MM\0*" + struct.pack(">I", 8 + len(big)) + big + struct.pack(">H", len(fields)) + entries + bytes(4)
    assert pixels(read(raw))[:, :, 0].tolist() == (GREYS_16 // 257).tolist()


def test_a_dark_16_bit_photo_stays_dark() -> None:
    values = np.full((8, 8), 100 * 257, np.uint16)
    assert pixels(read(encoded(Image.fromarray(values), "PNG")))[0, 0].tolist() == [100, 100, 100]


def test_a_nearly_black_16_bit_picture_stays_nearly_black() -> None:
    values = np.full((8, 8), 200, np.uint16)  # 200 of 65,535
    assert pixels(read(encoded(Image.fromarray(values), "PNG"))).max() <= 1


def test_a_float_tiff_between_0_and_1_spans_black_to_white() -> None:
    values = np.asarray([[0.0, 0.2], [0.6, 1.0]], np.float32)
    assert pixels(read(encoded(Image.fromarray(values), "TIFF")))[:, :, 0].tolist() == [[0, 51], [153, 255]]


def test_a_float_tiff_beyond_any_range_is_scaled_to_its_brightest_value() -> None:
    values = np.asarray([[0.0, 100_000.0], [-5.0, 200_000.0]], np.float32)
    assert pixels(read(encoded(Image.fromarray(values), "TIFF")))[:, :, 0].tolist() == [[0, 127], [0, 255]]


def test_a_float_tiff_with_holes_shows_them_black() -> None:
    values = np.asarray([[np.nan, np.inf], [-np.inf, 255.0]], np.float32)
    assert pixels(read(encoded(Image.fromarray(values), "TIFF")))[:, :, 0].tolist() == [[0, 0], [0, 255]]


def test_a_cmyk_jpeg_shows_its_colours() -> None:
    picture = read(encoded(quarters().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(np.subtract(corners(picture), [RED, GREEN, BLUE, YELLOW])).max() <= 6


def test_transparency_is_laid_over_white() -> None:
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(200, 0, 0, 255), (200, 0, 0, 0), (200, 0, 0, 51)])
    # 51 of 255 is a fifth: 0.2 * 200 + 0.8 * 255 = 244 and 0.8 * 255 = 204
    assert pixels(read(encoded(rgba, "PNG")))[0].tolist() == [[200, 0, 0], [255, 255, 255], [244, 204, 204]]


def test_grey_with_transparency_is_laid_over_white() -> None:
    la = Image.new("LA", (3, 1))
    la.putdata([(100, 255), (100, 0), (0, 51)])
    assert pixels(read(encoded(la, "PNG")))[0].tolist() == [[100] * 3, [255] * 3, [204] * 3]


def test_a_palette_with_transparency_is_laid_over_white() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([*RED, *GREEN, *BLUE])
    palette.putdata([0, 1, 2])
    raw = encoded(palette, "PNG", transparency=bytes([255, 0, 51]))
    blue = [round(0.2 * value + 0.8 * 255) for value in BLUE]
    assert pixels(read(raw))[0].tolist() == [list(RED), [255, 255, 255], blue]


def test_a_transparent_gif_is_laid_over_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *GREEN])
    palette.putdata([0, 1])
    assert pixels(read(encoded(palette, "GIF", transparency=1)))[0].tolist() == [list(RED), [255, 255, 255]]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_bilevel_pictures_become_rgb(mode: str) -> None:
    picture = Image.new("L", (2, 1))
    picture.putdata([0, 255])
    assert pixels(read(encoded(picture.convert(mode), "PNG")))[0].tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize(
    ("side", "size"),
    [(None, (1600, 1200)), (1200, (1600, 1200)), (600, (800, 600)), (256, (400, 300)), (10, (200, 150))],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_above_side(side: int | None, size: tuple[int, int]) -> None:
    assert read(encoded(plain(RED, 1600, 1200), "JPEG"), side).size == size


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_jpeg_shows_what_the_full_one_shows(mode: str) -> None:
    waves = np.add.outer(np.sin(np.arange(480) / 40), np.cos(np.arange(640) / 25))
    drawing = np.stack([waves * 50 + 120, waves[:, ::-1] * 50 + 120, waves[::-1] * 50 + 120], axis=2).astype(np.uint8)
    raw = encoded(Image.fromarray(drawing).convert(mode), "JPEG", quality=90)
    full, reduced = read(raw), read(raw, side=100)
    assert reduced.size == (160, 120)
    assert full.size == (640, 480)
    assert_close(reduced, full.resize(reduced.size, Image.Resampling.BOX), 1.5)


def test_side_leaves_small_and_other_pictures_at_their_size() -> None:
    assert read(encoded(plain(RED, 64, 48), "JPEG"), side=512).size == (64, 48)
    assert read(encoded(plain(RED, 640, 480), "PNG"), side=32).size == (640, 480)


def grey_tiff(kind: str, zero_is_white: bool) -> bytes:
    """A ramp from black at its left to white at its right as scanners and science write it, by hand."""
    ramp = np.linspace(0.0, 1.0, 64)[None].repeat(48, 0)
    shown = 1 - ramp if zero_is_white else ramp
    dtype = np.dtype(kind)
    top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    pixels = (shown * top).astype(dtype.newbyteorder("<")).tobytes()
    sample_format = {"u": 1, "f": 3}[dtype.kind]
    tags = (
        (256, 64), (257, 48), (258, 8 * dtype.itemsize), (259, 1), (262, 0 if zero_is_white else 1), (273, 8), (277, 1),
        (278, 48), (279, len(pixels)), (339, sample_format),
    )  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory + bytes(4)


@pytest.mark.parametrize("zero_is_white", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "float32"])
def test_grey_of_every_depth_is_dark_where_it_was_written_dark(kind: str, zero_is_white: bool) -> None:
    picture, _ = read_image(io.BytesIO(grey_tiff(kind, zero_is_white)), Limits())
    row = np.asarray(picture)[24, :, 0].astype(int)
    np.testing.assert_allclose(row, np.linspace(0, 255, 64), atol=2)
