"""What kind a file is: its extension promises it, and its first bytes decide."""

from __future__ import annotations

import pytest
from support.media_maker import bmp_header, encoded, heic, quarters

from mmsearch.media.kinds import EXTENSIONS, HEAD_BYTES, by_name, resolve, sniff
from mmsearch.types import Modality

AUDIO, IMAGE, TEXT, VIDEO = Modality.AUDIO, Modality.IMAGE, Modality.TEXT, Modality.VIDEO

CONTRACT = {
    IMAGE: "jpg jpeg png webp gif tiff bmp heic heif avif",
    VIDEO: "mp4 mov mkv webm avi m4v",
    AUDIO: "wav mp3 flac ogg opus m4a aac",
    TEXT: "txt md srt vtt org rst html pdf docx",
}
PROMISED = [(extension, modality) for modality, names in CONTRACT.items() for extension in names.split()]

HEADS = {
    **{kind: encoded(quarters(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")},
    "HEIC": heic(),
    "wav": b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0",
    "avi": b"RIFF\x24\x08\0\0AVI LIST\x10\0\0\0",
    "mkv": b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01",
    "mp4": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
    "mov": b"\0\0\0\x14ftypqt  \0\0\x02\0qt  ",
    "m4a": b"\0\0\0\x20ftypM4A \0\0\x02\0M4A isomiso2",
    "ogg": b"OggS\0\x02" + bytes(20),
    "flac": b"fLaC\0\0\0\x22" + bytes(20),
    "mp3 with tags": b"ID3\x03\0\0\0\0\0\x23" + bytes(20),
    "mp3": b"\xff\xfb\x90\x64" + bytes(20),
    "aac": b"\xff\xf1\x50\x80" + bytes(20),
}


def head(kind: str) -> bytes:
    return HEADS[kind][:HEAD_BYTES]


@pytest.mark.parametrize(("extension", "modality"), PROMISED)
def test_every_extension_of_the_contract_is_known_in_any_case(extension: str, modality: Modality) -> None:
    assert by_name(f"a.{extension}") is modality
    assert by_name(f"a b.{extension.upper()}".encode()) is modality


MORE = {"tif", "ass", "ssa", "lrc", "sbv", "pptx", "odt", "odp", "epub", "htm", "xhtml", "csv", "tsv", "eml", "mbox"}


def test_no_extension_is_known_beyond_the_contract_but_tif_and_more_subtitles_and_documents() -> None:
    assert set(EXTENSIONS) - {extension for extension, _ in PROMISED} == MORE


@pytest.mark.parametrize("name", ["jpg", "a", ".jpg", "a.jpg.part", "a.xls", "a.", "", "a.jpg~", "photos.jpg/readme"])
def test_other_names_promise_nothing(name: str) -> None:
    assert by_name(name) is None


@pytest.mark.parametrize("name", [b"\xff\xfe.jpg", b"a\nb.jpg", b"a.b.c.jpg", b"folder.txt/a.jpg", b"-.jpg"])
def test_odd_names_are_known_by_their_extension(name: bytes) -> None:
    assert by_name(name) is IMAGE


@pytest.mark.parametrize(
    ("kind", "modality"),
    [
        *((kind, IMAGE) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIC")),
        *((kind, AUDIO) for kind in ("wav", "ogg", "flac", "mp3", "mp3 with tags", "aac", "m4a")),
        *((kind, VIDEO) for kind in ("avi", "mkv", "mp4", "mov")),
    ],
)
def test_the_first_bytes_show_what_a_file_is(kind: str, modality: Modality) -> None:
    assert sniff(head(kind)) is modality


@pytest.mark.parametrize("raw", [b"", b"\xff", b"hello there, this is a text", bytes(32), "Žluťoučký kůň".encode()])
def test_first_bytes_of_texts_and_of_nothing_show_nothing(raw: bytes) -> None:
    assert sniff(raw) is None


@pytest.mark.parametrize(
    ("name", "kind", "modality"),
    [
        ("a.jpg", "PNG", IMAGE),
        ("a.txt", "JPEG", IMAGE),
        ("a.txt", "PNG", IMAGE),
        ("a.md", "WEBP", IMAGE),
        ("a.mp4", "JPEG", IMAGE),
        ("a.wav", "PNG", IMAGE),
        ("a.jpg", "mp4", VIDEO),
        ("a.jpg", "wav", AUDIO),
        ("a.jpg", "mkv", VIDEO),
        ("a.txt", "wav", AUDIO),
        ("a.txt", "mp4", VIDEO),
        ("a.srt", "mkv", VIDEO),
    ],
)
def test_the_content_wins_over_a_name_that_lies(name: str, kind: str, modality: Modality) -> None:
    assert resolve(name, head(kind)) is modality


@pytest.mark.parametrize(
    ("name", "kind", "modality"),
    [
        ("a.ogg", "ogg", AUDIO),
        ("a.opus", "ogg", AUDIO),
        ("a.mp4", "m4a", VIDEO),
        ("a.m4a", "mp4", AUDIO),
        ("a.m4v", "mp4", VIDEO),
        ("a.webm", "mkv", VIDEO),
        ("a.mov", "mov", VIDEO),
        ("a.aac", "m4a", AUDIO),
    ],
)
def test_where_a_container_holds_sound_or_pictures_the_name_decides(name: str, kind: str, modality: Modality) -> None:
    assert resolve(name, head(kind)) is modality


@pytest.mark.parametrize(("extension", "modality"), PROMISED)
def test_where_the_content_shows_nothing_the_name_decides(extension: str, modality: Modality) -> None:
    assert resolve(f"a.{extension}", b"just some words, and more of them") is modality


@pytest.mark.parametrize(("kind", "modality"), [("JPEG", IMAGE), ("mp4", VIDEO), ("wav", AUDIO)])
def test_a_name_that_promises_nothing_leaves_it_to_the_content(kind: str, modality: Modality) -> None:
    assert resolve("photo-without-extension", head(kind)) is modality
    assert resolve("a.dat", head(kind)) is modality


def test_where_neither_name_nor_content_speaks_a_file_is_of_no_kind() -> None:
    assert resolve("a.dat", b"just some words") is None


@pytest.mark.parametrize(
    "words",
    [
        "BMW drivers meet on Sunday",
        "ID3 tags are explained here",
        "What is WEBP? A kind of picture.",
        "The big WAVE came at noon.",
        "He read AVI, then left: no, AVI ",
        "The ftyp box names the brand.",
        "GIF89a is how such a file begins.",
        "OggS is written at every page.",
        "fLaC begins a lossless sound file",
    ],
)
def test_a_text_that_happens_to_begin_like_another_kind_stays_a_text(words: str) -> None:
    assert resolve("note.txt", words.encode()[:HEAD_BYTES]) is TEXT
    assert resolve("note.md", words.encode()[:HEAD_BYTES]) is TEXT


def test_a_bitmap_named_as_a_picture_is_one() -> None:
    assert resolve("a.png", bmp_header(4, 4)[:HEAD_BYTES]) is IMAGE
