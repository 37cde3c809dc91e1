"""HTML → sections by its headings: what is shown, and what pictures are said to show."""

from __future__ import annotations

import re
from html import unescape

from mmsearch.media.description import Description
from mmsearch.media.documents.document import Document, Paragraphs, joined
from mmsearch.media.encodings import decode_text

_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "head", "object", "iframe", "select"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form "
    "header hr html li main nav ol p pre section summary table tbody tfoot thead tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_META = frozenset({"description", "keywords", "author"})
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]{2,40})", re.IGNORECASE)
_DECLARED_IN = 4096
_LONGEST_TAG = 10_000
_TAG = re.compile(r"<(/?)([A-Za-z][^\s/<>]{0,50})((?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*)>")
_ATTRIBUTE = re.compile(r"([^\s=/>\"']{1,100})\s{0,20}=\s{0,20}(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_DECLARATION = re.compile("<[!?]")
_RAW = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style")}
"""Elements in which no other element begins."""


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
    text = _without_declarations(text)
    at = 0
    for tag in _TAG.finditer(text):
        if tag.start() < at:  # within a script
            continue
        reader.data(text[at : tag.start()])
        at, name = tag.end(), tag[2].lower()
        if tag[1]:
            reader.end(name)
            continue
        reader.start(name, tag[3])
        if name in _RAW and not tag[3].endswith("/"):
            end = _RAW[name].search(text, at)
            at = end.start() if end else len(text)
    reader.data(text[at:])
    reader.end_paragraph()
    meta = reader.meta
    about = Description.of([reader.title, meta.get("description", "")], re.split("[,;]", meta.get("keywords", "")))
    return Document(reader.paragraphs.sections(), about)


def _without_declarations(text: str) -> str:
    """Return HTML without comments and declarations; one that doesn't end hides all that follows."""
    kept, at = [], 0
    while (found := _DECLARATION.search(text, at)) is not None:
        kept.append(text[at : found.start()])
        mark = "-->" if text.startswith("<!--", found.start()) else ">"
        end = text.find(mark, found.end())
        if end < 0:
            return "".join(kept)
        at = end + len(mark)
    kept.append(text[at:])
    return "".join(kept)


class _Reader:
    """Collects the paragraphs of HTML; what isn't shown is left out."""

    def __init__(self) -> None:
        self.paragraphs = Paragraphs()
        self.title = ""
        self.meta: dict[str, str] = {}
        self._words: list[str] = []
        self._unseen, self._depth = "", 0
        self._in_title = False

    def start(self, tag: str, attributes: str) -> None:
        """Take the start of an element."""
        if tag == "title" and not self.title:
            self._in_title = True
        elif tag == "meta":
            own = _attributes(attributes)
            if (name := own.get("name", "").lower()) in _META:
                self.meta[name] = own.get("content", "")
        elif tag == "body" and self._unseen == "head":  # a head that doesn't end is over
            self._unseen = ""
        elif tag in _UNSEEN and self._unseen in ("", tag) and not attributes.endswith("/"):
            self._unseen, self._depth = tag, self._depth + 1 if self._unseen else 1
        if tag in _BLOCKS or tag in _HEADINGS:
            self.end_paragraph()
        elif tag == "br":
            self._words.append("\n")
        elif tag in ("td", "th"):
            self._words.append(" ")
        elif tag == "img" and not self._unseen and (alt := _attributes(attributes).get("alt")):
            self._words.append(f" {alt} ")

    def end(self, tag: str) -> None:
        """Take the end of an element."""
        if tag == "title":
            self._in_title = False
        elif tag == self._unseen:
            self._depth -= 1
            self._unseen = tag if self._depth else ""
        elif tag in _HEADINGS:
            words, self._words = joined(self._words), []
            self.paragraphs.begin(words)
        elif tag in _BLOCKS:
            self.end_paragraph()

    def data(self, text: str) -> None:
        """Take what stands between two tags."""
        if self._in_title:
            self.title += unescape(text)
        elif not self._unseen:
            self._words.append(unescape(text).replace("\n", " "))

    def end_paragraph(self) -> None:
        """Let what follows begin a paragraph."""
        words, self._words = joined(self._words), []
        self.paragraphs.add(words)


def _attributes(written: str) -> dict[str, str]:
    found = _ATTRIBUTE.findall(written[:_LONGEST_TAG])
    return {name.lower(): unescape(double or single or bare) for name, double, single, bare in found}
