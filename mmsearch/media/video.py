"""Containers of pictures and sound, by FFmpeg: what a file holds, as a stream of frames, sounds and subtitles."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Discard
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from mmsearch import memory
from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.boxes import breaks_off
from mmsearch.media.container import open_container, reason, tags_in
from mmsearch.media.container_metadata import describe_tags
from mmsearch.media.description import Description
from mmsearch.media.frames import Block, Frame, picture_of, samples_of, thumb_of, words_of
from mmsearch.media.shots import Thumb
from mmsearch.media.subtitles import Cue
from mmsearch.media.tracks import language_of, main_sound, moving_pictures, word_tracks
from mmsearch.resample import resample
from mmsearch.settings import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

_FIRST_TRACK = 1_000
"""The number of a clip's first track of subtitles: files of subtitles have lower ones."""
_LONG_S = 60.0
"""From this length on a clip is decoded by several threads: a shorter one is done before they pay."""
_THREADS = 8
_SMOOTH_FPS = 10
"""From this rate on, frames that no other frame is built on are left undecoded: half of them, most often."""
_DENSE_S = 1.05
"""Where key frames are no further apart, nothing else is decoded (phones write one a second)."""
_LOOKS = 8
"""How often a second a frame is compared with the one before, to find where a shot ends."""
_APART_S = 0.2
"""Of key frames that are closer than this, some are left out."""
_STANDS_S = 10.0
"""How long a frame is taken to stand at most, whatever its header says."""
_LEAP_S = 5.0
"""Time stamps that go back by more than this are those of another recording."""
_KEYS_LOOKED_AT = 20_000
_RUN_UP_S = 1.0
"""How far before a moment reading begins: a sound decoder needs some frames to settle."""
_CUE_RUN_UP_S = 10.0
"""The same where subtitles are read: one may have begun before."""
_BAD_SHARE = 0.02
"""Share of packets that may fail before it is worth a word: broadcasts begin and end with a few."""
_BROKEN = (av.error.FFmpegError, ValueError, EOFError)
"""What PyAV raises on damaged data, FFmpeg's want of memory among them; Python's own is not."""
_FRAMES_HELD = 8
"""About how many frames are held while one thread decodes: those that others are built on, and the one that is seen."""


class SeekMissedError(Exception):
    """The container can't be entered at a moment; it has to be read from its start."""


