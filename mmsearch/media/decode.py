"""One file → its segments, each with the payloads of its views."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch import files
from mmsearch.errors import MediaError, ReadError, why
from mmsearch.media import kinds
from mmsearch.media.captions import read_captions
from mmsearch.media.description import Description, combined
from mmsearch.media.documents import Document, Section, reader_for
from mmsearch.media.encodings import decode_text
from mmsearch.media.name_dates import date_of_name
from mmsearch.media.sidecar import has_times, language_of
from mmsearch.media.subtitle_files import cues, has_lines, spoken
from mmsearch.media.subtitles import Cue
from mmsearch.media.text import CountTokens, passages
from mmsearch.records import FileFacts, Origin, Segment, Text
from mmsearch.settings import Limits
from mmsearch.types import Failure, Modality, Stage, View

if TYPE_CHECKING:
    from mmsearch.media.cut import Clip
    from mmsearch.records import Payloads
    from mmsearch.types import Payload

DECODER_VERSION = 3
"""Raised when a change here may make a file decode that failed before; failures of an older one are tried again."""


_CAPTION_PASSAGES = 64
"""How much of what stands beside a picture is read: a caption, not a novel of the same name."""
_SAID = 4
"""How many passages of what is said in one moment are embedded."""
_BITMAPS = b"\0\0\1\xba"
"""How a `.sub` file begins that holds pictures: an MPEG stream."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What the towers ask of decoding.

    The least picture side in pixels, the longest passage in tokens and how it is counted, and the rate of sounds.
    `joins` makes one segment of a long stretch of a sound or clip in which nothing happens; what asks needs its first
    part only, and no more is read for it without.
    """

    limits: Limits
    side: int
    max_tokens: int
    count_tokens: CountTokens
    sample_rate_hz: int
    joins: bool = True


@dataclass(frozen=True, slots=True)
class Decoded:
    """The segments of one content, or of a part of it: then `resume_s` says where the next part begins.

    `facts` are what the file says of itself; None of a text, and of a part that isn't the first.

    `failures` are what of it couldn't be read: a broken sidecar, or under the file's own path its broken tail.
    """

    modality: Modality
    segments: tuple[Segment[Payloads], ...]
    failures: tuple[Failure, ...] = ()
    resume_s: float | None = None
    facts: FileFacts | None = None


def open_regular(path: bytes | str) -> io.BufferedReader:
    """Open a file for reading, unless it is a pipe, a device or a folder; never blocks on one. Raises `MediaError`."""
    try:
        return files.open_regular(path)
    except files.IrregularFileError:
        raise MediaError("not a regular file") from None
    except OSError as error:
        raise ReadError(why(error, "check the file")) from None


def decode(path: bytes, sidecars: Sequence[bytes], options: DecodeOptions, from_s: float = 0.0) -> Decoded:
    """Decode the media at `path` with its captions and subtitles in `sidecars` (paths as `os.fsencode` bytes).

    A picture is one segment with a visual view, and a text view where anything is written beside or in it; captions
    that don't fit the text tower continue in segments of their own. A text is one segment a passage. A sound is one
    segment a window, a video one a shot; both come in parts, of which `from_s` is where one begins.
    Raises `MediaError`.
    """
    try:
        with open_regular(path) as file:
            head = file.read(kinds.HEAD_BYTES)
            if not head:
                raise MediaError("the file is empty")
            file.seek(0)
            match kinds.resolve(path, head):
                case Modality.IMAGE:
                    return _decode_picture(file, path, sidecars, options)
                case Modality.TEXT:
                    return _decode_text(file, path, head, options)
                case Modality.AUDIO | Modality.VIDEO as modality:
                    return _decode_clip(file, path, modality, sidecars, options, from_s)
                case _:
                    raise MediaError("not a kind of file that mmsearch knows; see the README for the list")
    except OSError as error:
        raise ReadError(f"can't be read: {why(error, 'check the disk')}") from error


def still(path: bytes, options: DecodeOptions, at_s: float) -> Decoded:
    """Decode only what is to be seen in a file at a second: a frame of a video, or a picture. Raises `MediaError`."""
    try:
        with open_regular(path) as file:
            kind = kinds.resolve(path, file.read(kinds.HEAD_BYTES))
            file.seek(0)
            picture: Payload | None
            if kind is Modality.IMAGE:
                from mmsearch.media.image import read_image

                picture, _ = read_image(file, options.limits, options.side)
            else:
                from mmsearch.media.video import frame_at

                picture = frame_at(file, at_s, options.side, options.limits)
    except OSError as error:
        raise ReadError(f"can't be read: {why(error, 'check the disk')}") from error
    if picture is None:
        raise MediaError("there is nothing to see in it")
    return Decoded(kind or Modality.VIDEO, (Segment({View.VISUAL: (picture,)}, at_s, at_s),))


def clip_of(path: bytes, start_s: float, end_s: float, limits: Limits) -> Clip:
    """Cut a moment out of a sound or video. Raises `MediaError`."""
    from mmsearch.media.cut import cut

    try:
        with open_regular(path) as file:
            if kinds.resolve(path, file.read(kinds.HEAD_BYTES)) not in (Modality.AUDIO, Modality.VIDEO):
                raise MediaError("it has no moments: only sounds and videos have")
            file.seek(0)
            return cut(file, start_s, end_s, limits)
    except OSError as error:
        raise ReadError(f"can't be read: {why(error, 'check the disk')}") from error


def facts_of(path: bytes, sidecars: Sequence[bytes], limits: Limits) -> Decoded:
    """Read only what a picture, sound or clip and its sidecars say of it. Raises `MediaError`."""
    try:
        with open_regular(path) as file:
            kind = kinds.resolve(path, file.read(kinds.HEAD_BYTES))
            file.seek(0)
            match kind:
                case Modality.IMAGE:
                    from mmsearch.media.image import read_description

                    own = read_description(file, limits)
                case Modality.AUDIO | Modality.VIDEO:
                    from mmsearch.media.clip import describe_clip

                    own = describe_clip(file, kind, limits)
                case _:
                    return Decoded(kind or Modality.TEXT, (), facts=FileFacts())
    except OSError as error:
        raise ReadError(f"can't be read: {why(error, 'check the disk')}") from error
    captions = [sidecar for sidecar in sidecars if not has_times(sidecar)]
    whole = combined(own, _beside(path, captions, limits).description, date_of_name(path))
    return Decoded(kind, (), facts=whole.facts)


def _decode_picture(file: io.BufferedReader, path: bytes, sidecars: Sequence[bytes], options: DecodeOptions) -> Decoded:
    from mmsearch.media.image import read_picture  # Pillow is loaded only when there is a picture

    picture = read_picture(file, options.limits, options.side)
    beside = _beside(path, sidecars, options.limits)
    whole = combined(picture.description, beside.description, date_of_name(path))
    captions, tags = _written(whole, options)
    views: dict[View, tuple[Payload, ...]] = {View.VISUAL: (picture.pixels,)}
    if first := captions[:1] or tags:
        views[View.TEXT] = _first_passages(first[0].words, options, 1)
    own = Segment(views, texts=(*captions[:1], *tags))
    more = (Segment({View.TEXT: (text.words,)}, texts=(text,)) for text in captions[1:])
    return Decoded(Modality.IMAGE, (own, *more), beside.failures, facts=whole.facts)


def _written(whole: Description, options: DecodeOptions) -> tuple[tuple[Text, ...], tuple[Text, ...]]:
    """Return the captions of a file as texts that fit the tower, and its keywords and names as one, if it has any."""
    captions = _texts(Origin.CAPTION, _first_passages("\n".join(whole.captions), options))
    return captions, _tags(whole)


def _tags(whole: Description) -> tuple[Text, ...]:
    return _texts(Origin.TAGS, filter(None, [whole.tags]))


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the sidecars of a file say, the lines of its subtitles, and what of them couldn't be read."""

    description: Description
    lines: tuple[Cue, ...]
    failures: tuple[Failure, ...]


