"""Sounds and clips → segments, in parts: windows of sound, shots with their frames, their sound and what is said.

A part ends where a segment ends, and the next one begins there with the same result as if reading had gone on: memory
is bounded whatever the length of a file, and what was committed is never decoded again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from mmsearch.errors import MediaError
from mmsearch.media.chains import SoundChain, open_sound
from mmsearch.media.container import tags_of
from mmsearch.media.container_metadata import describe_tags
from mmsearch.media.description import Description
from mmsearch.media.frames import Block, Frame, picture_of
from mmsearch.media.shots import MAX_SHOT_S, MIN_SHOT_S, STANDS_S, ShotCutter
from mmsearch.media.sound import HOP_S, WINDOW_S, SoundFile, Track, is_silent, windows
from mmsearch.media.stretches import Stretch
from mmsearch.media.subtitles import Cue, Script, said
from mmsearch.media.video import SeekMissedError, Video
from mmsearch.records import Segment, Text
from mmsearch.settings import Limits
from mmsearch.types import Modality, View

if TYPE_CHECKING:
    from mmsearch.records import Payloads
    from mmsearch.types import Payload

PART_S = 60.0
"""A part of a clip ends with the shot that brings it here,"""
_PART_WALL_S = 15.0
"""or with the shot that is under way when decoding has taken so long."""
_OVERLAP_S = WINDOW_S - HOP_S
_PART_WINDOWS = 16
"""Windows in a part of a sound."""
_SHORT_S = 60.0
"""Up to this length a clip is looked at twice a second, and once if it is longer."""
_SOUND_LAG_S = 15.0
"""How far in a file the sound may lie behind its picture; what comes later is missing under its shot."""
_BLEEDS_S = 0.1
"""So far a codec lets a shot's sound run into the next one, which may be silent all the same."""
_LOOKED_AT = 500
"""Frames, blocks of sound and subtitles among which the first frame is looked for where only facts are read."""
_TAIL_S = _PART_WINDOWS * HOP_S
_MOST_WORDS = 4_000
"""Characters that are kept of what is said in one moment."""
_BREAKS_OFF_S = 2.0
_CUT_SHORT = 0.02


@dataclass(frozen=True, slots=True)
class Asked:
    """What the towers ask: the least side of a picture in pixels, the rate of a sound, and how words are cut.

    With `joins`, a long stretch in which nothing happens is one segment, and a part ends only after it.
    """

    side: int
    rate_hz: int
    passages: Callable[[str], tuple[str, ...]]
    longest_s: float
    joins: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """Some segments in order; where to go on, None at the end; and what of it couldn't be decoded.

    `description` is that of the whole file. `length_s` is how long that is by its header, or how far this part reaches.
    """

    segments: tuple[Segment[Payloads], ...]
    length_s: float
    resume_s: float | None = None
    damage: str | None = None
    has_pictures: bool = False
    description: Description = field(default_factory=Description)


def read_sound(sound: SoundFile | SoundChain, lines: Sequence[Cue], asked: Asked, from_s: float = 0.0) -> Part:
    """Read the part of a sound that begins at a window's start."""
    began, stretch, at_s = time.monotonic(), Stretch(), from_s
    while True:
        track = sound.read(at_s, _PART_WINDOWS * HOP_S + WINDOW_S)
        found, resume_s = _windows(track, at_s, lines, asked)
        whole = resume_s is None and stretch.joined is None
        if not asked.joins or whole or not stretch.take(found):
            break
        found = []
        if resume_s is None or resume_s > asked.longest_s or time.monotonic() - began > _PART_WALL_S:
            break
        at_s = resume_s
    damage = None
    if resume_s is None and sound.promised_s is not None:
        damage = _cut_short(track.end_s, sound.promised_s)
    elif resume_s is not None and resume_s > asked.longest_s:
        resume_s, damage = None, _too_long(asked.longest_s)
    return Part(stretch.before(found), sound.promised_s or track.end_s, resume_s, damage, description=sound.description)


