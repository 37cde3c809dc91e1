"""Makes what the tests look at: pictures of known colours, captions, and files that are broken in known ways."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 160, 40), (20, 40, 220), (240, 230, 40)
WHITE = (255, 255, 255)
COLOURS = {
    "red": RED,
    "green": GREEN,
    "blue": BLUE,
    "yellow": YELLOW,
    "white": WHITE,
    "orange": (250, 140, 20),
    "purple": (130, 30, 140),
    "brown": (110, 70, 30),
}
"""Colours that the hashing space has names for; black is left to files that turn out empty."""

HUGE = 100_000
"""The side of a picture that no header may make us decode."""

# `quarters(64, 64)` as HEVC in a HEIF container, with an `irot` box that says to turn it left by 90 degrees. Pillow and
# pi-heif can't write HEIC, so x265 made it once (through PyAV); the boxes around it are hand-written.
_HEIC = """
AAAAGGZ0eXBoZWljAAAAAG1pZjFoZWljAAABMW1ldGEAAAAAAAAAIWhkbHIAAAAAAAAAAHBpY3QAAAAAAAAAAAAAAAAAAAAADnBpdG0AAAAAAAEA
AAAeaWxvYwAAAABEAAABAAEAAAABAAABUQAAAKAAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAALVpcHJwAAAAl2lwY28AAABy
aHZjQwEECAAAAJ+oAAAAAB7wAPz9+PgAAA8DIAABABdAAQwB//8ECAAAAwCfqAAAAwAAHroCQCEAAQAmQgEBBAgAAAMAn6gAAAMAAB6gIIEFlupJ
MrmgIAAAAwAgAAADACEiAAEAB0QBwXKwIkAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAAlpcm90AQAAABZpcG1hAAAAAAAAAAEAAQOBAoMAAACobWRh
dAAAABdAAQwB//8ECAAAAwCfqAAAAwAAHroCQAAAACZCAQEECAAAAwCfqAAAAwAAHqAggQWW6kkyuaAgAAADACAAAAMAIQAAAAdEAcFysCJAAAAA
TCgBr1jbh0rQ1//UV7jAkvYbv5L+2cl0cnizjFFzhs9vI6fuH3+Txnfm+fX1f97/aExbMzXD8BLwV7VZOhlE63X707Bv6aGFm4/7N7g=
"""


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Draw four quarters: red, green above; blue, yellow below. No turn or flip of it looks the same."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(YELLOW, (width // 2, height // 2, width, height))
    return picture


def plain(colour: tuple[int, int, int], width: int = 64, height: int = 48) -> Image.Image:
    """Draw a picture of one colour."""
    return Image.new("RGB", (width, height), colour)


def noise(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """Draw a picture that doesn't compress, so that a truncated file of it lacks pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401  Pillow's own signature
    """Return a picture as the bytes of a file of this Pillow format."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def heic() -> bytes:
    """Return a 64 x 64 HEIC file whose upright picture is green, yellow above; red, blue below."""
    return base64.b64decode(_HEIC)


def pixels(picture: Image.Image) -> NDArray[np.int64]:
    """Return a picture's values as (height, width, channels) integers that may be subtracted."""
    return np.asarray(picture).astype(np.int64)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with its length and its valid CRC."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes, *, colour_type: int = 0, extra: bytes = b"") -> bytes:
    """Return an 8-bit PNG file that declares a size and holds these (deflated) bytes, whatever they are."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def deflate_bomb(size_bytes: int) -> bytes:
    """Return zeros, deflated about a thousand times."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(size_bytes // len(block))]
    return b"".join([*parts, packer.compress(bytes(size_bytes % len(block))), packer.flush()])


def bmp_header(width: int, height: int) -> bytes:
    """Return a 24-bit BMP file that declares a size and holds no pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 14 + len(info), 0, 0, 14 + len(info)) + info


def gif_header(width: int, height: int) -> bytes:
    """Return a GIF file that declares a size (at most 65535 each way) and holds one empty frame of it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00;"


def tiff_header(width: int, height: int) -> bytes:
    """Return a grey TIFF file that declares a size and holds no pixels."""
    fields = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 0)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", 0)


def exif(**tags: Any) -> Image.Exif:  # noqa: ANN401  EXIF values are of any type
    """Return EXIF data with these tags: `orientation`, `description`, `xp_title` (raw UTF-16 bytes)."""
    numbers = {"orientation": 0x0112, "description": 0x010E, "xp_title": 0x9C9B}
    data = Image.Exif()
    for name, value in tags.items():
        data[numbers[name]] = value
    return data


def raw_exif(description: bytes) -> bytes:
    """Return EXIF data whose ImageDescription holds exactly these bytes (Pillow writes ASCII only)."""
    value = description + b"\0"
    entry = struct.pack("<HHII", 0x010E, 2, len(value), 26)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0) + value


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """Return a JPEG file with one more APPn segment right after its start."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


def with_iptc(jpeg: bytes, record: int, text: bytes) -> bytes:
    """Return a JPEG file with an IPTC record 2:`record` in a Photoshop segment, as photo tools write it."""
    record_set = b"\x1c\x02" + bytes([record]) + struct.pack(">H", len(text)) + text
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record_set)) + record_set + b"\0" * (len(record_set) % 2)
    return with_segment(jpeg, 0xED, b"Photoshop 3.0\0" + resource)


def put(folder: Path, name: str | bytes, content: bytes | str = b"") -> Path:
    """Write a file of any name, UTF-8 or not, with the folders above it, and return its path."""
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
