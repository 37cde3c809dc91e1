"""Which reader reads which document, by its content first and then by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from mmsearch.media.documents.document import Document

Reader = Callable[[BinaryIO], Document]
_PDF = b"%PDF-"


def reader_for(name: bytes, head: bytes, side: int, most_bytes: int) -> Reader | None:
    """Return what reads a document, None for a plain text.

    `head` are its first bytes. `side` is the least width and height of the picture of a page; `most_bytes` of a
    document that is text are read.
    """
    ending = name.lower().rpartition(b".")[2]
    if _PDF in head:
        from mmsearch.media.documents.pdf import read_pdf

        return partial(read_pdf, side=side)
    if head.startswith(b"PK") and ending in (b"docx", b"pptx", b"odt", b"odp", b"epub"):
        from mmsearch.media.documents import office

        kinds = {b"docx": office.read_docx, b"pptx": office.read_pptx, b"epub": office.read_epub}
        return kinds.get(ending, office.read_open_document)
    reader = _text_reader(ending)
    return None if reader is None else partial(_bounded, reader, most_bytes)


def _text_reader(ending: bytes) -> Callable[[bytes], Document] | None:
    match ending:
        case b"html" | b"htm" | b"xhtml":
            from mmsearch.media.documents.html import read_html

            return read_html
        case b"eml" | b"mbox":
            from mmsearch.media.documents import mail

            return mail.read_mail if ending == b"eml" else mail.read_mailbox
        case b"csv" | b"tsv":
            from mmsearch.media.documents.tables import read_table

            return read_table
        case b"org" | b"rst":
            from mmsearch.media.documents import outlines

            return outlines.read_org if ending == b"org" else outlines.read_rst
        case _:
            return None


def _bounded(reader: Callable[[bytes], Document], most_bytes: int, file: BinaryIO) -> Document:
    raw = file.read(most_bytes + 1)
    document = reader(raw[:most_bytes])
    if len(raw) <= most_bytes:
        return document
    return replace(document, cut=f"only its first {most_bytes // 2**20} MB are read; split it")