class Video:
    """An opened container. Raises `MediaError` where it isn't one, or holds neither pictures nor sound."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._limits, self._file = limits, file
        self._broken: str | None = None
        try:
            self._container = open_container(file)
        except Exception as error:  # FFmpeg's errors (want of memory too: damaged headers ask for any amount)
            raise MediaError(
                f"no sound or video that can be decoded ({reason(error)}); convert or replace it"
            ) from None
        streams = self._container.streams
        self._pictures = moving_pictures(streams)
        self._sound = main_sound(self._container, lambda: open_container(file))
        self._words = word_tracks(streams)
        if self._pictures is None and self._sound is None and not self._words:
            raise MediaError("no picture and no sound in it can be decoded; convert or replace it")
        self._start_s = (self._container.start_time or 0) / av.time_base
        self._decoded, self._bad = 0, 0
        # How far reading has come:
        self.pictures_end_s = 0.0
        """When the last frame ends of which data was met, decoded or not."""
        self._from_s, self._heard_s, self._key_s, self._rate_hz = 0.0, 0.0, -1.0, 0
        self._seen_s: float | None = None
        self._standing: Frame | None = None
        self._turned: bool | None = None
        self._small = VideoReformatter()
        self._prepare()

    def _prepare(self) -> None:
        wanted = (self._pictures, self._sound, *self._words)
        for stream in self._container.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        if (pictures := self._pictures) is None:
            return
        context = pictures.codec_context
        self._frame_s = 1 / min(max(0.1, float(pictures.average_rate or pictures.guessed_rate or 25)), 1000)
        self._tick_s = float(pictures.time_base or 0)
        self._aspect = float(pictures.sample_aspect_ratio or 1) or 1.0
        if context.width * context.height > self._limits.frame_pixels:
            raise MediaError(f"its frames are {context.width} x {context.height}; make them smaller")
        frame_bytes = context.width * context.height * _bits_of(context.format) // 8
        if (self.promised_s or 0) > _LONG_S:
            context.thread_type = "AUTO"
            held = self._limits.run_bytes // 2 // max(1, frame_bytes)  # each thread holds one more
            context.thread_count = max(1, min(_THREADS, 2 * (os.cpu_count() or 1), held - _FRAMES_HELD))
            # A quarter faster; frames made small lose next to nothing: cosines with filtered ones are 0.98 to 1.
            context.options = {"skip_loop_filter": "all"}
        else:
            context.thread_count = 1
        memory.reserve((_FRAMES_HELD + context.thread_count) * frame_bytes)
        if (pictures.average_rate or 0) >= _SMOOTH_FPS:
            context.skip_frame = "NONREF"
        self._key_frames_only = _are_dense(pictures)

    @property
    def has_pictures(self) -> bool:
        """Whether there is more to see than a cover."""
        return self._pictures is not None

    @property
    def has_sound(self) -> bool:
        """Whether there is a track of sound, silent or not."""
        return self._sound is not None

    @property
    def promised_s(self) -> float | None:
        """How long it is by its header, None where that isn't said or says nothing of pictures and sound."""
        lengths = [
            float(stream.duration * stream.time_base)
            for stream in (self._pictures, self._sound)
            if stream is not None and stream.duration and stream.time_base
        ]
        if lengths:
            return max(lengths)
        whole = self._container.duration
        return whole / av.time_base - max(0.0, self._start_s) if whole and not self._words else None

    @property
    def description(self) -> Description:
        """What the container says of itself. Which way up it is, only its first frame tells, and so its size."""
        fields: dict[str, Any] = {"duration_s": metadata.duration(self.promised_s)}
        if self._pictures is not None and self._turned is not None:
            context = self._pictures.codec_context
            fields |= metadata.pixels(context.width, context.height, turned=self._turned)
        return describe_tags(tags_in(self._container)).with_more(Description.of(**fields))

    @property
    def pictures_promised_s(self) -> float | None:
        """When the pictures end by the header of their track, None where that isn't said."""
        if self._pictures is None or not self._pictures.duration:
            return None
        return self._pictures.duration * self._tick_s

    @property
    def says_its_length(self) -> bool:
        """Whether its kind of container knows how long it is, so that one that ends before is broken."""
        return any(name in self._container.format.name for name in ("mov", "matroska", "avi"))

    @property
    def damage(self) -> str | None:
        """What of it couldn't be decoded so far, in words."""
        if self._broken is None and self._bad > max(3, _BAD_SHARE * self._decoded):
            return f"{self._bad:,} of {self._decoded + self._bad:,} packets can't be decoded"
        return self._broken

    def close(self) -> None:
        """Close the container."""
        with suppress(*_BROKEN):
            self._container.close()

    def events(self, from_s: float = 0.0, *, seek: bool = True) -> Iterator[Frame | Block | Cue]:
        """Yield what is seen, heard and written from a moment on, in the order of the file.

        What can't be decoded is left out, and told by `damage` afterwards. Raises `SeekMissedError`; without `seek`
        the file is decoded from its start.
        """
        entered = from_s == 0 or not seek
        if not entered:
            self._seek(from_s)
        self._from_s = from_s
        for packet in self._packets():
            if packet.stream is self._pictures:
                self._note_end(packet)
                if self._left_out(packet):
                    continue
            for event in self._decode(packet):
                if not entered and not isinstance(event, Cue):
                    leading = self._pictures is None or isinstance(event, Frame)
                    at = event.time_s if isinstance(event, Frame) else event.start_s
                    if leading and at > from_s + 0.5:
                        raise SeekMissedError
                    entered = entered or leading
                yield from self._stand(event)
        if self._broken is None and "mov" in self._container.format.name and breaks_off(self._file):
            self._broken = "it breaks off before its end"

    def drain(self) -> Iterator[Frame]:
        """Yield the frames that the decoder still holds, and what stood at the start if none came. Ends reading."""
        if self._pictures is not None:
            try:
                for frame in self._pictures.decode(None):
                    yield from self._stand(self._frame(frame))
            except _BROKEN as error:  # the end of a broken file
                _fault(error)
        if self._standing is not None:
            yield self._at_start(self._standing)

    def _stand(self, event: Any) -> Iterator[Any]:  # noqa: ANN401  any event, and a frame before it
        """Yield an event, and before the first frame the one that stands at the start, unless they coincide."""
        if not isinstance(event, Frame):
            yield event
        elif event.time_s < self._from_s - 1e-6:
            self._standing = event
        else:
            apart_s = _DENSE_S if self._pictures is not None and self._key_frames_only else 1 / _LOOKS
            if self._standing is not None and event.time_s > self._from_s + apart_s:
                yield self._at_start(self._standing)
            self._standing = None
            yield event

    def _at_start(self, standing: Frame) -> Frame:
        self._standing = None
        start_s, thumb = self._from_s, self._thumb(standing.source)
        return replace(standing, time_s=start_s, end_s=max(start_s, standing.end_s), before_s=start_s, thumb=thumb)

    def _note_end(self, packet: Packet[Any]) -> None:
        if packet.pts is not None:
            end_s = (packet.pts + (packet.duration or 0)) * self._tick_s - self._start_s
            self.pictures_end_s = max(self.pictures_end_s, end_s)

    def _seek(self, from_s: float) -> None:
        lead_s = _CUE_RUN_UP_S if self._words else _RUN_UP_S
        target_s = max(0.0, from_s - lead_s) + self._start_s
        try:
            self._container.seek(int(target_s * av.time_base))
        except _BROKEN:
            raise SeekMissedError from None

    def _packets(self) -> Iterator[Packet[Any]]:
        wanted = [stream for stream in (self._pictures, self._sound, *self._words) if stream is not None]
        packets = self._container.demux(wanted)
        while True:
            try:
                packet = next(packets, None)
            except _BROKEN as error:
                self._broken = _fault(error)
                return
            if packet is None:
                return
            yield packet

    def _left_out(self, packet: Packet[Any]) -> bool:
        """Return whether a packet of pictures needs no decoding."""
        if not self._key_frames_only or packet.size == 0:
            return False
        at = packet.pts if packet.pts is not None else packet.dts
        if not packet.is_keyframe or at is None:
            return not packet.is_keyframe
        before_s, self._key_s = self._key_s, at * self._tick_s
        return int(self._key_s / _APART_S) == int(before_s / _APART_S)

    def _decode(self, packet: Packet[Any]) -> Iterator[Frame | Block | Cue]:
        try:
            found: list[Any] = list(packet.decode())
        except _BROKEN as error:
            if isinstance(error, MemoryError):
                self._broken = _fault(error)
            self._bad += 1
            return
        self._decoded += 1
        for item in found:
            if isinstance(item, VideoFrame):
                yield self._frame(item)
            elif isinstance(item, AudioFrame):
                yield self._block(item)
            elif (words := words_of(item)) and packet.pts is not None and packet.time_base is not None:
                start_s = float(packet.pts * packet.time_base) - self._start_s
                end_s = start_s + float((packet.duration or 0) * packet.time_base)
                number = next((n for n, track in enumerate(self._words) if track is packet.stream), 0)
                yield Cue(start_s, end_s, words, _FIRST_TRACK + number, language_of(packet.stream))

    def _frame(self, frame: VideoFrame) -> Frame:
        assert self._pictures is not None
        if frame.width * frame.height > self._limits.frame_pixels:
            raise MediaError(f"its frames are {frame.width} x {frame.height}; make them smaller")
        self._turned = frame.rotation % 180 != 0
        before_s = self._seen_s
        time_s = 0.0 if before_s is None else before_s + self._frame_s
        if frame.pts is not None and self._tick_s:
            time_s = frame.pts * self._tick_s - self._start_s
        if before_s is not None and time_s < before_s:
            if time_s < before_s - _LEAP_S:
                self._broken = "its time stamps go back, so that what follows has no place"
            time_s = before_s
        between = None if before_s is None or not self._key_frames_only else (before_s + time_s) / 2
        looked = before_s is not None and int(time_s * _LOOKS) == int(before_s * _LOOKS)
        thumb = None if looked else self._thumb(frame)
        self._seen_s = time_s
        stands_s = min((frame.duration or 0) * self._tick_s or self._frame_s, _STANDS_S)
        before_s = time_s if before_s is None else before_s
        return Frame(time_s, time_s + stands_s, before_s, between, thumb, frame, self._aspect)

    def _thumb(self, frame: VideoFrame) -> Thumb:
        return thumb_of(frame, self._small)

    def _block(self, frame: AudioFrame) -> Block:
        samples = samples_of(frame)
        rate_hz = self._rate_hz = self._rate_hz or frame.sample_rate
        if frame.sample_rate != rate_hz:  # a track may change its rate; a time line has one
            samples = resample(samples.mean(axis=0), frame.sample_rate, rate_hz)[None]
        start_s = self._heard_s
        if frame.pts is not None and (time_s := frame.time) is not None and math.isfinite(time_s):
            stated_s = time_s - self._start_s
            # Stamps are rounded: a block that begins about where the last one ended, begins there.
            start_s = stated_s if abs(stated_s - start_s) > 0.05 else start_s
        self._heard_s = start_s + samples.shape[1] / rate_hz
        return Block(start_s, rate_hz, samples)


