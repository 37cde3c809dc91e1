"""Pictures: any file that Pillow or pi-heif reads → one upright RGB picture, at a reduced scale where that is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError
from PIL.Image import Transpose

from mmsearch import memory
from mmsearch.errors import MediaError, one_line
from mmsearch.media import large, metadata
from mmsearch.media.description import Description
from mmsearch.media.picture_metadata import describe
from mmsearch.settings import Limits

_FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
"""What Pillow may open: its other plugins include an interpreter of PostScript."""
_SPARE_BYTES = 2**24
"""What reading a picture takes whatever its size."""
_EXIF_ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

_MODES: dict[Any, tuple[str, str]] = TiffImagePlugin.OPEN_INFO
for _order, _zero_is_black, *_rest in list(_MODES):
    if _zero_is_black == 1:  # Pillow lacks some of the kinds in which 0 is white
        _MODES.setdefault((_order, 0, *_rest), _MODES[_order, 1, *_rest])


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: its pixels, upright and in RGB, and what is written in it, with its size."""

    pixels: Image.Image
    description: Description


def read_image(file: BinaryIO, limits: Limits, side: int | None = None) -> tuple[Image.Image, list[str]]:
    """Return the pixels and the captions of a picture: see `read_picture`."""
    picture = read_picture(file, limits, side)
    return picture.pixels, list(picture.description.captions)


def read_description(file: BinaryIO, limits: Limits) -> Description:
    """Return what is written in a picture, and its size, without decoding it. Raises `MediaError`."""
    with _readable(), _UNLIMITED, _open(file, limits) as image:
        size = _size(image)
        # What stands behind the pixels of a PNG would decode them.
        written = describe(image) if image.format != "PNG" or "exif" in image.info else Description()
        return written.with_more(Description.of(**size))


def read_picture(file: BinaryIO, limits: Limits, side: int | None = None) -> Picture:
    """Decode a picture.

    `side` is the least width and height in pixels that the caller needs: a JPEG is then decoded at 1/2, 1/4 or 1/8 of
    its scale as long as both sides stay above it (libjpeg's scaled inverse DCT), and so is any other picture of which
    a whole copy in RGB would take more than `limits.picture_bytes`. Of an animation, the first frame. Transparency is
    laid over white. Raises `MediaError`.
    """
    with _readable(), _UNLIMITED:
        image = _open(file, limits)
        with image:
            full_size, size = image.size, _size(image)
            if side is not None:
                image.draft("RGB", (side, side))
            factor, needed_bytes = large.check(image, full_size, side, limits)
            memory.reserve(_SPARE_BYTES + needed_bytes + _turned_bytes(image, factor))
            description = describe(image).with_more(Description.of(**size))  # loads a PNG: tags may follow its pixels
            image.load()
            # Asked after loading: Pillow turns a TIFF upright by itself and then forgets the tag.
            turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
            rgb = large.converted(image, factor, _converter(image))
            return Picture(rgb if turn is None else rgb.transpose(turn), description)


class _Unlimited:
    """Lifts Pillow's own limit of pixels, which is lower than `Limits.pixels`, as long as a picture is being read.

    The limit is a global of Pillow's, and it holds wherever a picture is opened, loaded or cropped. Several threads may
    read pictures at once: the first of them lifts it, and the last one puts it back.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._readers = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._guard:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._readers -= 1
            if not self._readers:
                Image.MAX_IMAGE_PIXELS = self._limit


_UNLIMITED = _Unlimited()


@contextmanager
def _readable() -> Iterator[None]:
    """Make a `MediaError` of whatever a broken picture raises."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError:
        raise MediaError("the picture needs more memory than one file may use; save it smaller") from None
    except Exception as error:
        # Pillow's plugins raise whatever a broken file makes them hit: OSError, SyntaxError, struct.error...
        raise MediaError(f"not a readable picture: {_one_line(error)}") from error


def upright(image: Image.Image) -> Image.Image:
    """Return a picture that a program holds as `read_image` returns a file's: upright RGB. Raises `MediaError`."""
    try:
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
        rgb = _converter(image)(image)
        return rgb if turn is None else rgb.transpose(turn)
    except Exception as error:  # of a file that is read only now
        raise MediaError(f"not a readable picture: {_one_line(error)}") from error


def from_pixels(pixels: NDArray[Any]) -> Image.Image:
    """Return an RGB picture of pixels: (h, w) or (h, w, channels), uint8 or floats from 0 to 1, of 1, 3 or 4 channels.

    Four channels are RGB with opacity, laid over white.
    """
    if pixels.dtype != np.uint8:
        pixels = (pixels.astype(np.float32) * 255.0).round().astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return upright(Image.fromarray(np.ascontiguousarray(pixels)))


