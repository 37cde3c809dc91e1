"""One folder of broken and odd files among good ones, indexed by the real thing: nothing bad spoils anything good."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import REPOSITORY, children
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
from support.traps import Trap, TrapSpace

import mmsearch
from indexer import IndexOptions, named_scope, run
from mmsearch import Failure, IndexReport, Library, Limits, MMSearchError, Modality, Progress, Settings, Stage, View
from mmsearch.catalog import Catalog
from mmsearch.media import EXTENSIONS
from mmsearch.spaces import Profile

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names, pipes and sockets as POSIX systems have them")

IMAGES = [extension for extension, modality in EXTENSIONS.items() if modality is Modality.IMAGE]
TEXTS = [extension for extension, modality in EXTENSIONS.items() if modality is Modality.TEXT]
SETTINGS = Settings(workers=2)
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
    made.add(made.broken, "bombs/long.txt", b"word " * (33 * 2**20 // 5))
    made.add(made.broken, "bombs/passages.txt", b"Stop.\n\n" * 25_000)


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


@dataclass(frozen=True, slots=True)
class Indexed:
    """A library that has seen the folder once."""

    hostile: Hostile
    library: Library
    report: IndexReport


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    return make(tmp_path_factory.mktemp("hostile") / "folder")


@pytest.fixture(scope="module")
def indexed(hostile: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    with mmsearch.open(tmp_path_factory.mktemp("library") / "lib", model="hashing", settings=SETTINGS) as library:
        yield Indexed(hostile, library, library.index(hostile.folder))


def names(hostile: Hostile, failures: Sequence[Failure]) -> set[str]:
    return {os.path.relpath(failure.path, hostile.folder) for failure in failures}


def test_the_folder_holds_more_than_a_hundred_broken_files(hostile: Hostile) -> None:
    assert len(hostile.broken | hostile.captions) > 100


def test_exactly_the_broken_files_are_failures(indexed: Indexed) -> None:
    hostile, failures = indexed.hostile, indexed.library.failures()
    failed = names(hostile, failures)
    assert sorted(failed - hostile.broken - hostile.captions) == []
    assert sorted((hostile.broken | hostile.captions) - failed) == []
    assert len(failures) == len(failed)
    assert set(indexed.report.failures) == set(failures)
    assert indexed.report.failed == len(failures)


def test_every_reason_is_one_short_line_for_people(indexed: Indexed) -> None:
    for failure in indexed.library.failures():
        assert failure.reason.isprintable(), failure
        assert 5 < len(failure.reason) < 260, failure
        assert not re.search(r"Traceback|Error\b|0x[0-9a-f]{6}|crashed|^can't be decoded", failure.reason), failure


def test_the_reason_names_what_is_wrong(indexed: Indexed) -> None:
    reasons = {os.path.relpath(f.path, indexed.hostile.folder): f.reason for f in indexed.library.failures()}
    for name, words in {
        "bombs/header.png": "100000 x 100000 pixels",
        "bombs/header.gif": "65535 x 65535 pixels",
        "bombs/16000.png": "16000 x 16000 pixels",
        "bombs/long.txt": "larger than 32 MB",
        "bombs/passages.txt": "more than 20000 passages",
        "empty/jpg.jpg": "empty",
        "blank/txt.txt": "no words",
        "zeros/txt.txt": "binary",
        "captions/invalid-json.json": "JSON",
        "liars/clip.png": "no sound or video",
        "liars/sound.jpg": "no sound or video",
        "truncated/png-40.png": "truncated",
        "odd/dangling.jpg": "leads nowhere",
    }.items():
        assert words in reasons[name], name


def test_exactly_what_can_be_read_is_in_the_library(indexed: Indexed) -> None:
    hostile = indexed.hostile
    with closing(Catalog(indexed.library.folder / "catalog.sqlite", create=False)) as catalog:
        rows = catalog.media_under(os.fsencode(hostile.folder))
        held = [os.path.relpath(os.fsdecode(row.path), hostile.folder) for row in rows]
    assert sorted(held) == sorted({*GOOD, *hostile.readable})
    assert indexed.report.added == len(held)
    assert not set(held) & hostile.ignored


@pytest.mark.parametrize("name", GOOD)
def test_everything_good_is_found_first(indexed: Indexed, name: str) -> None:
    path = indexed.hostile.path(name)
    hits = indexed.library.query(GOOD[name], k=3, modalities={EXTENSIONS[path.suffix[1:]]})
    assert hits[0].path == path


def test_a_picture_with_a_broken_caption_is_still_found(indexed: Indexed) -> None:
    path = indexed.hostile.path("captions/bomb-json.png")
    assert indexed.library.query(path, k=1)[0].path == path


def test_a_file_that_holds_another_kind_is_what_it_holds(indexed: Indexed) -> None:
    path = indexed.hostile.path("liars/picture.txt")
    hits = indexed.library.query(path, k=1)
    assert (hits[0].path, hits[0].modality) == (path, Modality.IMAGE)


def test_a_huge_line_is_found_by_its_words(indexed: Indexed) -> None:
    hits = indexed.library.query("many words many words", k=1, modalities={"text"})
    assert hits[0].path == indexed.hostile.path("texts/one-line.txt")


def test_a_second_run_finds_nothing_to_do_and_tries_nothing_again(indexed: Indexed) -> None:
    before = indexed.library.failures()
    report = indexed.library.index(indexed.hostile.folder)
    assert (report.added, report.updated, report.reused, report.removed) == (0, 0, 0, 0)
    # Only what can't even be looked at is noticed anew: that costs nothing.
    assert {failure.stage for failure in report.failures} == {Stage.SCAN}
    assert names(indexed.hostile, report.failures) == {"odd/dangling.jpg", "odd/self.jpg", "odd/long.png"}
    assert indexed.library.failures() == before


@pytest.fixture(scope="module")
def retried(indexed: Indexed) -> tuple[IndexReport, list[Failure]]:
    before = indexed.library.failures()
    return indexed.library.index(indexed.hostile.folder, retry=True), before


def test_retry_tries_every_broken_file_again(indexed: Indexed, retried: tuple[IndexReport, list[Failure]]) -> None:
    report, before = retried
    assert sorted(indexed.hostile.broken - names(indexed.hostile, report.failures)) == []
    assert (report.added, report.removed) == (0, 0)
    assert indexed.library.failures() == before


def test_retry_tries_broken_captions_again(indexed: Indexed, retried: tuple[IndexReport, list[Failure]]) -> None:
    report, _ = retried
    assert sorted(indexed.hostile.captions - names(indexed.hostile, report.failures)) == []


def mmsearch_cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmsearch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)


def test_the_command_line_exits_0_and_lists_every_failure(hostile: Hostile, tmp_path: Path) -> None:
    excluded = ("bombs", "truncated")  # the Python run has seen these
    done = mmsearch_cli(
        *("index", hostile.folder, "--library", tmp_path / "lib", "--model", "hashing", "--workers", "2", "--json"),
        *(part for name in excluded for part in ("--exclude", name)),
    )
    assert done.stderr == ""
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    listed = {os.path.relpath(failure["path"], hostile.folder) for failure in report["failures"]}
    expected = {name for name in hostile.broken | hostile.captions if not name.startswith(excluded)}
    assert sorted(listed) == sorted(expected)
    assert report["failed"] == len(report["failures"]) == len(expected)
    assert all(failure["stage"] in {*Stage} and "\n" not in failure["reason"] for failure in report["failures"])


def test_names_of_broken_files_can_not_steer_the_terminal(tmp_path: Path) -> None:
    for name in (b"\x1b[31mred.jpg", b"two\nlines.jpg", b"\xff.jpg", b"\xc2\x9b31m.jpg"):
        put(tmp_path / "folder", name, b"broken")
    done = mmsearch_cli("index", tmp_path / "folder", "--library", tmp_path / "lib", "--model", "hashing")
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert r"\x1b[31mred.jpg" in said
    assert re.search(r"two(\\n| )lines\.jpg", said)
    assert all(line.isprintable() for line in said.splitlines())


def test_a_decoder_that_hangs_dies_or_swallows_memory_costs_only_its_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    traps = ("hang", "spin", "die", "leave", "swallow", "raise")
    for trap in traps:
        put(folder, f"{trap}.txt", trap)
    for i in range(30):
        put(folder, f"good-{i}.txt", f"note {i}")
    settings = Settings(workers=2, limits=Limits(decode_s=2))
    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as catalog:
        report = run(catalog, Profile("trap", (TrapSpace(),)), named_scope(catalog, [folder]), settings, IndexOptions())
        held = {os.fsdecode(row.path) for row in catalog.media_under(os.fsencode(folder))}
    assert held == {str(folder / f"good-{i}.txt") for i in range(30)}
    assert report.added == 30
    reasons = {failure.path.stem: failure.reason for failure in report.failures}
    assert set(reasons) == set(traps)
    assert {failure.stage for failure in report.failures} == {Stage.DECODE}
    assert "more than 2 s" in reasons["hang"]
    assert "more than 2 s" in reasons["spin"]
    assert "was killed, most likely because memory ran out" in reasons["die"]
    assert "crashed" in reasons["leave"]
    assert "more than 1.5 GB" in reasons["swallow"]
    assert "KeyError" in reasons["raise"]
    assert all("\n" not in reason for reason in reasons.values())


def test_a_broken_caption_stays_a_failure_when_its_picture_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    picture = put(folder, "a.png", encoded(quarters(), "PNG"))
    caption = put(folder, "a.json", "{broken")
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=SETTINGS) as library:
        library.index(folder)
        assert [failure.path for failure in library.failures()] == [caption]
        os.utime(picture)
        library.index(folder)
        assert [failure.path for failure in library.failures()] == [caption]
        caption.write_text('{"caption": "mended"}')
        assert library.index(folder).failed == 0
        assert library.failures() == []
        assert library.query("mended", k=1)[0].text == "mended"


class Stillborn(Trap):
    """A front end that no worker survives receiving."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _die_unless, (os.getpid(),)


