"""What is written in a picture: EXIF, IPTC, XMP, comments, and the texts of PNG."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from PIL import ImageFile, IptcImagePlugin

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.media.encodings import decode_text
from mmsearch.media.xmp import read_xmp

_DESCRIPTION, _USER_COMMENT = 0x010E, 0x9286
_XP = (0x9C9B, 0x9C9F, 0x9C9C)  # XPTitle, XPSubject, XPComment: UTF-16-LE, written by Windows
_XP_KEYWORDS = 0x9C9E
_IPTC = ((2, 5), (2, 105), (2, 120))  # object name, headline, caption
_IPTC_KEYWORDS = (2, 25)
_IPTC_PLACE = ((2, 92), (2, 90), (2, 95), (2, 101))  # sublocation, city, province, country
_IPTC_DATE, _IPTC_TIME = (2, 55), (2, 60)
_PNG = ("title", "description", "comment", "caption", "alt text", "subject")
_PROMPT = "parameters"
"""What programs that paint by words write into a PNG: the words, and settings below them."""
_SETTINGS = re.compile(r"\n(?:Negative prompt:|Steps:).*", re.DOTALL)
_CHARSETS = (b"ASCII", b"UNICODE", b"JIS")
_MOST_BYTES = 2**20


def describe(image: ImageFile.ImageFile) -> Description:
    """Return what is written in an opened picture; of a damaged block, nothing. A PNG is loaded by it."""
    whole = _from_exif(image).with_more(_from_iptc(image))
    with suppress(MediaError):  # a broken packet spoils no picture
        xmp = image.info.get("xmp") or b""
        whole = whole.with_more(
            read_xmp(xmp if isinstance(xmp, bytes) else str(xmp).encode()) if xmp else Description()
        )
    return whole.with_more(Description.of(_comments(image))).without_machine_text


def _from_exif(image: ImageFile.ImageFile) -> Description:
    try:
        exif = image.getexif()
        fields = {tag: exif.get(tag) for tag in (_DESCRIPTION, *_XP, _XP_KEYWORDS)}
        comment = exif.get_ifd(0x8769).get(_USER_COMMENT)
    except metadata.BROKEN:
        return Description()
    captions = [_mend(value) if isinstance(value := fields[_DESCRIPTION], str) else _plain(value)]
    captions += [_wide(fields[tag]) for tag in _XP]
    captions.append(_comment(comment))
    return Description.of(captions, re.split("[;,]", _wide(fields[_XP_KEYWORDS])), **metadata.exif_facts(exif))


def _from_iptc(image: ImageFile.ImageFile) -> Description:
    try:
        block = (IptcImagePlugin.getiptcinfo(image) or {}) if image.format in ("JPEG", "MPO", "TIFF") else {}
    except (SyntaxError, OSError, ValueError, IndexError, TypeError, struct.error):
        block = {}
    values = {
        key: list(_texts(block.get(key))) for key in (*_IPTC, _IPTC_KEYWORDS, *_IPTC_PLACE, _IPTC_DATE, _IPTC_TIME)
    }
    day, time = ("".join(values[key][:1]) for key in (_IPTC_DATE, _IPTC_TIME))
    place = ", ".join(dict.fromkeys(metadata.words(value) for key in _IPTC_PLACE for value in values[key][:1]))
    return Description.of(
        (text for key in _IPTC for text in values[key]),
        values[_IPTC_KEYWORDS],
        taken_at=_iptc_date(day, time),
        place=place[: metadata.MOST_CHARACTERS] or None,
    )


def _iptc_date(day: str, time: str) -> Any:  # noqa: ANN401
    """Return the date of `20190601` and `123015+0200`."""
    clock = f"{time[:2]}:{time[2:4]}:{time[4:6]}{time[6:]}" if re.match(r"\d{6}", time) else ""
    return metadata.date(f"{day[:4]}-{day[4:6]}-{day[6:8]} {clock}") if re.fullmatch(r"\d{8}", day) else None


def _comments(image: ImageFile.ImageFile) -> Iterator[str]:
    """Yield the comments of JPEG and GIF, and the texts of PNG."""
    comment = image.info.get("comment")
    if isinstance(comment, bytes):
        yield from _texts(comment)
    texts = getattr(image, "text", None)
    for name, value in texts.items() if isinstance(texts, dict) else ():
        if name.lower() in _PNG:
            yield _mend(str(value))
        elif name == _PROMPT:
            yield _SETTINGS.sub("", str(value))


def _texts(value: object) -> Iterator[str]:
    """Yield texts of bytes in any encoding; binary data is none."""
    for raw in value if isinstance(value, list) else [value]:
        if isinstance(raw, bytes):
            with suppress(MediaError):
                yield decode_text(raw[:_MOST_BYTES])


def _plain(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _wide(value: object) -> str:
    """Return a text of UTF-16, which Pillow gives as bytes or as their numbers."""
    if isinstance(value, tuple):
        value = bytes(number & 0xFF for number in value if isinstance(number, int))
    return value.decode("utf-16-le", "replace") if isinstance(value, bytes) else ""


def _comment(value: object) -> str:
    """Return a user comment: eight bytes say its encoding, often wrongly (EXIF 2.32, 4.6.5)."""
    if isinstance(value, str):
        return _mend(value)
    if not isinstance(value, bytes):
        return ""
    charset, raw = value[:8].rstrip(b"\0 "), value[8:_MOST_BYTES]
    if charset == b"UNICODE" and b"\0" in raw:
        little, big = (raw[n::2].count(0) for n in (1, 0))
        return raw.decode("utf-16-le" if little >= big else "utf-16-be", "replace")
    if charset not in (b"", *_CHARSETS):
        raw = value[:_MOST_BYTES]
    with suppress(MediaError):
        return raw.decode("shift_jis", "replace") if charset == b"JIS" else decode_text(raw.strip(b"\0 "))
    return ""


def _mend(text: str) -> str:
    """Undo Pillow's reading of a string as Latin-1 where its bytes were UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
