"""Names of things: lines that say what one thing is called in several languages, and what a network calls its kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmsearch.training.lines import read_lines
from mmsearch.training.recipe import Source

if TYPE_CHECKING:
    from mmsearch.training.sources import Examples

Named = tuple[None, tuple[int, ...], int]
"""No file; the rows of the names; no tag."""


def names(source: Source, examples: Examples) -> Iterator[Named]:
    """Yield the names of things in several languages, a thing a line."""
    english = dict(line.split("\t", 1) for line in read_lines(source.names)) if source.names else {}
    for line in read_lines(source.path):
        fields = json.loads(line)
        if words := english.get(fields.pop("wnid", "")):
            fields["en"] = words.split(", ")
        yield None, tuple(_named(fields, examples)), -1


def _named(fields: dict[str, Any], examples: Examples) -> list[int]:
    """Take in the names of one thing by language; the first English one gives the meaning."""
    rows: list[int] = []
    for language in sorted(fields, key=lambda language: language != "en"):
        said = fields[language]
        for words in dict.fromkeys([said] if isinstance(said, str) else said):
            rows.append(examples.text(words, language, rows[0] if rows else None))
    return rows


def kinds(source: Source, examples: Examples) -> Iterator[Named]:
    """Yield the names of the kinds that a network tells, in the order of its classes."""
    ids: dict[str, list[str]] = {}
    for line in read_lines(source.names) if source.names else ():
        number, _, words = line.partition("\t")
        ids.setdefault(words, []).append(number)
    others = {}
    for line in read_lines(source.media) if source.media else ():
        fields = json.loads(line)
        others[fields.pop("wnid")] = fields
    last = ""
    for label in read_lines(source.path):
        if label == "background":
            continue
        # classes are in the order of their ids, which tells the crane that flies from the one that lifts
        last = min((one for one in ids.get(label, ()) if one > last), default=last)
        fields = others.get(last, {}) if last in ids.get(label, ()) else {}
        yield None, tuple(_named({**fields, "en": label.split(", ")}, examples)), -1
