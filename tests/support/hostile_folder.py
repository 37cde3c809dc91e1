"""A folder of broken and odd files among good ones, and what must become of each of them."""

from __future__ import annotations

import os
import random
import stat
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from mmsearch import Modality
from mmsearch.media import EXTENSIONS
from support.media_maker import (
    COLOURS,
    HUGE,
    bmp_header,
    deflate_bomb,
    encoded,
    exif,
    gif_header,
    heic,
    noise,
    plain,
    png,
    png_chunk,
    put,
    quarters,
    tiff_header,
    with_iptc,
    with_segment,
)

IMAGES = [extension for extension, modality in EXTENSIONS.items() if modality is Modality.IMAGE]
TEXTS = [extension for extension, modality in EXTENSIONS.items() if modality is Modality.TEXT]
NOTES = {
    "good/zebra.txt": "The zebra grazes beside the waterhole.",
    "good/lantern.md": "# Lantern\n\nA lantern hangs above the harbour.",
    "good/cue.srt": "1\n00:00:01,000 --> 00:00:02,000\nBring the umbrella.\n",
    "good/speech.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\nThe violin is out of tune.\n",
}
GOOD = {
    **{f"good/{colour}.png": colour for colour in COLOURS},
    "good/zebra.txt": "a zebra at the waterhole",
    "good/lantern.md": "lantern above the harbour",
    "good/cue.srt": "umbrella",
    "good/speech.vtt": "violin out of tune",
    "good/captioned.jpg": "giraffe at noon",
}
"""File → words that must find it, first."""


@dataclass(slots=True)
class Hostile:
    """The folder, and what must become of every name in it."""

    folder: Path
    readable: set[str] = field(default_factory=set)
    """Odd, but a picture or a text all the same."""
    broken: set[str] = field(default_factory=set)
    """Must stand in the failures."""
    captions: set[str] = field(default_factory=set)
    """Broken captions of good pictures: they stand in the failures, the pictures in the library."""
    ignored: set[str] = field(default_factory=set)
    """Neither media nor failures."""

    def path(self, name: str) -> Path:
        return self.folder / name

    def add(self, fate: set[str], name: str | bytes, content: bytes | str) -> None:
        put(self.folder, name, content)
        fate.add(os.fsdecode(name))


def make_good(made: Hostile) -> None:
    for colour, value in COLOURS.items():
        put(made.folder, f"good/{colour}.png", encoded(plain(value), "PNG"))
    for name, words in NOTES.items():
        put(made.folder, name, words)
    put(made.folder, "good/captioned.jpg", encoded(quarters(), "JPEG"))
    put(made.folder, "good/captioned.txt", "Giraffe at noon")


