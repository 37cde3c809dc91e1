"""The tracks of a container: which of them are read, and in which language they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from av.stream import Disposition, Stream
from av.video.stream import VideoStream

_Track = TypeVar("_Track", bound=Stream)
_ASIDE = Disposition.forced | Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired
"""What a track is said to be that isn't the main one: signs alone, remarks, descriptions."""
_DEFAULT = Disposition.default
_STILL = Disposition.attached_pic | Disposition.still_image
_LETTERS = 3
"""Letters of a language: ISO 639-2."""


def main(tracks: Iterable[_Track]) -> _Track | None:
    """Return the main track of a kind: one that isn't meant for few, of these the default one, else the first."""
    known = filter(_is_known, tracks)
    return min(known, key=lambda each: (bool(each.disposition & _ASIDE), not each.disposition & _DEFAULT), default=None)


def is_moving(stream: VideoStream) -> bool:
    """Return whether a track of pictures can be decoded and is no cover."""
    return _is_known(stream) and not stream.disposition & _STILL


def has_words(stream: Stream) -> bool:
    """Return whether subtitles are words: pictures of them aren't read."""
    return _is_known(stream) and bool(stream.codec_context.codec.text_sub)


def language(stream: Stream | None) -> str:
    """Return the language that a container gives a track, "" where it gives none."""
    named = stream.metadata.get("language", "") if stream is not None else ""
    return named if named.isalpha() and len(named) <= _LETTERS and named != "und" else ""


def _is_known(stream: Stream) -> bool:
    """Return whether FFmpeg can decode a stream: one of a codec it doesn't know has no context."""
    return getattr(stream, "codec_context", None) is not None
