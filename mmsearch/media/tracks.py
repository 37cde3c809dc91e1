"""Which of a container's tracks are read: the pictures that move, the main sound, and subtitles in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from av.container.streams import StreamContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

_Track = TypeVar("_Track", bound=Stream)

_ASIDE = Disposition.forced | Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired
"""What a track is said to be that isn't the main one: signs alone, remarks, descriptions."""
_STILL = Disposition.attached_pic | Disposition.still_image
_CODE_LENGTH = 3
"""Letters of a language in a container: ISO 639-2."""


def moving_pictures(streams: StreamContainer) -> VideoStream | None:
    """Return the track of pictures that FFmpeg would show, None where there are covers and stills alone."""
    seen = [each for each in streams.video if _is_known(each) and not each.disposition & _STILL]
    moving = [each for each in seen if each.frames != 1] or seen
    chosen = streams.best("video")  # FFmpeg counts how many frames of each come at the beginning
    return next((each for each in moving if each is chosen), next(iter(moving), None))


def main_track(tracks: Iterable[_Track]) -> _Track | None:
    """Return the main track of a kind: one that isn't meant for few, of these the default one, else the first."""
    return min(filter(_is_known, tracks), key=_rank, default=None)


def _rank(track: Stream) -> tuple[bool, bool]:
    return bool(track.disposition & _ASIDE), not track.disposition & Disposition.default


def has_words(stream: Stream) -> bool:
    """Return whether subtitles are words: pictures of them aren't read."""
    return _is_known(stream) and stream.codec_context.codec.text_sub


def language_of(stream: Stream | None) -> str:
    """Return the language that a container gives a track, "" where it gives none."""
    named = stream.metadata.get("language", "") if stream is not None else ""
    return named if named.isalpha() and len(named) <= _CODE_LENGTH and named != "und" else ""


def _is_known(stream: Stream) -> bool:
    """Return whether FFmpeg can decode a stream: one of a codec it doesn't know has no context."""
    return getattr(stream, "codec_context", None) is not None
