"""E-mail: single messages and mailboxes → a section for each message, below its subject."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from contextlib import suppress
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from itertools import islice

from mmsearch.errors import MediaError
from mmsearch.media.description import Description, clean
from mmsearch.media.documents.document import Document, Section
from mmsearch.media.documents.html import decoded, document_of
from mmsearch.media.encodings import decode_text

_FROM = re.compile(rb"(?:\A|\n\r?\n)From [^\n]{1,500}\n")
"""How a message begins in a mailbox (RFC 4155)."""
_MOST_BYTES = 8 * 2**20
"""What is read of one message: attachments are longer, and aren't read."""
_MOST_PARTS = 200
_MOST_MESSAGES = 20_000
"""Messages of one mailbox."""
_LONGEST_HEADER = 2_000
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError, AssertionError)
"""What the standard library raises on hostile messages."""


def read_mail(raw: bytes) -> Document:
    """Read a message. Raises `MediaError`."""
    section, about = _read(raw)
    return Document((section,), about)


def read_mailbox(raw: bytes) -> Document:
    """Read a mailbox: a page is a message. Raises `MediaError`."""
    marks = list(islice(_FROM.finditer(raw), _MOST_MESSAGES + 1))
    starts = [found.end() for found in marks][:_MOST_MESSAGES]
    ends = [*(found.start() for found in marks), len(raw)][1 : len(starts) + 1]
    sections: list[Section] = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        with suppress(MediaError):  # the other messages are kept
            section, _ = _read(re.sub(rb"(?m)^>(>*From )", rb"\1", raw[start : min(end, start + _MOST_BYTES)]))
            sections.append(Section(section.words, section.heading, number))
    if not sections:
        raise MediaError("it holds no message that can be read; export it again")
    cut = f"only its first {_MOST_MESSAGES:,} messages are read; split it" if len(marks) > _MOST_MESSAGES else None
    return Document(tuple(sections), cut=cut)


def _read(raw: bytes) -> tuple[Section, Description]:
    try:
        message = email.message_from_bytes(raw[:_MOST_BYTES])
        subject, sender, receivers = (_header(message, name) for name in ("Subject", "From", "To"))
        body = "\n\n".join(_bodies(message))
        names = [name or address for name, address in getaddresses([sender, receivers])]
    except _BROKEN:
        raise MediaError("not a message that can be read; export it again") from None
    if not (subject or sender or body):
        raise MediaError("not a message: it has neither a sender nor a text")
    about = Description.of(people=names, taken_at=_date(message))
    people = " → ".join(filter(None, (sender, receivers)))
    return Section("\n\n".join(filter(None, (subject, people, body))), subject), about


def _header(message: Message, name: str) -> str:
    value = str(message.get(name, ""))[:_LONGEST_HEADER]
    with suppress(*_BROKEN):
        value = str(make_header(decode_header(value)))
    if re.search("[\udc80-\udcff]", value):  # bytes that a program didn't encode
        value = decode_text(value.encode("ascii", "surrogateescape")) if _is_raw(value) else value
    return clean(value)


def _is_raw(value: str) -> bool:
    return all(character < "\x80" or "\udc80" <= character <= "\udcff" for character in value)


def _date(message: Message) -> object:
    try:
        return parsedate_to_datetime(str(message.get("Date", ""))[:100])
    except _BROKEN:
        return None


def _bodies(message: Message) -> Iterator[str]:
    """Yield the texts of a message: of two forms of the same, the plain one; and the names of what is attached."""
    plain: list[str] = []
    marked: list[str] = []
    attached: list[str] = []
    for _, part in zip(range(_MOST_PARTS), message.walk(), strict=False):
        if name := part.get_filename():
            attached.append(clean(str(make_header(decode_header(name)))))
        elif part.get_content_type() == "text/plain":
            plain.append(_text(part))
        elif part.get_content_type() == "text/html":
            marked.append(_text(part))
    yield from plain or ("\n\n".join(each.words for each in document_of(html).sections) for html in marked)
    if attached:
        yield ", ".join(attached)


def _text(part: Message) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes):
        return ""
    charset = part.get_content_charset()
    if charset and charset not in ("us-ascii", "unknown-8bit"):
        with suppress(LookupError, UnicodeError):
            return raw.decode(charset)
    with suppress(MediaError):
        return decoded(raw) if part.get_content_subtype() == "html" else decode_text(raw)
    return ""