def describe_clip(file: BinaryIO, kind: Modality, limits: Limits) -> Description:
    """Return what a sound or clip says of itself, decoding no more than its first frame. Raises `MediaError`."""
    if kind is Modality.AUDIO and SoundFile.is_one(file):
        with suppress(MediaError):  # FFmpeg knows more kinds
            return describe_sound(file, open_sound(file))
        file.seek(0)
    video = Video(file, limits)
    try:
        if video.has_pictures:
            next((event for event in islice(video.events(), _LOOKED_AT) if isinstance(event, Frame)), None)
        return video.description
    finally:
        video.close()


def describe_sound(file: BinaryIO, sound: SoundFile | SoundChain) -> Description:
    """Return what a sound that libsndfile reads says of itself: its tags are read by FFmpeg."""
    return describe_tags(tags_of(file)).with_more(sound.description)


def read_clip(open_clip: Callable[[], Video], lines: Sequence[Cue], asked: Asked, from_s: float = 0.0) -> Part:
    """Read the part of a clip that begins at a shot's start, or at a window's where only sound is left."""
    for seek in (True, False):
        video = open_clip()
        try:
            return _Reading(video, asked, from_s, Script(list(lines))).part(seek=seek)
        except SeekMissedError:
            continue
        finally:
            video.close()
    raise AssertionError("a clip that isn't sought in misses nothing")


