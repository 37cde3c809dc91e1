"""XML of strangers → elements: without entities, which grow without bound, and within a size."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from mmsearch.errors import MediaError
from mmsearch.media.encodings import decode_text

MOST_BYTES = 16 * 2**20
_DEEPEST = 200
_DECLARED = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")


def parse(raw: bytes) -> Element:
    """Return the root of an XML document. Raises `MediaError` where it isn't sound or asks for entities."""
    if len(raw) > MOST_BYTES:
        raise MediaError(f"its XML is larger than {MOST_BYTES // 2**20} MB")
    text = _DECLARATION.sub("", decode_text(raw))  # it is decoded: the encoding that it names is another one now
    if _DECLARED.search(text):
        raise MediaError("its XML defines entities, which is refused")
    parser = XMLParser(target=_Shallow())
    try:
        parser.feed(text)
        root = parser.close()
    except ParseError as error:
        raise MediaError(f"not valid XML: {error}") from None
    assert isinstance(root, Element)
    return root


class _Shallow(TreeBuilder):
    """Builds elements that aren't nested deeply."""

    _depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise MediaError("its XML is nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def name_of(tag: str) -> tuple[str, str]:
    """Return the namespace and the local name of an element or attribute."""
    space, _, local = tag.rpartition("}")
    return space.removeprefix("{"), local
