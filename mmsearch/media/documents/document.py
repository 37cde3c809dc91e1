"""What a document holds, in its order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmsearch.media.description import Description, clean

if TYPE_CHECKING:
    from mmsearch.types import Payload

_LONGEST_HEADING = 200


@dataclass(frozen=True, slots=True)
class Section:
    """Words between two headings, or on a page: `page` counts from 1. `picture` is what the page looks like."""

    words: str
    heading: str = ""
    page: int | None = None
    picture: Payload | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """The sections of a document, and what it says of itself; `cut` says what of it wasn't read, None where all was."""

    sections: tuple[Section, ...]
    description: Description = field(default_factory=Description)
    cut: str | None = None


@dataclass(slots=True)
class Paragraphs:
    """Collects the paragraphs of a document and makes sections of them."""

    heading: str = ""
    page: int | None = None
    _words: list[str] = field(default_factory=list)
    _sections: list[Section] = field(default_factory=list)

    def add(self, words: str) -> None:
        """Add a paragraph."""
        if words.strip():
            self._words.append(words.strip())

    def begin(self, heading: str) -> None:
        """Add a heading: what follows is the section below it."""
        if heading := clean(heading)[:_LONGEST_HEADING]:
            self._end()
            self.heading = heading
            self._words.append(heading)

    def turn(self, page: int) -> None:
        """Go on to another page."""
        if page != self.page:
            self._end()
            self.page = page

    def sections(self) -> tuple[Section, ...]:
        """Return the sections so far. A heading that heads nothing stands by itself."""
        self._end()
        return tuple(self._sections)

    def _end(self) -> None:
        if self._words:
            self._sections.append(Section("\n\n".join(self._words), self.heading, self.page))
            self._words = []


def joined(words: Iterable[str]) -> str:
    """Return the parts of a paragraph with single blanks, its lines kept."""
    return "\n".join(_lines("".join(words)))


def _lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        if words := " ".join(line.split()):
            yield words
