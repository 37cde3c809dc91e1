"""Which of a container's tracks are read: the pictures that move, the main sound, and subtitles in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from contextlib import closing, suppress
from typing import TypeVar

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.container.streams import StreamContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from mmsearch.media import languages
from mmsearch.media.frames import samples_of
from mmsearch.media.sound import SILENCE

_Track = TypeVar("_Track", bound=Stream)

_ASIDE = Disposition.forced | Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired
"""What a track is said to be that isn't the main one: signs alone, remarks, descriptions."""
_PLACES, _PACKETS = 4, 150
"""Where it is found out which tracks are heard: in so many places, and packets of each track there."""
_STILL = Disposition.attached_pic | Disposition.still_image
_SIGNS = re.compile(r"\b(?:signs?|songs?|karaoke)\b", re.IGNORECASE)
"""Titles of subtitles that say what is written in the picture, and not what is said."""


def moving_pictures(streams: StreamContainer) -> VideoStream | None:
    """Return the track of pictures that FFmpeg would show, None where there are covers and stills alone."""
    seen = [each for each in streams.video if _is_known(each) and not each.disposition & _STILL]
    moving = [each for each in seen if each.frames != 1] or seen
    chosen = streams.best("video")  # FFmpeg counts how many frames of each come at the beginning
    return next((each for each in moving if each is chosen), next(iter(moving), None))


def main_sound(container: InputContainer, open_again: Callable[[], InputContainer]) -> AudioStream | None:
    """Return the track of sound that is heard: one that isn't meant for few, of these the default one, else the first.

    Where that is silent and another one isn't, it is the first of those. To find out, a few seconds of a second
    container of the same file are decoded.
    """
    tracks = sorted(filter(_is_known, container.streams.audio), key=_rank)
    if len(tracks) > 1:
        with suppress(av.error.FFmpegError, ValueError), closing(open_again()) as other:
            heard = _heard(other, [track.index for track in tracks])
            tracks.sort(key=lambda track: track.index not in heard)
    return tracks[0] if tracks else None


def _heard(container: InputContainer, indexes: list[int]) -> set[int]:
    """Return which of some tracks aren't silent in what is looked at of them; no more once the first is heard."""
    heard: set[int] = set()
    length = container.duration or 0
    for place in range(_PLACES):
        if place:
            container.seek(length * place // _PLACES)
        packets = container.demux([container.streams[index] for index in indexes])
        for _, packet in zip(range(_PACKETS * len(indexes)), packets, strict=False):
            if packet.stream.index not in heard and _is_heard(packet):
                heard.add(packet.stream.index)
            if indexes[0] in heard:
                return heard
        if not length:
            break
    return heard


def _is_heard(packet: av.Packet[Stream]) -> bool:
    try:
        frames = packet.decode()
    except (av.error.FFmpegError, ValueError):  # reading the file will tell
        return False
    blocks = (samples_of(frame) for frame in frames if isinstance(frame, AudioFrame))
    peaks = (float(np.abs(block).max(initial=0.0)) for block in blocks)
    return any(peak >= SILENCE for peak in peaks)


def _rank(track: Stream) -> tuple[bool, bool]:
    return bool(track.disposition & _ASIDE), not track.disposition & Disposition.default


def word_tracks(streams: StreamContainer) -> list[SubtitleStream]:
    """Return the tracks of subtitles that are read, main ones first.

    They are those in words, but for the ones that say only what signs show: their title says so, or they are forced and
    there is a track of the same language that isn't.
    """
    tracks = sorted(filter(has_words, streams.subtitles), key=_rank)
    tracks = [each for each in tracks if not _SIGNS.search(each.metadata.get("title", ""))] or tracks[:1]
    full = {language_of(each) for each in tracks if not each.disposition & Disposition.forced}
    return [each for each in tracks if not each.disposition & Disposition.forced or not _is_among(each, full)]


def _is_among(track: Stream, full: Set[str]) -> bool:
    """Return whether a language that is read in full may be that of a track."""
    language = language_of(track)
    return language in full or "" in full or (not language and bool(full))


def has_words(stream: Stream) -> bool:
    """Return whether subtitles are words: pictures of them aren't read."""
    return _is_known(stream) and stream.codec_context.codec.text_sub


def language_of(stream: Stream | None) -> str:
    """Return the language that a container gives a track, "" where it gives none."""
    return languages.language_of(stream.metadata.get("language", "")) if stream is not None else ""


def _is_known(stream: Stream) -> bool:
    """Return whether FFmpeg can decode a stream: one of a codec it doesn't know has no context."""
    return getattr(stream, "codec_context", None) is not None
