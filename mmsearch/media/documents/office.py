"""DOCX, PPTX, ODT, ODP and EPUB: zip files of XML → sections with headings, and pages where the program noted them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Set
from typing import BinaryIO
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description
from mmsearch.media.documents.archives import opened
from mmsearch.media.documents.document import Document, Paragraphs, joined
from mmsearch.media.documents.html import decoded, document_of
from mmsearch.media.markup import name_of, parse

_SKIPPED = frozenset(
    {"Fallback", "del", "moveFrom", "annotation", "tracked-changes", "note-citation", "instrText", "pPrChange"}
)
"""Parts that aren't shown: what was deleted, remarks, and what older programs see instead of something."""
_HEADING_STYLE = re.compile(r"(?:heading \d|title)\Z", re.IGNORECASE)
_SLIDE = re.compile(r"ppt/slides/slide(\d{1,5})\.xml")
_MOST_SPACES = 100


def read_docx(file: BinaryIO) -> Document:
    """Read a file of Word. Raises `MediaError`."""
    with opened(file) as archive:
        raw = archive.read("word/document.xml")
        if not raw:
            raise MediaError("it holds no text of Word; save it again")
        headings = _heading_styles(archive.read("word/styles.xml"))
        notes = (archive.read(f"word/{name}.xml") for name in ("footnotes", "endnotes"))
        paragraphs = Paragraphs(page=1 if b"lastRenderedPageBreak" in raw else None)
        for part in (raw, *notes):
            if part:
                _read_word(parse(part), headings, paragraphs)
        return Document(paragraphs.sections(), _about(archive.read("docProps/core.xml")))


def read_pptx(file: BinaryIO) -> Document:
    """Read a file of PowerPoint: a page is a slide. Raises `MediaError`."""
    with opened(file) as archive:
        slides = sorted((int(found[1]), name) for name in archive.names if (found := _SLIDE.fullmatch(name)))
        paragraphs = Paragraphs()
        for number, name in slides:
            paragraphs.turn(number)
            _read_word(parse(archive.read(name)), frozenset(), paragraphs)
        return Document(paragraphs.sections(), _about(archive.read("docProps/core.xml")))


def read_open_document(file: BinaryIO) -> Document:
    """Read a text or presentation of OpenDocument. Raises `MediaError`."""
    with opened(file) as archive:
        raw = archive.read("content.xml")
        if not raw:
            raise MediaError("it holds no text of OpenDocument; save it again")
        paragraphs = Paragraphs(page=1 if b"soft-page-break" in raw else 0 if b"<draw:page" in raw else None)
        _read_open(parse(raw), paragraphs)
        return Document(paragraphs.sections(), _about(archive.read("meta.xml")))


def read_epub(file: BinaryIO) -> Document:
    """Read an electronic book, chapter by chapter. Raises `MediaError`."""
    with opened(file) as archive:
        container = archive.read("META-INF/container.xml")
        path = next((each.get("full-path") for each in _named(parse(container), "rootfile")), "") if container else ""
        package = archive.read(path or "")
        if not package:
            raise MediaError("it holds no book; save it again")
        root = parse(package)
        sections = [
            section
            for name in _chapters(root, posixpath.dirname(path or ""))
            for section in document_of(decoded(archive.read(name))).sections
        ]
        return Document(tuple(sections), _about(package))


def _chapters(package: Element, folder: str) -> Iterator[str]:
    """Yield the names of a book's chapters in reading order."""
    hrefs = {each.get("id"): each.get("href") or "" for each in _named(package, "item")}
    for each in _named(package, "itemref"):
        if href := hrefs.get(each.get("idref")):
            yield posixpath.normpath(posixpath.join(folder, unquote(href)))


def _named(root: Element, name: str) -> Iterator[Element]:
    return (element for element in root.iter() if name_of(element.tag)[1] == name)