def _size(image: ImageFile.ImageFile) -> dict[str, Any]:
    """Return the upright size of an opened picture, before anything of it is decoded, as fields of `FileFacts`."""
    width, height = image.size
    if image.format == "PNG" and "exif" not in image.info:
        return metadata.pixels(width, height)  # to look for tags behind the pixels would decode them
    try:
        turned = image.format not in ("HEIF", "TIFF") and _is_turned(image.getexif())  # these two have the upright size
    except metadata.BROKEN:
        turned = False
    return metadata.pixels(width, height, turned=turned)


def _is_turned(exif: Image.Exif) -> bool:
    """Return whether width and height change places when a picture is turned upright."""
    turn = _UPRIGHT.get(exif.get(_EXIF_ORIENTATION, 1))
    return turn in (Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)


def _open(file: BinaryIO, limits: Limits) -> ImageFile.ImageFile:
    head = file.read(12)
    file.seek(0)
    formats = _FORMATS
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis"):
        formats = ("HEIF",)
        import pi_heif  # only HEIC files pay for loading libheif

        pi_heif.register_heif_opener(thumbnails=False)
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise MediaError("not a picture, or of a format that can't be read; convert it to JPEG or PNG") from None
    width, height = image.size
    if width * height > limits.pixels:
        raise MediaError(f"{width} x {height} pixels are more than {limits.pixels // 10**6} million; save it smaller")
    if width < 1 or height < 1:
        raise MediaError("the picture has no pixels")
    return image


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return what makes RGB of a loaded picture, or of any band of it."""
    if image.mode.startswith("I") or image.mode == "F":
        values = _unsigned if _is_unsigned(image) else np.asarray
        full = 65535.0 if image.mode.startswith("I;16") else _full(image, values)
        dark = _is_dark_where_high(image)
        return lambda band: Image.fromarray(_to_8_bits(values(band), full, dark)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _over_white
    return lambda band: band.convert("RGB")


def _turned_bytes(image: Image.Image, factor: int) -> int:
    """Return what the upright copy of a picture takes, where it has to be turned."""
    turned = image.getexif().get(_EXIF_ORIENTATION, 1) in _UPRIGHT
    return 4 * image.width * image.height // factor**2 if turned else 0


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _tiff_tag(image: Image.Image, tag: int, otherwise: int) -> int:
    """Return the first value of a tag of a TIFF, and `otherwise` where it has none or isn't a TIFF."""
    value = image.tag_v2.get(tag, otherwise) if isinstance(image, TiffImagePlugin.TiffImageFile) else otherwise
    return next(iter(value), otherwise) if isinstance(value, tuple) else value


def _is_dark_where_high(image: Image.Image) -> bool:
    """Return whether 0 is white. Pillow turns such a TIFF of up to 8 bits itself, and those of more it doesn't."""
    return _tiff_tag(image, _PHOTOMETRIC, 1) == 0


def _is_unsigned(image: Image.Image) -> bool:
    """Return whether a TIFF's numbers are unsigned and of 32 bits, which Pillow reads as signed ones."""
    return image.mode == "I" and _tiff_tag(image, _BITS, 0) == 32 and _tiff_tag(image, _SAMPLE_FORMAT, 1) == 1


def _unsigned(band: Image.Image) -> NDArray[Any]:
    return np.asarray(band).view(np.uint32)


def _full(image: Image.Image, of: Callable[[Image.Image], NDArray[Any]]) -> float:
    """Return the value that stands for white: of the ranges in use the least that holds all values."""
    top = 0.0
    rows = max(1, 2**20 // image.width)
    for y in range(0, image.height, rows):
        values = of(image.crop((0, y, image.width, min(y + rows, image.height)))).astype(np.float32)
        finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        top = max(top, float(finite.max(initial=0.0)))
    return next((bound for bound in (1.0, 255.0, 65535.0) if top <= bound), top)


def _to_8_bits(values: NDArray[Any], full: float, dark: bool = False) -> NDArray[np.uint8]:
    """Scale a 16-bit, 32-bit or float picture to 0..255, of which `full` is the brightest, or the darkest if `dark`."""
    values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    scaled = np.clip(values * (255.0 / full), 0, 255).astype(np.uint8)
    return 255 - scaled if dark else scaled


def _one_line(error: BaseException) -> str:
    return one_line(error, 200) or type(error).__name__