def frame_at(file: BinaryIO, time_s: float, side: int, limits: Limits) -> Image | None:
    """Return what is to be seen at a moment, None where nothing is. Raises `MediaError`."""
    video = Video(file, limits)
    try:
        if video.has_pictures:
            with suppress(SeekMissedError):
                for event in chain(video.events(time_s), video.drain()):
                    if isinstance(event, Frame):
                        return picture_of(event, side)
        return None
    finally:
        video.close()


def _bits_of(layout: VideoFormat | None) -> int:
    """Return how many bits a pixel takes in memory."""
    return layout.padded_bits_per_pixel if layout is not None else 24


def _fault(error: Exception) -> str:
    """Return in words why a container can't be read on. Raises `MemoryError` where a larger share may help."""
    if memory.is_short(error):
        raise MemoryError from None
    if isinstance(error, MemoryError):  # it asks for more than any file may have: a damaged size asks for any amount
        return "a part of it needs more memory than one file may take"
    return f"it is damaged ({reason(error)})"


def _are_dense(pictures: VideoStream) -> bool:
    """Return whether the index knows that key frames come at least once a second."""
    entries = pictures.index_entries[:_KEYS_LOOKED_AT]
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]
    if len(keys) < 2 or pictures.time_base is None:
        return False
    apart = np.diff([*keys, entries[-1].timestamp]) * float(pictures.time_base)
    return bool(apart.max() <= _DENSE_S)
