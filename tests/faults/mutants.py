"""Mutants of every format: a good file with a wound, the same one for the same number on every machine."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from support.clip_maker import HIGH, LOW, Pictures, Tones, Words, clip_bytes, sound_bytes
from support.media_maker import BLUE, RED, encoded, exif, heic, noise, quarters

SCENES, TONES = [(RED, 0.5), (BLUE, 0.5)], [(LOW, 0.5), (HIGH, 0.5)]
_SRT = "1\n00:00:00,100 --> 00:00:00,900\nBring the <i>umbrella</i>.\n\n2\n00:00:01,000 --> 00:00:02,000\nNow.\n"
_VTT = "WEBVTT\n\nNOTE a note\n\n00:00.100 --> 00:00.900 align:start\nThe violin.\n\n00:01.000 --> 00:02.000\nAgain.\n"
_MARKDOWN = (
    "# Lantern\n\nA *lantern* hangs above the [harbour](https://example.org).\n\n- one\n- two\n\n```\ncode\n```\n"
)
_CAPTION = '{"caption": "a giraffe at noon", "tags": ["giraffe", "noon"], "title": "\\u017dirafa"}'


def _film(container: str, pictures: str, sounds: str, **options: str) -> bytes:
    tracks = (Pictures(SCENES, pictures), Tones(TONES, sounds, 48_000, "stereo"))
    return clip_bytes(*tracks, container=container, options=options)


def _song(container: str, codec: str, rate: int = 48_000) -> bytes:
    return clip_bytes(Tones(TONES, codec, rate, "stereo"), container=container)


def _worded(container: str, codec: str) -> bytes:
    words = Words([(0.1, 0.4, "umbrella"), (0.5, 0.9, "violin")], codec)
    return clip_bytes(Pictures(SCENES), words, container=container)


SEEDS: Mapping[str, tuple[Callable[[], bytes], ...]] = {
    "jpg": (
        lambda: encoded(quarters(), "JPEG", exif=exif(orientation=6, description="a caption")),
        lambda: encoded(noise(1), "JPEG", progressive=True),
    ),
    "png": (lambda: encoded(quarters(), "PNG"), lambda: encoded(noise(2, 31, 17).convert("P"), "PNG", bits=4)),
    "webp": (lambda: encoded(noise(3), "WEBP"), lambda: encoded(quarters(), "WEBP", lossless=True)),
    "gif": (
        lambda: encoded(quarters(), "GIF"),
        lambda: encoded(quarters(), "GIF", save_all=True, append_images=[noise(4), noise(5)]),
    ),
    "tiff": (
        lambda: encoded(noise(6), "TIFF"),
        lambda: encoded(quarters(), "TIFF", compression="tiff_lzw"),
        lambda: encoded(noise(7).convert("1"), "TIFF", compression="group4"),
    ),
    "bmp": (lambda: encoded(noise(8), "BMP"), lambda: encoded(quarters().convert("P"), "BMP")),
    "heic": (heic,),
    "avif": (lambda: encoded(quarters(), "AVIF"),),
    "mp4": (lambda: _film("mp4", "libx264", "aac"), lambda: _worded("mp4", "mov_text")),
    "mov": (lambda: _film("mov", "mpeg4", "pcm_s16le"), lambda: _film("mov", "libx264", "aac", movflags="faststart")),
    "mkv": (lambda: _film("matroska", "libx264", "libmp3lame"), lambda: _worded("matroska", "subrip")),
    "webm": (lambda: _film("webm", "libvpx", "libopus"), lambda: _film("webm", "libvpx-vp9", "libopus")),
    "avi": (lambda: _film("avi", "mpeg4", "libmp3lame"), lambda: _film("avi", "mpeg2video", "libmp3lame")),
    "wav": (
        lambda: sound_bytes(TONES, 16_000, 2),
        lambda: sound_bytes(TONES, 44_100, subtype="FLOAT"),
        lambda: sound_bytes(TONES, 16_000, subtype="IMA_ADPCM"),
    ),
    "mp3": (lambda: _song("mp3", "libmp3lame"),),
    "flac": (lambda: _song("flac", "flac"),),
    "ogg": (lambda: _song("ogg", "vorbis"),),
    "opus": (lambda: _song("ogg", "libopus"),),
    "m4a": (lambda: _song("ipod", "aac"), lambda: _song("ipod", "alac")),
    "txt": (
        lambda: b"A note about a lighthouse.\n\nAnd \xc5\xbelu\xc5\xa5ou\xc4\x8dk\xc3\xbd k\xc5\xaf\xc5\x88.\n" * 4,
    ),
    "srt": (lambda: _SRT.encode(),),
    "vtt": (lambda: _VTT.encode(),),
    "md": (lambda: _MARKDOWN.encode(),),
    "json": (lambda: _CAPTION.encode(),),
}
"""The good files of each format; `json` and a picture beside it are a caption."""
FORMATS = tuple(name for name in SEEDS if name != "json")


Wound = Callable[[bytes, Sequence[bytes], random.Random], bytes]
"""What damages a file; it may take from the good files of its format."""


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Return the good files of a format."""
    return tuple(make() for make in SEEDS[kind])


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file by its name, and what was done to it."""

    name: str
    content: bytes
    wound: str


def mutants(kind: str, numbers: range) -> Iterator[Mutant]:
    """Yield mutants of a format by their numbers."""
    for number in numbers:
        chance = random.Random(f"{kind} {number}")
        every = seeds(kind)
        seed = every[number % len(every)]
        wound: Wound = chance.choice(WOUNDS)
        content: bytes = wound(seed, every, chance)
        if chance.random() < 0.5:  # a second wound, as real damage has
            content = chance.choice(WOUNDS)(content, every, chance)
        if kind in ("ogg", "opus"):
            content = with_ogg_checksums(content)
        if kind == "png" and chance.random() < 0.8:
            content = with_png_checksums(content)
        yield Mutant(f"{kind}-{number:05d}.{kind}", content, getattr(wound, "__name__", "").strip("_"))


# Wounds

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 2**63)


def _place(content: bytes, chance: random.Random) -> int:
    """Return a place in a file; a third of them in its head, where formats keep what they say of themselves."""
    return chance.randrange(max(1, min(len(content), 256) if chance.random() < 0.33 else len(content)))


def _bits(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    hurt = bytearray(content)
    for _ in range(chance.choice((1, 1, 4, 32)) if hurt else 0):
        hurt[_place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(hurt)


def _octets(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    hurt = bytearray(content)
    for _ in range(chance.choice((1, 4, 16)) if hurt else 0):
        hurt[_place(content, chance)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(hurt)


def _cut(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    return content[: 1 + _place(content, chance)]


def _splice(content: bytes, every: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(every)
    return content[: _place(content, chance)] + other[_place(other, chance) :]


def _number(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Put an extreme number where a length, a size or a count may stand."""
    at, width = _place(content, chance), chance.choice((2, 4, 4, 8))
    value: int = chance.choice(_EXTREMES) & (2 ** (8 * width) - 1)
    return content[:at] + value.to_bytes(width, "little" if chance.random() < 0.5 else "big") + content[at + width :]