def _beside(path: bytes, sidecars: Sequence[bytes], limits: Limits) -> _Beside:
    """Read the sidecars of a file."""
    name = os.path.basename(path)  # noqa: PTH119  paths are bytes here
    description = Description()
    lines: list[Cue] = []
    failures: list[Failure] = []
    for track, sidecar in enumerate(sidecars):
        stage = Stage.READ
        try:
            with open_regular(sidecar) as beside:
                raw = beside.read(limits.text_bytes)
            stage = Stage.DECODE
            if has_times(sidecar):
                lines += _lines(raw, track, language_of(os.path.basename(sidecar), name))  # noqa: PTH119
            else:
                description = description.with_more(read_captions(sidecar, raw))
        except MediaError as error:
            failures.append(Failure(Path(os.fsdecode(sidecar)), stage, str(error)))
    return _Beside(description, tuple(lines), tuple(failures))


def _lines(raw: bytes, track: int, language: str) -> list[Cue]:
    """Return the lines of subtitles. Raises `MediaError`."""
    if raw.startswith(_BITMAPS):  # DVD subtitles are pictures of words
        return []
    text = decode_text(raw)
    found = cues(text, track, language)
    if not found and not has_lines(text):
        raise MediaError("no subtitle with a time stands in it; replace or remove it")
    return found


def _first_passages(words: str, options: DecodeOptions, most: int = _CAPTION_PASSAGES) -> tuple[str, ...]:
    return tuple(islice(passages(words, options.count_tokens, options.max_tokens), most))


