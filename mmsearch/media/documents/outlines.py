"""Org and reStructuredText → sections by their headings, without the marks of their markup."""

from __future__ import annotations

import re

from mmsearch.media.description import Description
from mmsearch.media.documents.document import Document, Paragraphs
from mmsearch.media.encodings import decode_text

_ORG_HEADING = re.compile(
    r"\*{1,20} +(?:(?:TODO|DONE|NEXT|WAITING) +)?(?:\[#[A-Z]\] +)?(.*?)[ \t]*((?::[\w@#%]+)+:)?[ \t]*\Z"
)
_ORG_KEYWORD = re.compile(r"#\+(\w{1,40}):[ \t]*(.*)", re.IGNORECASE)
_ORG_UNSEEN = re.compile(r"#\+(?:begin|end)_\w+.*|#\+\w+:.*|# .*|[ \t]*:[\w-]+:(?:[ \t].*)?", re.IGNORECASE)
_ORG_LINK = re.compile(r"\[\[[^\[\]]{1,2000}\]\[([^\[\]]{1,2000})\]\]|\[\[([^\[\]]{1,2000})\]\]")
_RST_LINE = re.compile(r"([=\-`:.'\"~^_*+#<>!$%&(),/;?@\[\\\]{|}])\1{2,}[ \t]*")
_RST_UNSEEN = re.compile(r"\.\. _[^\n]*:[^\n]*|[ \t]+:[\w-]+:[^\n]*|\.\. (?:[\w-]+::)?[ \t]*\Z")
_RST_DIRECTIVE = re.compile(r"\.\. ([\w-]+)::[ \t]*")
_RST_ROLE = re.compile(r":[\w:-]{1,40}:`([^`<]{1,500})(?:<[^`]{0,500}>)?`|`([^`<]{1,500})(?: <[^`]{0,500}>)?`__?")
_RST_MARK = re.compile(r"``?|\*\*?(?=\S)|(?<=\S)\*\*?")


def read_org(raw: bytes) -> Document:
    """Read a file of Emacs' Org mode. Raises `MediaError`."""
    paragraphs, said = Paragraphs(), dict[str, str]()
    tags: list[str] = []
    lines: list[str] = []
    for line in [*decode_text(raw).splitlines(), ""]:
        keyword = _ORG_KEYWORD.fullmatch(line)
        heading = _ORG_HEADING.match(line)
        if keyword is not None:
            said.setdefault(keyword[1].lower(), keyword[2])
        if heading is not None:
            _end(lines, paragraphs)
            tags += (heading[2] or "").strip(":").split(":")
            paragraphs.begin(_ORG_LINK.sub(_of_link, heading[1]))
        elif not line.strip():
            _end(lines, paragraphs)
        elif not _ORG_UNSEEN.fullmatch(line):
            lines.append(_ORG_LINK.sub(_of_link, line))
    _end(lines, paragraphs)
    tags += said.get("filetags", "").strip(":").split(":")
    return Document(paragraphs.sections(), Description.of([said.get("title", "")], tags))


def _of_link(found: re.Match[str]) -> str:
    return found[1] or found[2]


def read_rst(raw: bytes) -> Document:
    """Read a reStructuredText. Raises `MediaError`."""
    paragraphs, lines = Paragraphs(), list[str]()
    text = decode_text(raw).splitlines()
    for number, line in enumerate([*text, ""]):
        above = lines[-1] if lines else ""
        if _RST_LINE.fullmatch(line) and (len(lines) == 1 and len(line.rstrip()) >= len(above.rstrip()) - 1):
            lines.pop()
            paragraphs.begin(_plain(above))
        elif _RST_LINE.fullmatch(line) or not line.strip():
            _end(lines, paragraphs)
        elif not _RST_UNSEEN.fullmatch(line):
            lines.append(_plain(_RST_DIRECTIVE.sub("", text[number]).strip()))
    _end(lines, paragraphs)
    return Document(paragraphs.sections())


def _plain(line: str) -> str:
    return _RST_MARK.sub("", _RST_ROLE.sub(lambda found: (found[1] or found[2]).strip(), line))


def _end(lines: list[str], paragraphs: Paragraphs) -> None:
    paragraphs.add("\n".join(lines))
    lines.clear()