def _twice(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at, long = _place(content, chance), chance.choice((4, 16, 64, 256, 1024))
    return content[: at + long] + content[at : at + long] * chance.choice((1, 1, 50)) + content[at + long :]


def _without(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at = _place(content, chance)
    return content[:at] + content[at + chance.choice((1, 4, 16, 64, 256)) :]


def _blank(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at, long = _place(content, chance), chance.choice((4, 16, 64, 256))
    return content[:at] + chance.choice((b"\0", b"\xff"))[:1] * long + content[at + long :]


def _foreign(content: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at = _place(content, chance)
    return content[:at] + chance.randbytes(chance.choice((1, 4, 64))) + content[at:]


WOUNDS: tuple[Wound, ...] = (_bits, _octets, _cut, _splice, _number, _twice, _without, _blank, _foreign)


# Checksums, so that a wound reaches the decoder

_OGG_POLYNOMIAL = 0x04C11DB7


@cache
def _ogg_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        value = octet << 24
        for _ in range(8):
            value = (value << 1 ^ _OGG_POLYNOMIAL if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


def with_ogg_checksums(content: bytes) -> bytes:
    """Return an Ogg file whose pages have the checksums of what they hold (RFC 3533, section 6)."""
    mended, table = bytearray(content), _ogg_table()
    at = mended.find(b"OggS")
    while at >= 0 and at + 27 <= len(mended):
        head = at + 27 + mended[at + 26]
        end = min(head + sum(mended[at + 27 : head]), len(mended))
        mended[at + 22 : at + 26] = bytes(4)
        value = 0
        for octet in mended[at:end]:
            value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ octet]
        mended[at + 22 : at + 26] = struct.pack("<I", value)
        at = mended.find(b"OggS", max(end, at + 4))
    return bytes(mended)


def with_png_checksums(content: bytes) -> bytes:
    """Return a PNG file whose chunks have the checksums of what they hold."""
    mended, at = bytearray(content), 8
    while at + 12 <= len(mended):
        (length,) = struct.unpack(">I", mended[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(mended[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def captioned(numbers: range) -> Iterator[Mutant]:
    """Yield pictures with a damaged caption beside each."""
    for mutant in mutants("json", numbers):
        picture = encoded(noise(int(mutant.name[5:10]) + 10_000, 8, 8), "PNG")
        yield Mutant(mutant.name.replace(".json", ".png"), picture, "none")
        yield mutant
