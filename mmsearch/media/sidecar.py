"""Files beside a file that say something of it, by their names.

`photo.txt`, `photo.json`, `photo.jpg.json`, `photo.xmp`: captions and metadata; `clip.en-US.srt`, `song.lrc`: lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mmsearch.media import languages
from mmsearch.media.kinds import by_name
from mmsearch.media.subtitle_files import ENDINGS as SUBTITLE_ENDINGS
from mmsearch.types import Modality

CAPTION_ENDINGS = (b".txt", b".json", b".xmp", b".nfo")
_TIMED = (Modality.AUDIO, Modality.VIDEO)
_TAKEOUT_LENGTH = 46
"""Characters to which Takeout cuts a name before it puts `.json` behind it."""


@dataclass(slots=True)
class Sidecars:
    """The sidecars among the files of a folder: which of them belong to which file.

    Case doesn't matter (`IMG_1.JPG`, `img_1.txt`) unless there is one in the same case.
    """

    _captions: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Captions by their names in lower case."""
    _lines: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Subtitles by the name, or the name without its ending, in lower case, of what they belong to."""

    @classmethod
    def among(cls, names: Iterable[bytes]) -> Sidecars:
        """Return the sidecars among the names in a folder."""
        own, subtitles, timed = cls(), list[bytes](), set[bytes]()
        for name in names:
            lower = name.lower()
            if lower.endswith(CAPTION_ENDINGS):
                own._captions.setdefault(lower, []).append(name)
            elif lower.endswith(SUBTITLE_ENDINGS):
                subtitles.append(name)
            elif by_name(name) in _TIMED:
                timed.update((lower, os.path.splitext(lower)[0]))  # noqa: PTH122  names are bytes
        for name in sorted(subtitles):
            owners = (owner for owner, _ in _split(name) if owner.lower() in timed)
            if (owner := next(owners, None)) is not None:  # the longest: `talk.it.srt` belongs to `talk.it.mp4`
                own._lines.setdefault(owner.lower(), []).append(name)
        return own

    def of(self, name: bytes) -> tuple[bytes, ...]:
        """Return the sidecars of a file, in the order in which they are read; () for texts."""
        modality = by_name(name)
        found: list[bytes] = []
        if modality in (Modality.IMAGE, Modality.VIDEO):
            for wanted in _caption_names(name):
                found += _in_case(self._captions.get(wanted.lower(), ()), wanted)
        if modality in _TIMED:
            stem = os.path.splitext(name)[0]  # noqa: PTH122
            for owner in (stem, name):
                known = self._lines.get(owner.lower(), ())
                exact = [each for each in known if each.startswith(owner)]
                found += sorted(exact or known, key=lambda each: (_is_later(owner, each), each))
        return tuple(each for each in dict.fromkeys(found) if each != name)

    def __bool__(self) -> bool:
        return bool(self._captions or self._lines)


def likely_names(name: bytes) -> tuple[bytes, ...]:
    """Return the names of a file's sidecars in its own case and without a language, for a folder that isn't listed."""
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    lines = (owner + ending for owner in (stem, name) for ending in SUBTITLE_ENDINGS)
    return Sidecars.among((name, *_caption_names(name), *lines)).of(name)


def _split(name: bytes) -> Iterator[tuple[bytes, list[str]]]:
    """Yield what subtitles may belong to by their name, with the parts of it that say more; the longest first."""
    for owner, tags in languages.split(os.fsdecode(os.path.splitext(name)[0])):  # noqa: PTH122
        yield os.fsencode(owner), tags


def _in_case(names: Iterable[bytes], wanted: bytes) -> list[bytes]:
    """Return the names whose case is the wanted one, but for the ending; all where there is none."""
    known = sorted(names)
    stem = os.path.splitext(wanted)[0]  # noqa: PTH122
    return [each for each in known if each.startswith(stem)] or known


def _caption_names(name: bytes) -> Iterator[bytes]:
    """Yield the names of captions and metadata that belong to a picture or clip, in reading order."""
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    yield from (stem + b".txt", stem + b".json", name + b".json", stem + b".info.json", *_takeout_names(name))
    yield from (name + b".xmp", stem + b".xmp", stem + b".nfo")


def _takeout_names(name: bytes) -> Iterator[bytes]:
    """Yield the names of a picture's or clip's metadata in Google Takeout, which aren't `name.json`.

    `a.jpg` has `a.jpg.supplemental-metadata.json`, cut to 46 bytes before the ending; `a(1).jpg` has
    `a.jpg(1).json` or `a.jpg.supplemental-metadata(1).json`; `a-edited.jpg` has that of `a.jpg`.
    """
    stem, ending = os.path.splitext(name)  # noqa: PTH122  names are bytes
    stem = stem.removesuffix(b"-edited")
    original, bracket, number = stem.rpartition(b"(")
    counted = bool(original) and number.endswith(b")") and number[:-1].isdigit()
    base, count = (original + ending, bracket + number) if counted else (stem + ending, b"")
    full = (base + b".supplemental-metadata")[:_TAKEOUT_LENGTH]
    for known in (base[:_TAKEOUT_LENGTH] + count, full + count):
        if known != name:
            yield known + b".json"


def has_times(name: bytes) -> bool:
    """Return whether a sidecar's lines belong to moments: subtitles and lyrics."""
    return name.lower().endswith(SUBTITLE_ENDINGS)


def language_of(name: bytes, owner: bytes) -> str:
    """Return the language that the name of the subtitles of `owner` gives, as "de" in `clip.de.srt`; "" for none."""
    tags = next((tags for each, tags in _split(name) if _owns(owner, each)), [])
    return next(filter(None, map(languages.language_of, tags)), "")


def _owns(owner: bytes, stem: bytes) -> bool:
    return stem.lower() in (owner.lower(), os.path.splitext(owner.lower())[0])  # noqa: PTH122


def _is_later(owner: bytes, name: bytes) -> bool:
    tags = next((tags for each, tags in _split(name) if each.lower() == owner.lower()), [])
    return languages.is_later(tags)
