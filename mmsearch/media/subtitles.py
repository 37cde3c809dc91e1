"""Lines of subtitles and lyrics: their plain words, and which of them belong to a moment."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mmsearch.printable import without_invisible
from mmsearch.records import Origin, Text

_TAG = re.compile(r"</?[A-Za-z\d][^<>\n]*>|\{\\[^{}]*\}")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[A-Za-z]\w{1,30});")
_DRAWS = re.compile(r"\{[^{}]*\\p[1-9]")
_BREAKS = str.maketrans({"\r": "\n", "\v": "\n", "\f": "\n", "\u2028": "\n"})
_ADJOINS_S = 0.5
"""A line that comes this soon after another one may show that one's words again, as rolling captions do."""
_NUMBER = re.compile(r"\d[\d.,:/%°-]*")
_SETTING = re.compile(
    r"[\[(]?\b[A-Za-z][\w.]{0,20} ?[:=(] ?\[?[NESW+-]?\d|\b(?:ISO|SS|EV|F/|H\.S|V\.S|[NESW]) ?[+-]?\d", re.ASCII
)
_LEAST_NUMBERS = 4
_NUMERIC = 0.25
"""Share of digits among letters and digits from which a line with settings is telemetry."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A line that is shown, or said, from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    text: str
    track: int = 0
    """Which of several files or tracks it stands in: each may be in another language."""
    language: str = ""


@dataclass(slots=True)
class Script:
    """Collects lines as they are shown, and keeps what is said, once.

    Captions that roll show a line again below which the next one appears, and others grow word by word: of each, only
    new words are kept. Telemetry of drones and dash cams, which is written as subtitles, isn't said at all.
    """

    cues: list[Cue] = field(default_factory=list)
    _shown: dict[int, tuple[Cue, list[str]]] = field(default_factory=dict)
    """The last line of each track, and the rows that were on the screen with it."""

    def add(self, shown: Cue) -> None:
        """Add a line; its text has a row in each of its lines."""
        rows = [row for row in (" ".join(row.split()) for row in shown.text.split("\n")) if row]
        words = " ".join(rows)
        if not rows or is_telemetry(words):
            return
        last, before = self._shown.get(shown.track, (None, []))
        if last is not None and last.start_s <= shown.start_s <= last.end_s + _ADJOINS_S:
            known = next((n for n in range(min(len(rows), len(before)), 0, -1) if before[-n:] == rows[:n]), 0)
            if known == len(rows):  # nothing new
                self._replace(last, replace(last, end_s=max(last.end_s, shown.end_s)), rows)
                return
            fresh = " ".join(rows[known:])
            if fresh.startswith(f"{last.text} "):
                self._replace(last, replace(last, end_s=max(last.end_s, shown.end_s), text=fresh), rows)
                return
            words = fresh
        cue = replace(shown, text=words)
        self.cues.append(cue)
        self._shown[shown.track] = (cue, rows)

    def _replace(self, last: Cue, cue: Cue, rows: list[str]) -> None:
        at = next((n for n in range(len(self.cues) - 1, -1, -1) if self.cues[n] is last), None)
        if at is not None:
            self.cues[at] = cue
        self._shown[cue.track] = (cue, rows)


def plain(text: str, *, styled: bool = False) -> str:
    r"""Return the rows of a line without tags, entities, drawings and characters that nobody sees.

    `styled` says that it is in the language of ASS, in which all that stands in braces is unseen and `\N` ends a row.
    """
    if _DRAWS.search(text):
        text = _without_drawings(text)
    if styled:
        text = re.sub(r"\{[^{}]*\}", "", text).replace("\\N", "\n").replace("\\n", "\n")
    words = _ENTITY.sub(lambda found: html.unescape(found.group()), _TAG.sub("", text.replace("\\h", " ")))
    rows = (" ".join(row.split()) for row in without_invisible(words.translate(_BREAKS)).split("\n"))
    return "\n".join(row for row in rows if row)


def _without_drawings(text: str) -> str:
    from pysubs2.formats.substation import parse_tags  # few lines draw

    return " ".join(part for part, style in parse_tags(text) if not style.drawing)


def is_telemetry(words: str) -> bool:
    """Return whether a line is what a device measured: settings and numbers, no speech."""
    digits = sum(character.isdigit() for character in words)
    letters = sum(character.isalpha() for character in words)
    if digits < _NUMERIC * (digits + letters) or len(_NUMBER.findall(words)) < _LEAST_NUMBERS:
        return False
    return len(_SETTING.findall(words)) >= 2


def said(lines: Iterable[Cue], start_s: float, end_s: float) -> list[Text]:
    """Return what is said in a moment, one text a track with the span of its lines, without repetitions.

    A line belongs to a moment that covers half of it, or of which it covers half: where moments follow each other, to
    one of them at least, and to none that it only touches. Of two tracks in one language, the second gives what the
    first doesn't.
    """
    tracks: dict[int, list[Cue]] = {}
    for cue in lines:
        if _covers(cue, start_s, end_s):
            tracks.setdefault(cue.track, []).append(cue)
    texts: list[Text] = []
    known: dict[str, set[str]] = {}
    for _, own in sorted(tracks.items()):
        earlier = known.setdefault(own[0].language, set())
        fresh = [cue for cue in own if cue.text not in earlier]
        earlier.update(cue.text for cue in fresh)
        words = " ".join(dict.fromkeys(cue.text for cue in fresh))
        if words and all(words != text.words for text in texts):
            span = (min(cue.start_s for cue in fresh), max(cue.end_s for cue in fresh))
            texts.append(Text(Origin.SUBTITLE, words, own[0].language, span))
    return texts


def _covers(cue: Cue, start_s: float, end_s: float) -> bool:
    length_s = max(cue.end_s - cue.start_s, 0.0)
    if length_s == 0:
        return start_s <= cue.start_s < end_s
    covered_s = min(cue.end_s, end_s) - max(cue.start_s, start_s)
    return covered_s >= min(length_s, end_s - start_s) / 2
