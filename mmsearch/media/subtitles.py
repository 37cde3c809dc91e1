"""Subtitles: SRT and WebVTT → lines with times, and which of them belong to a moment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

from mmsearch.invisible import without_invisible
from mmsearch.records import Origin, Text

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_ARROW = re.compile(rf"^[ \t]*{_TIME}[ \t]+-->[ \t]+{_TIME}.*$", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z\d][^<>\n]*>|\{\\[^{}]*\}")
_LONGEST = 2_000
"""Characters that are read of one line."""
_MOST = 100_000
"""Lines that are read of one file: a film has two thousand."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A line that is shown, or said, from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    text: str
    track: int = 0
    """Which of several files or tracks it stands in: each may be in another language."""
    language: str = ""


def cues(text: str, track: int = 0, language: str = "") -> list[Cue]:
    """Return the lines of an SRT or WebVTT text in order of their start; what is neither has none."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    found: list[Cue] = []
    arrows = list(_ARROW.finditer(lines))[:_MOST]
    for arrow, after in zip_longest(arrows, arrows[1:]):
        end = after.start() if after else len(lines)
        body = re.split(r"\n[ \t]*\n", lines[arrow.end() : end].lstrip("\n"), maxsplit=1)[0]
        words = plain(body[:_LONGEST])
        if words:
            found.append(Cue(_seconds(*arrow.groups()[:4]), _seconds(*arrow.groups()[4:]), words, track, language))
    return sorted(found, key=lambda cue: cue.start_s)


def plain(text: str) -> str:
    """Return a line without tags, line breaks and characters that nobody sees."""
    return " ".join(without_invisible(_TAG.sub("", text)).split())


def said(lines: Iterable[Cue], start_s: float, end_s: float) -> list[Text]:
    """Return what is said in a moment, one text a track with the span of its lines, without repetitions.

    A line belongs to a moment that covers half of it, or of which it covers half: where moments follow each other, to
    one of them at least, and to none that it only touches.
    """
    tracks: dict[int, list[Cue]] = {}
    for cue in lines:
        if _covers(cue, start_s, end_s):
            tracks.setdefault(cue.track, []).append(cue)
    texts: dict[str, Text] = {}
    for _, own in sorted(tracks.items()):
        words = " ".join(dict.fromkeys(cue.text for cue in own))
        span = (min(cue.start_s for cue in own), max(cue.end_s for cue in own))
        texts.setdefault(words, Text(Origin.SUBTITLE, words, own[0].language, span))
    return list(texts.values())


def _covers(cue: Cue, start_s: float, end_s: float) -> bool:
    length_s = max(cue.end_s - cue.start_s, 0.0)
    if length_s == 0:
        return start_s <= cue.start_s < end_s
    covered_s = min(cue.end_s, end_s) - max(cue.start_s, start_s)
    return covered_s >= min(length_s, end_s - start_s) / 2


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(f"{seconds}.{fraction}")
