import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose
from support.media_maker import (
    BLUE,
    GREEN,
    HUGE,
    RED,
    YELLOW,
    bmp_header,
    encoded,
    exif,
    gif_header,
    heic,
    noise,
    pixels,
    plain,
    png,
    png_chunk,
    quarters,
    raw_exif,
    tiff_header,
    with_iptc,
    with_segment,
)

from mmsearch.errors import MediaError
from mmsearch.media import image as image_module
from mmsearch.media.image import read_image
from mmsearch.settings import Limits

LIMITS = Limits()

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


def read(raw: bytes, side: int | None = None) -> Image.Image:
    return read_image(io.BytesIO(raw), LIMITS, side)[0]


def descriptions(raw: bytes) -> list[str]:
    return read_image(io.BytesIO(raw), LIMITS)[1]


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, row by row."""
    shape = pixels(picture)
    height, width = shape.shape[:2]
    return [tuple(shape[y, x]) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def assert_close(seen: Image.Image, expected: Image.Image, tolerance: float) -> None:
    assert seen.mode == "RGB"
    assert seen.size == expected.size
    assert float(np.abs(pixels(seen) - pixels(expected)).mean()) <= tolerance


def reason(raw: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        read_image(io.BytesIO(raw), limits)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


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