def _about(raw: bytes) -> Description:
    """Return what the properties of a document say: Dublin Core in Office, OpenDocument and EPUB."""
    try:
        root = parse(raw) if raw else None
    except MediaError:
        root = None  # properties that are broken spoil no document
    if root is None:
        return Description()
    said: dict[str, list[str]] = {}
    for element in root.iter():
        said.setdefault(name_of(element.tag)[1], []).append(element.text or "")
    keywords = [
        word for name in ("keyword", "keywords") for text in said.get(name, ()) for word in re.split("[,;]", text)
    ]
    dates = (metadata.date(text) for name in ("created", "creation-date", "date") for text in said.get(name, ()))
    return Description.of(
        (*said.get("title", ()), *said.get("description", ())),
        (*keywords, *said.get("subject", ())),
        said.get("creator", ()),
        taken_at=next(filter(None, dates), None),
    ).without_machine_text


def _heading_styles(raw: bytes) -> Set[str]:
    """Return the ids of the styles that are headings: their names are English in every language of Word."""
    found: set[str] = set()
    for style in _named(parse(raw), "style") if raw else ():
        own = {name_of(name)[1]: value for name, value in style.attrib.items()}
        inside = list(style.iter())
        names = (_value(each) for each in inside if name_of(each.tag)[1] == "name")
        outlined = any(name_of(each.tag)[1] == "outlineLvl" and _value(each) != "9" for each in inside)
        if outlined or any(_HEADING_STYLE.match(name) for name in names):
            found.add(own.get("styleId", ""))
    return found


def _value(element: Element) -> str:
    return next((value for name, value in element.attrib.items() if name_of(name)[1] == "val"), "")


def _read_word(root: Element, headings: Set[str], paragraphs: Paragraphs) -> None:
    """Read the paragraphs of Word's or PowerPoint's XML."""
    words: list[str] = []
    is_heading = False
    for is_start, element in _walk(root):
        _, name = name_of(element.tag)
        if name == "p":
            # One may stand in another, in a box: it ends what came before.
            (paragraphs.begin if is_heading else paragraphs.add)(joined(words))
            words, is_heading = [], False
        elif not is_start:
            continue
        elif name == "t":
            words.append(element.text or "")
        elif name in ("tab", "br", "cr"):
            words.append("\t" if name == "tab" else "\n")
        elif name == "pStyle":
            is_heading = _value(element) in headings
        elif name == "lastRenderedPageBreak":  # where Word last ended a page, also within a paragraph
            paragraphs.add(joined(words))
            words = []
            paragraphs.turn((paragraphs.page or 0) + 1)
    paragraphs.add(joined(words))


def _read_open(root: Element, paragraphs: Paragraphs) -> None:
    """Read the paragraphs of OpenDocument's XML."""
    words: list[str] = []
    depth = 0
    for is_start, element in _walk(root):
        space, name = name_of(element.tag)
        is_text = space.endswith(":text:1.0")
        if is_text and name in ("p", "h"):
            depth += 1 if is_start else -1
            (paragraphs.begin if name == "h" and not is_start else paragraphs.add)(joined(words))
            words = []
        elif is_start and is_text and name in ("s", "tab", "line-break"):
            count = next((value for key, value in element.attrib.items() if name_of(key)[1] == "c"), "1")
            spaces = int(count) if count.isdigit() and len(count) < 4 else 1
            words.append("\n" if name == "line-break" else " " * min(spaces, _MOST_SPACES))
        elif is_start and (name == "soft-page-break" or (name == "page" and space.endswith(":drawing:1.0"))):
            paragraphs.turn((paragraphs.page or 0) + 1)
        if depth:
            words.append((element.text if is_start else element.tail) or "")
    paragraphs.add(joined(words))


def _walk(root: Element) -> Iterator[tuple[bool, Element]]:
    """Yield elements as they begin (True) and end (False), in the order of the document, without what isn't shown."""
    pending: list[tuple[bool, Element]] = [(True, root)]
    while pending:
        is_start, element = pending.pop()
        skipped = is_start and name_of(element.tag)[1] in _SKIPPED
        if not skipped:
            yield is_start, element
        if is_start:
            pending.append((False, element))
            if not skipped:
                pending += ((True, child) for child in reversed(element))