@dataclass(slots=True)
class _Reading:
    """A clip between one part's start and its end."""

    video: Video
    asked: Asked
    from_s: float
    script: Script
    track: Track | None = None
    last: Frame | None = None
    pictures: list[tuple[float, Payload]] = field(default_factory=list)
    began: float = 0.0
    ended: deque[tuple[float, float, tuple[Payload, ...]]] = field(default_factory=deque)
    found: list[Segment[Payloads]] = field(default_factory=list)
    step_s: float = 1.0
    cutter: ShotCutter = field(default_factory=lambda: ShotCutter(0.0))
    stretch: Stretch = field(default_factory=Stretch)
    joined_s: float = 0.0
    """How far the stretch at the beginning of the part reaches; what is found begins there."""

    def part(self, *, seek: bool) -> Part:
        """Read until a part is full, or to the end."""
        self.cutter = ShotCutter(self.from_s)
        self.joined_s = self.from_s
        self.step_s = 1.0 if (self.video.promised_s or math.inf) > _SHORT_S else 0.5
        for event in self.video.events(self.from_s, seek=seek):
            self.began = self.began or time.monotonic()  # what had to be read to come here doesn't count
            self._take(event)
            full = self._emit() and (self._until_s - self.joined_s >= PART_S or self._lasts())
            if full and not self._joins(self._until_s):
                return self._stop(self._until_s)
            behind = self.track is not None and self.track.end_s - self._seen_s > _TAIL_S + WINDOW_S + HOP_S
            if behind and (part := self._sound_goes_on()) is not None:
                return part
        return self._finish()

    def _joins(self, until_s: float | None) -> bool:
        """Return whether nothing happens in what was found: then reading goes on until something does."""
        if not self.asked.joins or until_s is None or until_s > self.asked.longest_s or self._lasts():
            return False
        if self.stretch.take(self.found):
            self.found, self.joined_s = [], until_s
            return True
        return self.stretch.goes_on(self.found)

    def _lasts(self) -> bool:
        return time.monotonic() - self.began > _PART_WALL_S

    @property
    def _until_s(self) -> float:
        return self.found[-1].end_s or self.joined_s if self.found else self.joined_s

    @property
    def _seen_s(self) -> float:
        return self.last.end_s if self.last is not None else self.joined_s

    def _is_looked_at(self, frame: Frame) -> bool:
        """Return whether a frame is the first after the middle of a step of time."""
        return math.floor(frame.time_s / self.step_s + 0.5) > math.floor(frame.before_s / self.step_s + 0.5)

    def _take(self, event: Frame | Block | Cue) -> None:
        if isinstance(event, Cue):
            self.script.add(event)
        elif isinstance(event, Block):
            self.track = self.track or Track(event.rate_hz, self.from_s)
            if event.start_s + event.samples.shape[1] / event.rate_hz > self.from_s:
                self.track.add(event.start_s, event.samples)
        else:
            if self.last is None and event.time_s - self.from_s >= MIN_SHOT_S:
                self._begin_late(event.time_s)
            if event.thumb is not None:
                for start_s, end_s in self.cutter.see(event.time_s, event.thumb, event.changed_s):
                    self._end_shot(start_s, end_s, self.last or event)
            if self._is_looked_at(event):
                self.pictures.append((event.time_s, picture_of(event, self.asked.side)))
            self.last = event

    def _begin_late(self, time_s: float) -> None:
        """Take what is heard before there is anything to see."""
        if self.track is not None:
            self.found, _ = _windows(
                self.track, self.from_s, self.script.cues, self.asked, min(time_s, self.track.end_s)
            )
        self.cutter = ShotCutter(time_s)

    def _end_shot(self, start_s: float, end_s: float, standing: Frame) -> None:
        own = tuple(picture for at, picture in self.pictures if at < end_s)
        self.pictures = [(at, picture) for at, picture in self.pictures if at >= end_s]
        self.ended.append((start_s, end_s, own or (picture_of(standing, self.asked.side),)))

    def _emit(self, *, at_end: bool = False) -> bool:
        """Turn the shots that ended into segments as soon as their sound is there; return whether any was."""
        before = len(self.found)
        while self.ended:
            start_s, end_s, pictures = self.ended[0]
            heard = self.track is not None and self.track.end_s >= end_s
            if self.video.has_sound and not heard and not at_end and self._seen_s - end_s < _SOUND_LAG_S:
                break
            self.ended.popleft()
            wave = self.track.cut(start_s, end_s, self.asked.rate_hz) if self.track is not None else None
            if self.track is not None:
                self.track.forget(end_s)
            views: dict[View, tuple[Payload, ...]] = {View.VISUAL: pictures}
            if wave is not None:
                views[View.AUDIO] = (wave,)
            border = round(_BLEEDS_S * self.asked.rate_hz)
            silent = wave is not None and is_silent(wave[border:-border] if len(wave) > 4 * border else wave)
            texts = _say(views, self.script.cues, start_s, end_s, self.asked)
            self.found.append(Segment(views, start_s, end_s, texts, silent))
        return len(self.found) > before

    def _end_pictures(self) -> None:
        if self.last is not None:
            for start_s, end_s in self.cutter.finish(self._pictures_end_s()):
                self._end_shot(start_s, end_s, self.last)
        self._emit(at_end=True)

    def _pictures_end_s(self) -> float:
        """Return when the last shot ends: with the last frame, decoded or not, or with sound that goes on a little."""
        end_s = self._seen_s
        if 0 < self.video.pictures_end_s - end_s < MAX_SHOT_S:
            end_s = self.video.pictures_end_s
        if self.track is not None and 0 < self.track.end_s - end_s < MIN_SHOT_S:
            end_s = self.track.end_s
        return end_s

    def _finish(self) -> Part:
        """Take what is left at the end of the file."""
        if self.last is None and (self.video.pictures_promised_s or 0) > self.from_s:
            for frame in self.video.drain():
                self._take(frame)
        self._end_pictures()
        resume_s = None
        if self.track is not None and (not self.found or self.track.end_s - self._until_s >= MIN_SHOT_S):
            more, resume_s = _windows(self.track, self._until_s, self.script.cues, self.asked)
            self.found += more
            while resume_s is not None and self._joins(resume_s) and not self.found:
                self.found, resume_s = _windows(self.track, resume_s, self.script.cues, self.asked)
        return self._stop(resume_s)

    def _sound_goes_on(self) -> Part | None:
        """Let the last frame stand while sound goes on; where there is none any more, take windows of the sound.

        Returns None where there is nothing to see in the whole file and nothing to hear so far.
        """
        assert self.track is not None
        for frame in self.video.drain():
            self._take(frame)
        if self.last is not None:
            until_s = min(self.track.end_s, self.last.time_s + STANDS_S)
            if (ends_s := self.video.pictures_promised_s) is not None:
                until_s = max(self._seen_s, min(until_s, ends_s))
            for start_s, end_s in self.cutter.stand(until_s):
                self._end_shot(start_s, end_s, self.last)
            self._emit(at_end=True)
            if not self.found:
                self._end_pictures()
        if self._until_s > self.joined_s:
            return self._stop(self._until_s)
        self.found, resume_s = _windows(self.track, self.joined_s, self.script.cues, self.asked)
        if not self.video.has_pictures and self._joins(resume_s) and not self.found:
            self.track.forget(self.joined_s)
            return None
        return self._stop(resume_s)

    def _stop(self, resume_s: float | None) -> Part:
        if self.asked.joins and (resume_s is not None or self.stretch.joined is not None):
            self.found = [] if self.stretch.take(self.found) else self.found
        segments = self.stretch.before(self.found)
        if self.from_s == 0 and not segments:
            raise MediaError(f"{self.video.damage or 'no picture and no sound in it can be decoded'}; replace it")
        heard_s = self.track.end_s if self.track is not None else 0.0
        promised_s = self.video.promised_s
        damage = f"{self.video.damage}; what could be decoded is kept" if self.video.damage else None
        if resume_s is not None and resume_s > self.asked.longest_s:
            resume_s, damage = None, _too_long(self.asked.longest_s)
        elif resume_s is None and damage is None and self.video.says_its_length and promised_s:
            damage = _cut_short(max(self._seen_s, self.video.pictures_end_s, heard_s), promised_s)
        length_s = promised_s or max(self._seen_s, heard_s)
        return Part(segments, length_s, resume_s, damage, self.video.has_pictures, self.video.description)