def _die_unless(parent: int) -> Stillborn:
    if os.getpid() != parent:
        os._exit(7)
    return Stillborn()


def test_workers_that_cannot_live_are_no_files_fault(tmp_path: Path) -> None:
    for i in range(40):
        put(tmp_path / "folder", f"good-{i}.txt", f"note {i}")
    space = TrapSpace()
    space.front_ends = {View.TEXT: Stillborn()}
    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as catalog:
        scope = named_scope(catalog, [tmp_path / "folder"])
        with pytest.raises(MMSearchError, match="can't be kept alive"):
            run(catalog, Profile("trap", (space,)), scope, Settings(workers=2), IndexOptions())
        assert catalog.failures_under() == []
        report = run(catalog, Profile("trap", (TrapSpace(),)), scope, Settings(), IndexOptions())
    assert (report.added, report.failed) == (40, 0)


def test_a_worker_killed_from_outside_costs_no_file(tmp_path: Path) -> None:
    for i in range(60):
        put(tmp_path / "folder", f"good-{i}.txt", f"note {i}")
    killed: list[int] = []

    def kill_one(_state: Progress) -> None:
        workers = [child for child in children() if child not in killed]
        if workers and len(killed) < 3:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as catalog:
        profile = Profile("trap", (TrapSpace(),))
        settings = Settings(workers=2, batch=4)
        report = run(
            catalog, profile, named_scope(catalog, [tmp_path / "folder"]), settings, IndexOptions(), progress=kill_one
        )
    assert killed
    assert (report.added, report.failed) == (60, 0)
