"""Bytes of a text in any common encoding → the text."""

from __future__ import annotations

import codecs
import re

from mmsearch.errors import MediaError
from mmsearch.printable import without_invisible

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CODE_PAGES = (
    "cp1252", "cp1250", "iso8859_2", "cp1251", "koi8_r", "cp866", "cp850", "cp1253", "cp1254", "cp1255", "cp1256",
    "cp1257", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr",
)  # fmt: skip
"""What texts of before Unicode were written in; the fewer are tried, the more guesses are right."""
_GUESSED_BYTES = 2**16
_LEAST_GUESSED = 4
"""Bytes beyond ASCII of which fewer are too little to tell code pages apart: Western European is most frequent."""
_SIGNS = "„“”‚‘’«»–—…€£§°·¿¡ºª©®™½¼¾²³\u00a0"  # noqa: RUF001  signs that every language uses
_ALPHABETS = "äöüß àâæçéèêëîïôœùûüÿ áéíóúüñ ãõáâàçéêíóôúü àèéìíòóù åäöæøé áðéíóúýþæö éëïóöü"
_WESTERN = tuple(frozenset(letters + letters.upper() + _SIGNS) for letters in _ALPHABETS.split())
"""The characters beyond ASCII of each Western European language."""
_STRAY = re.compile(
    r"(?<=[^\W\d_])[^\w\s'\u2019.\-]+(?=[^\W\d_])|[\xb9\xb2\xb3\xbc-\xbe](?=[^\W\d_])|(?<=[^\W\d_])[\xb9\xbc-\xbe]"
)
"""Signs within words: where another code page reads letters, they are letters."""
_HALF_WIDTH = re.compile("[\uff61-\uff9f]")
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TEXT_BYTES = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)))


def decode_text(raw: bytes) -> str:
    """Decode a text: by its byte-order mark, else as UTF-8, else by a guess at its code page.

    A text of which most is UTF-8 is decoded as UTF-8, and lines of it that aren't by a guess. Characters that nobody
    sees go. Raises `MediaError` on binary data, and where the encoding can't be told.
    """
    return without_invisible(_decoded(raw))


def _decoded(raw: bytes) -> str:
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            try:
                return raw.decode(encoding)
            except UnicodeError:
                raise MediaError(f"its byte-order mark says {encoding} but the bytes don't; save it as UTF-8") from None
    if b"\0" in raw:
        if encoding := _utf_16(raw):
            return raw.decode(encoding)
        raw = raw.rstrip(b"\0") or raw  # a buffer that wasn't filled: players take such subtitles, too
    if b"\0" in raw:
        raise MediaError("not a text: it holds binary data; give it the extension of its true kind")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if not _is_mostly_utf_8(raw):
        return _guessed(raw)
    return "\n".join(_line(line) for line in raw.split(b"\n"))


def _utf_16(raw: bytes) -> str:
    """Return which UTF-16 a text without a mark is, "" for none.

    Its blanks and line ends have a zero as their high byte, and all of it can be seen. Text of one byte a character
    with a stray zero would read as Chinese.
    """
    if len(raw) % 2 or sum(byte in _TEXT_BYTES for byte in raw) > 0.9 * (len(raw) - raw.count(0)) > 1.2 * raw.count(0):
        return ""
    for encoding, low in (("utf-16-le", raw[::2]), ("utf-16-be", raw[1::2])):
        if low.count(0):
            continue
        try:
            text = without_invisible(raw.decode(encoding))
        except UnicodeDecodeError:
            continue
        if all(character.isprintable() or character.isspace() for character in text):
            return encoding
    return ""


def _is_mostly_utf_8(raw: bytes) -> bool:
    """Return whether at least twice as many characters beyond ASCII are sound UTF-8 as bytes aren't."""
    text = raw.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    beyond = sum(character > "\x7f" for character in text) - bad
    return beyond >= 2 * bad or any(_is_sound(line) for line in raw.split(b"\n"))


def _is_sound(line: bytes) -> bool:
    """Return whether a line holds at least two characters beyond ASCII, all of them in UTF-8."""
    try:
        return sum(character > "\x7f" for character in line.decode("utf-8")) >= 2
    except UnicodeDecodeError:
        return False


def _line(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("utf-8", "replace")
        sound = sum(character > "\x7f" for character in text) > 2 * text.count("\ufffd")
        return text if sound else _guessed(line)


def _guessed(raw: bytes) -> str:
    """Decode a text that isn't Unicode. Raises `MediaError` where its code page can't be told."""
    beyond = sum(byte > 0x7F for byte in raw)
    western = raw.decode("cp1252", "replace")  # the five bytes that it leaves open become U+FFFD
    if beyond < _LEAST_GUESSED and 3 * beyond < sum(byte in _LETTERS for byte in raw):
        return western
    used = {character for character in western if character > "\x7f"}
    if any(used <= letters for letters in _WESTERN):
        return western
    from charset_normalizer import from_bytes  # only such texts pay for loading it

    found = list(from_bytes(raw[:_GUESSED_BYTES], cp_isolation=list(_CODE_PAGES)))
    if not found:
        raise MediaError("its encoding can't be told; save it as UTF-8")
    # What is no Japanese often decodes to half-width kana, which few Japanese texts hold.
    likely = [match for match in found if not _HALF_WIDTH.search(str(match))] or found
    best = min(likely, key=lambda match: len(_STRAY.findall(str(match))))
    return raw.decode(best.encoding, "replace")