def _decode_clip(
    file: io.BufferedReader,
    path: bytes,
    modality: Modality,
    sidecars: Sequence[bytes],
    options: DecodeOptions,
    from_s: float,
) -> Decoded:
    from mmsearch.media.chains import open_sound
    from mmsearch.media.clip import (  # FFmpeg and libsndfile only where needed
        Asked,
        Part,
        describe_sound,
        read_clip,
        read_sound,
    )
    from mmsearch.media.sound import SoundFile
    from mmsearch.media.video import Video

    def open_clip() -> Video:
        file.seek(0)
        return Video(file, options.limits)

    beside = _beside(path, sidecars, options.limits)
    most_s = options.limits.duration_s
    asked = Asked(
        options.side,
        options.sample_rate_hz,
        lambda words: _first_passages(words, options, _SAID),
        most_s,
        options.joins,
    )
    part: Part | None = None
    if modality is Modality.AUDIO and SoundFile.is_one(file):
        with suppress(MediaError):  # FFmpeg knows more kinds, and says better what is wrong with a broken one
            sound = open_sound(file)
            part = read_sound(sound, beside.lines, asked, from_s)
            if from_s == 0:
                part = replace(part, description=describe_sound(file, sound))
    if part is None or not part.segments:
        part = read_clip(open_clip, beside.lines, asked, from_s)
    kind = Modality.VIDEO if part.has_pictures else modality  # a sound's name on a clip is a lie
    damage = (Failure(Path(os.fsdecode(path)), Stage.DECODE, part.damage),) if part.damage else ()
    if from_s > 0:  # what is written was read with the first part
        return Decoded(kind, part.segments, damage, part.resume_s)
    whole = combined(part.description, beside.description, date_of_name(path))
    captions, tags = _written(whole, options)
    segments = (
        Segment({View.TEXT: _first_passages(text.words, options, 1)}, 0.0, part.length_s, (text,))
        for text in (*captions, *tags)
    )
    return Decoded(kind, (*part.segments, *segments), (*beside.failures, *damage), part.resume_s, whole.facts)


def _decode_text(file: io.BufferedReader, path: bytes, head: bytes, options: DecodeOptions) -> Decoded:
    reader = reader_for(path, head, options.side, options.limits.text_bytes)
    document = reader(file) if reader is not None else _plain_text(file, path, options.limits)
    segments, cut = _sections(document, options)
    if not segments:
        raise MediaError("the text holds no words")
    failures = (Failure(Path(os.fsdecode(path)), Stage.DECODE, cut),) if cut else ()
    facts = combined(document.description, Description(), {}).facts if reader is not None else None
    return Decoded(Modality.TEXT, segments, failures, facts=facts)


def _plain_text(file: io.BufferedReader, path: bytes, limits: Limits) -> Document:
    raw = file.read(limits.text_bytes + 1)
    cut = f"only its first {limits.text_bytes // 2**20} MB are read; split it" if len(raw) > limits.text_bytes else None
    text = decode_text(raw[: limits.text_bytes])
    return Document((Section(spoken(text) if has_times(path) else text),), cut=cut)


def _sections(document: Document, options: DecodeOptions) -> tuple[tuple[Segment[Payloads], ...], str | None]:
    """Return the segments of a document, and in words what of it isn't indexed.

    The picture of a page belongs to the first passage on it; what a document says of itself to the first of all.
    """
    segments: list[Segment[Payloads]] = []
    most = options.limits.passages
    for section in document.sections:
        words = passages(section.words, options.count_tokens, options.max_tokens)
        views: list[dict[View, tuple[Payload, ...]]] = [{View.TEXT: (passage,)} for passage in islice(words, most + 1)]
        if section.picture is not None:
            views = [{**(views[0] if views else {}), View.VISUAL: (section.picture,)}, *views[1:]]
        segments += (_passage(own, section) for own in views)
        if len(segments) > most:
            break
    if segments:
        about = (*_texts(Origin.CAPTION, document.description.captions), *_tags(document.description))
        segments[0] = replace(segments[0], texts=(*segments[0].texts, *about))
    cut = f"only its first {most:,} passages are indexed; split it" if len(segments) > most else document.cut
    return tuple(segments[:most]), cut


def _passage(views: dict[View, tuple[Payload, ...]], section: Section) -> Segment[Payloads]:
    texts = tuple(Text(Origin.PASSAGE, str(words)) for words in views.get(View.TEXT, ()))
    return Segment(views, texts=texts, page=section.page, heading=section.heading or None)


def _texts(origin: Origin, words: Iterable[str]) -> tuple[Text, ...]:
    return tuple(Text(origin, passage) for passage in words)