def _windows(
    track: Track, from_s: float, lines: Sequence[Cue], asked: Asked, until_s: float | None = None
) -> tuple[list[Segment[Payloads]], float | None]:
    """Return the windows over a sound from a moment on, and where to go on if a part has no room for them all.

    Windows overlap. What is said there belongs to the one in whose middle it is said: the next doesn't say it again.
    """
    found: list[Segment[Payloads]] = []
    spans = list(islice(windows(from_s, until_s or track.end_s), _PART_WINDOWS + 1))
    for n, (start_s, end_s) in enumerate(spans[:_PART_WINDOWS]):
        wave = track.cut(start_s, end_s, asked.rate_hz)
        if wave is None:
            continue
        first, last = start_s == 0, n == len(spans) - 1
        middle = (start_s if first else start_s + _OVERLAP_S / 2, end_s if last else end_s - _OVERLAP_S / 2)
        views: dict[View, tuple[Payload, ...]] = {View.AUDIO: (wave,)}
        texts = _say(views, lines, *middle, asked)
        found.append(Segment(views, start_s, end_s, texts, is_silent(wave)))
    return found, spans[_PART_WINDOWS][0] if len(spans) > _PART_WINDOWS else None


def _say(
    views: dict[View, tuple[Payload, ...]], lines: Sequence[Cue], start_s: float, end_s: float, asked: Asked
) -> tuple[Text, ...]:
    """Add what is said between two moments as one more view; return it, one text a language."""
    texts = said(lines, start_s, end_s)
    if cut := tuple(passage for text in texts for passage in asked.passages(text.words)):
        views[View.TEXT] = cut
    return tuple(replace(text, words=text.words[:_MOST_WORDS]) for text in texts)


def _cut_short(end_s: float, promised_s: float) -> str | None:
    missing_s = promised_s - end_s
    if missing_s <= max(_BREAKS_OFF_S, _CUT_SHORT * promised_s):
        return None
    return f"it breaks off after {end_s:.0f} of {promised_s:.0f} s; what comes before is kept"


def _too_long(longest_s: float) -> str:
    return f"it is longer than {longest_s / 3600:.0f} hours; what comes before is kept, so split it"
