"""How all that is known of a file is printed: for a person, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from mmsearch import wire
from mmsearch.cli.streams import print_json, say
from mmsearch.cli.units import clock
from mmsearch.records import DatedBy, Details, FileFacts, Segment, Text


def show_details(details: Details, *, as_json: bool) -> None:
    """Print what a library knows of a file."""
    if as_json:
        print_json(wire.from_details(details))
        return
    for name, path in zip(("path", *[""] * len(details.paths)), details.paths, strict=False):
        say(f"{name:<10}{path}")
    if details.failure is not None:
        say(f"{'failure':<10}{details.failure.reason}")
    if details.item is None:
        return
    say(f"{'kind':<10}{details.item.modality}")
    for name, value in _facts(details.item.facts):
        say(f"{name:<10}{value}")
    for number, segment in enumerate(details.segments, 1):
        if segment.start_s is not None or segment.page is not None or segment.texts:
            say(f"{'segment':<10}{number}{_moment(segment)}")
        for text in segment.texts:
            say(f"  {_source(text):<18}{' '.join(text.words.split())}")


def _facts(facts: FileFacts) -> Iterator[tuple[str, str]]:
    """Yield what a file says of itself, in words."""
    if facts.taken_at is not None:
        guessed = " (by its name)" if facts.dated_by is DatedBy.NAME else ""
        yield "taken", facts.taken_at.isoformat(" ") + guessed
    if facts.latitude is not None and facts.longitude is not None:
        yield "place", f"{facts.latitude:.5f}, {facts.longitude:.5f}"
    if facts.camera is not None:
        yield "camera", facts.camera
    if facts.lens is not None:
        yield "lens", facts.lens
    if facts.place is not None:
        yield "at", facts.place
    if facts.rating is not None:
        yield "rating", "rejected" if facts.rating < 0 else f"{facts.rating} of 5"
    if facts.people:
        yield "people", ", ".join(facts.people)
    if facts.keywords:
        yield "keywords", ", ".join(facts.keywords)
    if facts.width is not None and facts.height is not None:
        yield "size", f"{facts.width} x {facts.height} pixels"
    if facts.duration_s is not None:
        yield "duration", clock(facts.duration_s)


def _moment(segment: Segment[None]) -> str:
    if segment.page is not None:
        return f"  p. {segment.page}"
    if segment.start_s is None or segment.end_s is None:
        return ""
    return f"  {clock(segment.start_s)}-{clock(segment.end_s)}"


def _source(text: Text) -> str:
    """Return where a text comes from, in which language, and when it is said."""
    parts = [text.origin.value, text.language, clock(text.span[0]) if text.span else ""]
    return " ".join(part for part in parts if part)
