"""Which files are media: by extension first, and by content where the name lies."""

from __future__ import annotations

import os
import re

from mmsearch.types import Modality

DOCUMENTS = (
    "pdf",
    "docx",
    "pptx",
    "odt",
    "odp",
    "epub",
    "html",
    "htm",
    "xhtml",
    "org",
    "rst",
    "csv",
    "tsv",
    "eml",
    "mbox",
)
"""Texts that have to be taken out of something: see `documents`."""
EXTENSIONS: dict[str, Modality] = {
    **dict.fromkeys(
        ("jpg", "jpeg", "png", "webp", "gif", "tiff", "tif", "bmp", "heic", "heif", "avif"), Modality.IMAGE
    ),
    **dict.fromkeys(("mp4", "mov", "mkv", "webm", "avi", "m4v"), Modality.VIDEO),
    **dict.fromkeys(("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"), Modality.AUDIO),
    **dict.fromkeys(("txt", "md", "srt", "vtt", "ass", "ssa", "lrc", "sbv", *DOCUMENTS), Modality.TEXT),
}
"""Every extension that the contract names, with the modality it promises."""

HEAD_BYTES = 32
"""How much of a file `sniff` looks at."""

_MAGIC: tuple[tuple[int, bytes, Modality], ...] = (
    (0, b"\xff\xd8\xff", Modality.IMAGE),  # JPEG
    (0, b"\x89PNG\r\n\x1a\n", Modality.IMAGE),
    (0, b"GIF8", Modality.IMAGE),
    (0, b"BM", Modality.IMAGE),
    (0, b"%PDF-", Modality.TEXT),
    (0, b"II*\0", Modality.IMAGE),  # TIFF, little-endian
    (0, b"MM\0*", Modality.IMAGE),  # TIFF, big-endian
    (8, b"WEBP", Modality.IMAGE),
    (8, b"WAVE", Modality.AUDIO),
    (8, b"AVI ", Modality.VIDEO),
    (0, b"\x1aE\xdf\xa3", Modality.VIDEO),  # Matroska, WebM
    (0, b"OggS", Modality.AUDIO),
    (0, b"fLaC", Modality.AUDIO),
    (0, b"ID3", Modality.AUDIO),
    (0, b"\xff\xfb", Modality.AUDIO),  # MPEG-1 layer III without tags
    (0, b"\xff\xf3", Modality.AUDIO),
    (0, b"\xff\xf1", Modality.AUDIO),  # AAC in ADTS
    (0, b"\xff\xf9", Modality.AUDIO),
)
_PICTURE_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis"})
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B "})
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\xff]")
"""Bytes that no text begins with; without one, a text may begin as it likes, even with 'GIF8'."""


def by_name(name: str | bytes) -> Modality | None:
    """Return the modality that a file's extension promises, or None where it isn't one we know."""
    stem, dot, extension = os.fsdecode(name).rpartition(".")
    return EXTENSIONS.get(extension.lower()) if dot and stem else None


def sniff(head: bytes) -> Modality | None:
    """Return the modality that a file's first `HEAD_BYTES` bytes show, or None where they show none (texts)."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _PICTURE_BRANDS:
            return Modality.IMAGE
        return Modality.AUDIO if brand in _AUDIO_BRANDS else Modality.VIDEO
    for offset, magic, modality in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return modality
    return None


def name_for(head: bytes) -> str:
    """Return a name under which `resolve` knows a file by its first bytes; only that of a text needs an extension."""
    return "content" if _BINARY.search(head) else "content.txt"


def resolve(name: str | bytes, head: bytes) -> Modality | None:
    """Return the modality of a file from its name and its first bytes; the content wins where both speak.

    An Ogg, Matroska or MP4 container may hold either sound or pictures, so between those two the name decides.
    """
    named, seen = by_name(name), sniff(head)
    if seen is None or named is None:
        return named or seen
    if named is Modality.TEXT and not _BINARY.search(head):
        return named
    if {named, seen} == {Modality.AUDIO, Modality.VIDEO}:
        return named
    return seen
