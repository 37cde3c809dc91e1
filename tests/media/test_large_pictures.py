"""What a picture may take of memory holds for every format, and large ones are read all the same."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.media_maker import deflate_bomb, png

from mmsearch import Limits
from mmsearch.cli import thumbnails
from mmsearch.errors import MediaError
from mmsearch.media.image import read_image
from mmsearch.types import Hit, Modality, View

MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "F", "I", "I;16"]
SMALL = Limits(picture_bytes=5_500_000)
"""Room for a million pixels as they are stored, and for no copy of them in RGB."""


def picture(mode: str, side: int = 1024) -> Image.Image:
    """A gradient with a transparent or darker half, of a million pixels."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    grey = ((x + y) * 255 // (2 * side)).astype(np.uint8)
    if mode in ("F", "I"):
        return Image.fromarray((grey.astype(np.float32) if mode == "F" else grey.astype(np.int32)) * 100)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    image = Image.fromarray(np.stack([grey, grey[::-1], 255 - grey], axis=2))
    if mode in ("RGBA", "LA"):
        image = image.convert("RGBA" if mode == "RGBA" else "LA")
        image.putalpha(Image.fromarray((x > side // 2).astype(np.uint8) * 255))
        return image
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, kind, **options)
    out.seek(0)
    return out


def formats(mode: str) -> list[str]:
    png_too = mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")
    return ["TIFF", *(["PNG"] if png_too else [])]


@pytest.mark.parametrize(("mode", "kind"), [(mode, kind) for mode in MODES for kind in formats(mode)])
def test_what_has_no_room_for_a_copy_is_made_small_and_looks_the_same(mode: str, kind: str) -> None:
    file = saved(picture(mode), kind)
    whole, _ = read_image(file, Limits(), 100)
    assert whole.size == (1024, 1024)
    file.seek(0)
    small, _ = read_image(file, Limits(picture_bytes=4_900_000), 100)
    assert small.size == (128, 128)
    difference = np.abs(np.asarray(small, np.int16) - np.asarray(whole.reduce(8), np.int16))
    assert difference.max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF"])
def test_what_has_no_room_even_so_is_refused_before_it_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(picture("RGB"), kind)

    def load(_self: object) -> None:
        raise AssertionError("it is decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MediaError, match=r"1024 x 1024 pixels as \w+ take \d+ MB of memory, more than the 1 MB"):
        read_image(file, Limits(picture_bytes=2**20), 100)


def test_a_jpeg_counts_at_the_scale_it_is_decoded_at_unless_it_is_progressive() -> None:
    limits = Limits(picture_bytes=2_000_000)
    assert read_image(saved(picture("RGB"), "JPEG"), limits, 100)[0].size == (128, 128)
    with pytest.raises(MediaError, match="of memory"):
        read_image(saved(picture("RGB"), "JPEG", progressive=True), limits, 100)


def test_a_strip_that_is_the_whole_picture_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved(picture("RGB"), "TIFF", compression="tiff_lzw", tiffinfo={278: 1024})
    parts = saved(picture("RGB"), "TIFF", compression="tiff_lzw")
    assert read_image(parts, SMALL, 100)[0].size == (128, 128)
    with pytest.raises(MediaError, match="of memory"):
        read_image(whole, SMALL, 100)


def test_no_limit_of_pixels_is_below_what_a_camera_gives() -> None:
    """A grey PNG and a TIFF of the most pixels fit; they didn't fit the memory of a worker."""
    side = int(Limits().pixels ** 0.5) // 16 * 16
    bomb = io.BytesIO(png(side, side, deflate_bomb(side * (side + 1))))
    assert read_image(bomb, Limits(picture_bytes=Limits().picture_bytes), 224)[0].width >= 224


def test_a_picture_is_bit_for_bit_the_same_where_memory_was_no_matter() -> None:
    for mode in ("RGB", "L", "RGBA", "I;16"):
        whole, _ = read_image(saved(picture(mode), "PNG"), Limits(), 224)
        other, _ = read_image(saved(picture(mode), "PNG"), Limits(picture_bytes=2**40), None)
        np.testing.assert_array_equal(np.asarray(whole), np.asarray(other))


def test_a_thumbnail_of_a_picture_that_needs_much_memory_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    hit = Hit(1, 1.0, None, file, Modality.IMAGE, View.VISUAL, None, None, None, "mini")
    for bomb, said in ((png(15_800, 15_800, b""), "million"), (png(9_000, 9_000, b"", colour_type=6), "of memory")):
        file.write_bytes(bomb)
        assert thumbnails.escape(hit, thumbnails.Protocol.KITTY) == ""
        with pytest.raises(MediaError, match=said):
            thumbnails.picture_of(hit)


def test_thumbnails_decode_at_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "picture_of", lambda hit: b"png")
    hit = Hit(1, 1.0, None, tmp_path / "none.jpg", Modality.IMAGE, View.VISUAL, None, None, None, "mini")
    assert thumbnails.escape(hit, thumbnails.Protocol.KITTY)


def test_no_thumbnail_is_decoded_in_the_caller_s_process(tmp_path: Path) -> None:
    saved_to = tmp_path / "a.png"
    picture("RGB", 64).save(saved_to)
    code = (
        "import sys; from pathlib import Path; from mmsearch.cli import thumbnails;"
        "from mmsearch.types import Hit, Modality, View\n"
        "if __name__ == '__main__':\n"
        f"    hit = Hit(1, 1.0, None, Path({str(saved_to)!r}), Modality.IMAGE, View.VISUAL, None, None, None, 'mini')\n"
        "    assert thumbnails.escape(hit, thumbnails.Protocol.KITTY)\n"
        "    print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"av", "mmsearch.media.image", "mmsearch.media.video"} & set(loaded)
