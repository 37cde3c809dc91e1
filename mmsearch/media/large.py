"""What decoding a picture takes of memory, and how one that takes too much is made small on its way to RGB.

A limit of pixels alone is worth little: a pixel of a JPEG takes a sixteenth of a byte where it is decoded at an eighth
of its scale, one of a WebP sixteen bytes, and a copy in RGB four more.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageFile

from mmsearch.errors import MediaError
from mmsearch.settings import Limits

_RGB_BYTES = 4
"""What Pillow takes for a pixel in every mode but those of `_MODE_BYTES`."""
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_DECODER_BYTES = {"WEBP": 12, "AVIF": 4, "HEIF": 6}
"""What a pixel takes besides in a decoder that gives a picture as a whole (measured)."""
_COEFFICIENT_BYTES = 6
"""What libjpeg keeps of a pixel of a progressive JPEG until its last scan: three coefficients, at full scale."""
_COPIES = {"RGB": 4, "CMYK": 4, "YCbCr": 4, "LAB": 4, "HSV": 4, "1": 4, "L": 4, "P": 4, "RGBA": 9, "LA": 9, "PA": 9}
"""What a pixel takes while the whole picture is converted (measured); 17 in the modes of deep greys."""
_BAND_PIXELS = 2**22
_MOST_REDUCED = 8
"""As far as libjpeg goes."""
_TIFF_BITS, _TIFF_ROWS, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 258, 278, 322, 323


def check(image: ImageFile.ImageFile, full_size: tuple[int, int], side: int | None, limits: Limits) -> tuple[int, int]:
    """Return by how much to reduce a picture while it is converted, 1 where it fits the memory, and the bytes it takes.

    The image is opened and not loaded, `full_size` is its size before it was drafted. Raises `MediaError` where it
    takes more than `limits.picture_bytes` even so.
    """
    pixels = image.width * image.height
    loaded = pixels * _MODE_BYTES.get(image.mode, _RGB_BYTES) + _decoder_bytes(image, full_size)
    needed = loaded + pixels * _COPIES.get(image.mode, 17)
    factor = 1
    if needed > limits.picture_bytes and side and min(image.size) >= 2 * side:
        factor = min(_MOST_REDUCED, min(image.size) // side)
        needed = loaded + pixels * _RGB_BYTES // factor**2
    if needed > limits.picture_bytes:
        width, height = full_size
        raise MediaError(
            f"{width} x {height} pixels as {image.format} take {needed / 2**20:,.0f} MB of memory, more than the "
            f"{limits.picture_bytes / 2**20:,.0f} MB that a picture may; save it smaller, or as JPEG"
        )
    return factor, needed


def _decoder_bytes(image: ImageFile.ImageFile, full_size: tuple[int, int]) -> int:
    pixels = full_size[0] * full_size[1]
    if image.format in ("JPEG", "MPO"):
        return pixels * _COEFFICIENT_BYTES if "progressive" in image.info else 0
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.info.get("compression") == "raw":
        return pixels * _DECODER_BYTES.get(str(image.format), 0)
    # libtiff holds a strip or a tile as a whole, and one strip may be the whole picture.
    bits = tags.get(_TIFF_BITS, (8,))
    width, rows = tags.get(_TIFF_TILE_WIDTH, full_size[0]), tags.get(_TIFF_TILE_HEIGHT, tags.get(_TIFF_ROWS, 2**32))
    numbers = [width, rows, *(bits if isinstance(bits, tuple) else (bits,))]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise MediaError("its header makes no sense; save it again")
    return int(min(width, 2 * full_size[0]) * min(rows, 2 * full_size[1]) * sum(numbers[2:]) // 8)


def converted(image: Image.Image, factor: int, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return a loaded picture in RGB, each pixel the mean of factor x factor; converted in bands, to save memory."""
    if factor == 1:
        return to_rgb(image)
    width, height = image.size
    small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(1, _BAND_PIXELS // width // factor) * factor
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        small.paste(to_rgb(band).reduce(factor), (0, top // factor))
    return small