def make_truncated(made: Hostile) -> None:
    for kind in ("jpeg", "png", "webp", "tiff", "bmp", "avif", "gif"):
        whole = encoded(noise(len(kind) + ord(kind[0])), kind)
        for percent in (1, 10, 40, 70, 95):
            made.add(made.broken, f"truncated/{kind}-{percent}.{kind}", whole[: max(4, len(whole) * percent // 100)])
    for percent in (10, 40, 90):
        made.add(made.broken, f"truncated/heic-{percent}.heic", heic()[: len(heic()) * percent // 100])


def make_nonsense(made: Hostile) -> None:
    draw = random.Random(1)
    for extension in IMAGES:
        made.add(made.broken, f"empty/{extension}.{extension}", b"")
        made.add(made.broken, f"random/{extension}.{extension}", draw.randbytes(4096))
        made.add(made.broken, f"zeros/{extension}.{extension}", bytes(4096 + len(made.broken)))
        made.add(made.broken, f"words/{extension}.{extension}", f"This is no {extension} but a sentence.")
    for extension in TEXTS:
        made.add(made.broken, f"empty/{extension}.{extension}", b"")
        made.add(made.broken, f"random/{extension}.{extension}", draw.randbytes(4096))
        made.add(made.broken, f"zeros/{extension}.{extension}", bytes(5096 + len(made.broken)))
        made.add(made.broken, f"blank/{extension}.{extension}", b" \n\t\r\n" * (1 + len(made.broken)))
    made.add(made.broken, "random/mark.txt", b"\xff\xfe" + draw.randbytes(4097))


def make_bombs(made: Hostile) -> None:
    made.add(made.broken, "bombs/header.png", png(HUGE, HUGE, zlib.compress(b"\0")))
    made.add(made.broken, "bombs/header.bmp", bmp_header(HUGE, HUGE))
    made.add(made.broken, "bombs/header.tiff", tiff_header(HUGE, HUGE))
    made.add(made.broken, "bombs/header.gif", gif_header(65_535, 65_535))
    made.add(made.broken, "bombs/16000.png", png(16_000, 16_000, deflate_bomb(16_000 * 16_001)))
    made.add(made.readable, "bombs/10000.png", png(10_000, 10_000, deflate_bomb(10_000 * 10_001)))
    made.add(made.readable, "bombs/overfull.png", png(8, 8, deflate_bomb(500 * 2**20)))
    text = png_chunk(b"zTXt", b"Title\0\0" + deflate_bomb(200 * 2**20))
    made.add(made.broken, "bombs/text.png", png(2, 2, zlib.compress(bytes(6)), extra=text))
    colours = png_chunk(b"iCCP", b"icc\0\0" + deflate_bomb(200 * 2**20))
    made.add(made.broken, "bombs/colours.png", png(2, 2, zlib.compress(bytes(6)), extra=colours))


def make_liars(made: Hostile) -> None:
    kinds = {"jpg": "PNG", "png": "JPEG", "gif": "WEBP", "webp": "GIF", "tiff": "BMP", "bmp": "TIFF", "heic": "AVIF"}
    for i, (extension, kind) in enumerate(kinds.items()):
        made.add(made.readable, f"liars/{kind}.{extension}", encoded(noise(100 + i), kind))
    made.add(made.readable, "liars/picture.txt", encoded(noise(120), "JPEG"))
    made.add(made.readable, "liars/picture.srt", encoded(noise(121), "PNG"))
    made.add(made.readable, "liars/heic.jpg", heic())
    made.add(made.broken, "liars/sound.jpg", b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0" + bytes(64))
    made.add(made.broken, "liars/clip.png", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(64))
    made.add(made.broken, "liars/program.jpg", b"\x7fELF\x02\x01\x01" + bytes(64))
    made.add(made.broken, "liars/archive.png", b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(64))
    made.add(made.broken, "liars/page.jpg", "<!doctype html><title>Not found</title>")
    made.add(
        made.broken, "liars/script.gif", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    made.add(made.broken, "liars/pointer.jpg", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    made.add(made.broken, "liars/pages.txt", b"%PDF-1.7\n%\0\xe2\xe3\xcf\xd3\n")


def make_damaged(made: Hostile) -> None:
    """Files with a wound that a reader survives, or doesn't."""
    jpeg = encoded(noise(200), "JPEG")
    for i, body in enumerate(
        (
            b"Exif\0\0" + b"\xff" * 64,
            b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20),
            b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x0e\x01\x02\0\xff\xff\xff\x7f\x08\0\0\0" * 4,
            b"Exif\0\0",
        )
    ):
        made.add(made.readable, f"damaged/exif-{i}.jpg", with_segment(encoded(noise(201 + i), "JPEG"), 0xE1, body))
    broken_iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06abcdef"
    made.add(made.readable, "damaged/iptc.jpg", with_segment(encoded(noise(210), "JPEG"), 0xED, broken_iptc))
    steering = with_iptc(encoded(noise(211), "JPEG"), 120, b"\x1b[31mred\x07\0\xff\xfe" * 50)
    made.add(made.readable, "damaged/steering.jpg", steering)
    turned = encoded(noise(212), "JPEG", exif=exif(orientation=999, description="x" * 60_000))
    made.add(made.readable, "damaged/orientation.jpg", turned)
    made.add(made.readable, "damaged/trailing.jpg", encoded(noise(213), "JPEG") + bytes(100_000))
    made.add(made.broken, "damaged/leading.jpg", b"junk" + jpeg)
    flipped = bytearray(encoded(noise(214), "PNG"))
    flipped[len(flipped) // 2] ^= 0xFF
    made.add(made.broken, "damaged/flipped.png", bytes(flipped))
    made.add(made.broken, "damaged/no-size.png", png(0, 10, b""))
    made.add(made.broken, "damaged/no-data.png", png(10, 10, b""))
    made.add(made.broken, "damaged/bad-data.png", png(10, 10, b"not deflated"))
    made.add(made.readable, "damaged/one-pixel.png", encoded(plain((1, 2, 3), 1, 1), "PNG"))
    made.add(made.readable, "damaged/thread.png", encoded(noise(215, 20_000, 1), "PNG"))


def make_captions(made: Hostile) -> None:
    bodies: dict[str, bytes] = {
        "bomb.json": b"[" * 200_000,
        "object-bomb.json": b'{"caption":' * 200_000,
        "invalid.json": b"{'caption': no}",
        "empty.json": b"",
        "binary.json": bytes(range(256)),
        "binary.txt": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "mark.txt": b"\xff\xfe\x00\xd8",
    }
    for i, (name, body) in enumerate(bodies.items()):
        picture = f"captions/{name.replace('.', '-')}"
        made.add(made.readable, picture + ".png", encoded(noise(300 + i), "PNG"))
        made.add(made.captions, f"{picture}.{name.split('.')[1]}", body)
    for i, escape in enumerate((rb"\ud83c", rb"\udcff", rb"\u0000", rb"\u001b[31m")):
        made.add(made.readable, f"captions/odd-{i}.png", encoded(noise(320 + i), "PNG"))
        made.add(made.ignored, f"captions/odd-{i}.json", b'{"caption": "party ' + escape + b'"}')
    for i, kind in enumerate(("folder", "pipe", "dangling")):
        made.add(made.readable, f"captions/{kind}.png", encoded(noise(330 + i), "PNG"))
    made.path("captions/folder.txt").mkdir()
    os.mkfifo(made.path("captions/pipe.txt"))
    made.path("captions/dangling.txt").symlink_to("nowhere")


def make_texts(made: Hostile) -> None:
    made.add(made.readable, "texts/one-word.txt", b"x" * 2**20)
    made.add(made.readable, "texts/one-line.txt", b"many words " * (2**20 // 11))
    made.add(made.readable, "texts/marks.srt", b"a" + b"<" * 2**18)
    made.add(made.readable, "texts/utf-16.txt", "Žluťoučký kůň".encode("utf-16"))
    made.add(made.readable, "texts/cp1252.txt", "Käse für Günther".encode("cp1252"))
    made.add(made.readable, "texts/controls.txt", b"\x1b[31mred alert\x07\x08 \x7f")
    made.add(made.readable, "texts/wave.txt", "The big WAVE came at noon.")
    made.add(made.readable, "texts/zalgo.txt", "ze" + "\u0334\u0301\u0316" * 50_000)


def make_names(made: Hostile) -> None:
    for i, name in enumerate(
        (b"two\nlines", b"\x1b[31mred", b"caf\xe9", b"\xff\xfe", b"-rf", b" ", b"a'b\"c", b"\xf0\x9f\x8e\x89")
    ):
        made.add(made.readable, b"names/good " + name + b".png", encoded(noise(400 + i), "PNG"))
        made.add(made.broken, b"names/" + name + b".jpg", b"broken %d" % i)
    made.add(made.readable, "names/" + "n" * 251 + ".png", encoded(noise(420), "PNG"))


def make_odd_files(made: Hostile) -> None:
    odd = made.path("odd")
    made.add(made.readable, "odd/photo.jpg/inside.png", encoded(noise(500), "PNG"))
    os.mkfifo(odd / "x.jpg")
    os.mknod(odd / "socket.jpg", 0o600 | stat.S_IFSOCK)
    (odd / "zero.png").symlink_to("/dev/zero")
    (odd / "up").symlink_to("..")
    (odd / "a").symlink_to("b")
    (odd / "b").symlink_to("a")
    made.ignored |= {"odd/x.jpg", "odd/socket.jpg", "odd/zero.png", "odd/up", "odd/a", "odd/b"}
    for name, target in (("dangling.jpg", "nowhere"), ("self.jpg", "self.jpg"), ("long.png", "x" * 300)):
        (odd / name).symlink_to(target)
        made.broken.add(f"odd/{name}")
    for name in ("._a.jpg", ".hidden.png", "notes.pdf", "noextension"):
        made.add(made.ignored, f"odd/{name}", b"whatever it is")
    for name in ("clip.mp4", "sound.wav"):
        made.add(made.broken, f"odd/{name}", b"whatever it is")
    made.add(made.readable, "odd/locked.png", encoded(noise(501), "PNG"))
    locked = made.path("odd/locked.png")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root may read it all the same
        made.readable.remove("odd/locked.png")
        made.broken.add("odd/locked.png")


def make(folder: Path) -> Hostile:
    made = Hostile(folder)
    for part in (
        make_good,
        make_truncated,
        make_nonsense,
        make_bombs,
        make_liars,
        make_damaged,
        make_captions,
        make_texts,
        make_names,
        make_odd_files,
    ):
        part(made)
    return made
