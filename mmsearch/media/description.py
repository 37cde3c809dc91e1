"""What a file or its sidecars say of it: captions, keywords and people in words, and facts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mmsearch.media.machine_text import is_machine_text
from mmsearch.printable import without_invisible
from mmsearch.records import DatedBy, FileFacts

_MOST_KEYWORDS, _LONGEST_KEYWORD = 200, 100
_LONGEST_CAPTION = 20_000
_WORDY = re.compile(r"[^\W\d_]{2}|[^\W\d_](?<=[\u3040-\uffff])")
"""A keyword has two letters, or a character that is a word."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a file or its sidecars say. `fields` are fields of `FileFacts` by name, None where a fact isn't known."""

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        captions: Iterable[object] = (),
        keywords: Iterable[object] = (),
        people: Iterable[object] = (),
        **fields: Any,  # noqa: ANN401  each field has a type of its own
    ) -> Description:
        """Return a description of what was read: cleaned, bounded and without repeats."""
        said = dict.fromkeys(text for text in map(clean, captions) if text)
        return cls(tuple(said), _names(keywords), _names(people), fields)

    @property
    def without_machine_text(self) -> Description:
        """The same without captions that cameras and programs write by themselves."""
        return replace(self, captions=tuple(text for text in self.captions if not is_machine_text(text)))

    def with_more(self, other: Description) -> Description:
        """Return this description with what another one says more; of two facts this one's holds."""
        known = {name: value for name, value in self.fields.items() if value is not None}
        return Description(
            _joined(self.captions, other.captions),
            _joined(self.keywords, other.keywords),
            _joined(self.people, other.people),
            {**other.fields, **known},
        )

    @property
    def tags(self) -> str:
        """Keywords, people and the name of the place as one text."""
        return ", ".join(_joined(self.keywords, self.people, filter(None, [self.fields.get("place")])))

    @property
    def facts(self) -> FileFacts:
        """The facts alone."""
        return FileFacts(**{**self.fields, "keywords": self.keywords, "people": self.people})


def combined(own: Description, beside: Description, by_name: dict[str, Any]) -> Description:
    """Return what a file and its sidecars say together, with the date in its name where neither has one.

    Captions beside a file come first. A rating beside it was given later than the one in it.
    """
    dated_by = (
        DatedBy.FILE if own.fields.get("taken_at") else DatedBy.SIDECAR if beside.fields.get("taken_at") else None
    )
    rating = beside.fields.get("rating") or own.fields.get("rating")
    whole = own.with_more(beside)
    fields = {**whole.fields, "rating": rating, "dated_by": dated_by}
    if dated_by is None and by_name:
        fields |= {**by_name, "dated_by": DatedBy.NAME}
    return replace(whole, captions=_joined(beside.captions, own.captions), fields=fields)


def clean(text: object) -> str:
    """Return a text on one line, without what nobody sees or no file of UTF-8 can hold; "" for anything else."""
    if not isinstance(text, str):
        return ""
    seen = without_invisible(text[:_LONGEST_CAPTION].replace("\0", " "))
    return " ".join(seen.encode("utf-8", "replace").decode().split())


def _names(words: Iterable[object]) -> tuple[str, ...]:
    found = (clean(word)[:_LONGEST_KEYWORD].strip(" ,;") for word in words)
    return tuple(dict.fromkeys(word for word in found if _WORDY.search(word)))[:_MOST_KEYWORDS]


def _joined(*parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for part in parts for word in part))
