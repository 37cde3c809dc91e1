"""HTML → sections by its headings: what is shown, and what pictures are said to show."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from mmsearch.media.description import Description
from mmsearch.media.documents.document import Document, Paragraphs, joined
from mmsearch.media.encodings import decode_text

_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "head", "object", "iframe", "select"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    ]
)
_META = frozenset({"description", "keywords", "author"})
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]{2,40})", re.IGNORECASE)
_DECLARED_IN = 4096


def read_html(raw: bytes) -> Document:
    """Read an HTML file. Raises `MediaError` where its encoding can't be told."""
    return document_of(decoded(raw))


def decoded(raw: bytes) -> str:
    """Return HTML as text: by the encoding that it names, unless its bytes say another one."""
    found = _CHARSET.search(raw[:_DECLARED_IN])
    if found is not None:
        try:
            return raw.decode(found[1].decode("ascii"))
        except (LookupError, UnicodeError):
            pass
    return decode_text(raw)


def document_of(text: str) -> Document:
    """Return what an HTML text shows."""
    reader = _Reader()
    reader.feed(_without_comments(text))
    reader.close()
    reader.end_paragraph()
    meta = reader.meta
    about = Description.of([reader.title, meta.get("description", "")], re.split("[,;]", meta.get("keywords", "")))
    return Document(reader.paragraphs.sections(), about)


def _without_comments(text: str) -> str:
    """Return HTML without comments; the parser takes time in the square of those that don't end."""
    kept, at = [], 0
    while (start := text.find("<!", at)) >= 0:
        kept.append(text[at:start])
        mark = "-->" if text.startswith("<!--", start) else ">"
        end = text.find(mark, start + 2)
        if end < 0:
            return "".join(kept)
        at = end + len(mark)
    kept.append(text[at:])
    return "".join(kept)


class _Reader(HTMLParser):
    """Collects paragraphs; what isn't shown is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs = Paragraphs()
        self.title = ""
        self.meta: dict[str, str] = {}
        self._words: list[str] = []
        self._unseen: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "title" and not self.title:
            self._in_title = True
        elif tag == "meta" and (name := (named.get("name") or "").lower()) in _META:
            self.meta[name] = named.get("content") or ""
        elif tag == "body":  # a head that doesn't end is over
            self._unseen.clear()
        elif tag in _UNSEEN:
            self._unseen.append(tag)
        if tag in _BLOCKS or tag in _HEADINGS:
            self.end_paragraph()
        elif tag == "br":
            self._words.append("\n")
        elif tag in ("td", "th"):
            self._words.append(" ")
        elif tag == "img" and not self._unseen and (alt := named.get("alt")):
            self._words.append(f" {alt} ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in _UNSEEN:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in _UNSEEN:
            if tag in self._unseen:
                del self._unseen[len(self._unseen) - 1 - self._unseen[::-1].index(tag) :]
        elif tag in _HEADINGS:
            words, self._words = joined(self._words), []
            self.paragraphs.begin(words)
        elif tag in _BLOCKS:
            self.end_paragraph()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._unseen:
            self._words.append(data.replace("\n", " "))

    def end_paragraph(self) -> None:
        words, self._words = joined(self._words), []
        self.paragraphs.add(words)
