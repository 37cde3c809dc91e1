"""Files of subtitles and lyrics → lines with times: SRT, WebVTT, SBV, LRC, ASS, and what else pysubs2 reads.

The times of SRT and WebVTT are found here: people's files have blanks in them, colons before the fraction or a minus
before the first, which players take and pysubs2 leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from mmsearch.media.subtitles import Cue, Script, plain

ENDINGS = (b".srt", b".vtt", b".ass", b".ssa", b".lrc", b".sbv", b".smi", b".sami", b".ttml", b".dfxp", b".sub")
"""How the names of subtitles and lyrics end."""
_BLANKS = r"[ \t]{0,4}"
_CLOCK = (
    rf"(-?)(?:(\d{{1,4}}){_BLANKS}:{_BLANKS})?(\d{{1,3}}){_BLANKS}:{_BLANKS}(\d{{1,2}})"
    rf"(?:{_BLANKS}[.,:]{_BLANKS}(\d{{1,9}}))?"
)
_ARROW = re.compile(rf"^[ \t]*{_CLOCK}{_BLANKS}(?:--?>|[\u2013\u2014]>){_BLANKS}{_CLOCK}(?!\d).*$", re.MULTILINE)
_SBV = re.compile(r"^(\d{1,2}:\d\d:\d\d\.\d{3}),(?=\d{1,2}:\d\d:\d\d\.\d{3}[ \t]*$)", re.MULTILINE)
_LYRIC = re.compile(r"^[ \t]*((?:\[\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?\][ \t]*)+)(.*)$", re.MULTILINE)
_STAMP = re.compile(r"\[(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?\]")
_OFFSET = re.compile(r"^\[offset:[ \t]{0,4}([+-]?\d{1,7})\]", re.MULTILINE | re.IGNORECASE)
_WORD_STAMP = re.compile(r"<\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?>")
_NUMBER_OF_NEXT = re.compile(r"\n[ \t]{0,8}\d{1,9}[ \t]{0,8}\Z")
_OTHERS = {
    "ass": re.compile(r"^Dialogue:", re.MULTILINE),
    "sami": re.compile(r"<sami\b", re.IGNORECASE),
    "ttml": re.compile(r"<tt[\s>]|<tt:tt\b"),
    "microdvd": re.compile(r"^\{\d+\}\{\d+\}", re.MULTILINE),
    "mpl2": re.compile(r"^\[\d+\] ?\[\d+\]", re.MULTILINE),
}
"""How pysubs2's formats are known."""
_ENTITIES = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_LONGEST = 2_000
"""Characters that are read of one line."""
_MOST = 100_000
"""Lines that are read of one file: a film has two thousand."""
_LAST_LINE_S = 10.0
"""How long the last line of lyrics lasts, and how long any line lasts at most."""
_FURTHEST_S = 10_000 * 3600.0


def cues(text: str, track: int = 0, language: str = "") -> list[Cue]:
    """Return what is said in subtitles or lyrics, in order of its start; what is neither has no lines.

    Captions that roll are said once, and telemetry isn't said at all: see `Script`.
    """
    script = Script()
    for start_s, end_s, rows in sorted(_lines(text), key=lambda line: line[0]):
        if end_s >= 0 and start_s < _FURTHEST_S:
            script.add(Cue(max(start_s, 0.0), max(end_s, 0.0), rows, track, language))
    return script.cues


def has_lines(text: str) -> bool:
    """Return whether a text has lines with times, said or not."""
    return next(iter(_lines(text)), None) is not None


def spoken(text: str) -> str:
    """Return the words of subtitles or lyrics as paragraphs, and a text that is neither as it is."""
    return "\n\n".join(cue.text for cue in cues(text)) if has_lines(text) else text


def _lines(text: str) -> Iterable[tuple[float, float, str]]:
    """Return lines as they stand in a file: start and end in seconds, and rows of plain words."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    for name, mark in _OTHERS.items():
        if mark.search(text):
            return _by_pysubs2(text, name)
    if not _ARROW.search(text) and _LYRIC.search(text):
        return _lyrics(text)
    return _timed(_SBV.sub(r"\1 --> ", text))


def _timed(text: str) -> Iterator[tuple[float, float, str]]:
    """Yield the lines of SRT or WebVTT."""
    is_web = text.lstrip().startswith("WEBVTT")
    arrows = [found for _, found in zip(range(_MOST + 1), _ARROW.finditer(text), strict=False)]
    for number, arrow in enumerate(arrows[:_MOST]):
        end = arrows[number + 1].start() if number + 1 < len(arrows) else len(text)
        body = text[arrow.end() + 1 : min(end, arrow.end() + 1 + _LONGEST)]
        if is_web:
            body = body.lstrip("\n").split("\n\n", 1)[0]  # behind it may stand a name of the next one, or a remark
        else:
            body = _NUMBER_OF_NEXT.sub("", f"\n{body.rstrip()}") if number + 1 < len(arrows) else body
        if rows := plain(body):
            yield _seconds(*arrow.groups()[:5]), _seconds(*arrow.groups()[5:]), rows


def _seconds(sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    value = 3600 * int(hours or 0) + 60 * int(minutes) + float(f"{seconds}.{fraction or 0}")
    return -value if sign else value


def _lyrics(text: str) -> Iterator[tuple[float, float, str]]:
    """Yield the lines of LRC: each lasts until the next one. One with several times is sung as often."""
    shift = _OFFSET.search(text)
    shift_s = int(shift[1]) / 1000 if shift else 0.0
    sung: list[tuple[float, str]] = []
    for found in _LYRIC.finditer(text):
        rows = plain(_WORD_STAMP.sub("", found[2][:_LONGEST]))
        sung += ((_seconds("", None, *stamp.groups()) - shift_s, rows) for stamp in _STAMP.finditer(found[1]))
        if len(sung) > _MOST:
            break
    sung.sort(key=lambda line: line[0])
    for (start_s, rows), (next_s, _) in pairwise([*sung, (sung[-1][0] + _LAST_LINE_S, "")]):
        if rows:  # an empty one ends the one before
            yield start_s, max(start_s, min(next_s, start_s + _LAST_LINE_S)), rows


def _by_pysubs2(text: str, name: str) -> Iterator[tuple[float, float, str]]:
    if name == "ttml" and _ENTITIES.search(text):  # entities may grow without bound
        return
    import warnings

    from pysubs2 import SSAFile
    from pysubs2.exceptions import Pysubs2Error

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            events = SSAFile.from_string(text, format_=name).events
    except (Pysubs2Error, ValueError, LookupError, SyntaxError, ArithmeticError, AttributeError, TypeError):
        return  # a broken file has no lines
    for event in events[:_MOST]:
        if not event.is_comment and (rows := plain(event.text[:_LONGEST], styled=True)):
            yield event.start / 1000, event.end / 1000, rows
