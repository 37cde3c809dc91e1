"""One file → its segments, each with the payloads of its views."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.errors import MediaError
from mmsearch.media import kinds
from mmsearch.media.sidecar import read_sidecar
from mmsearch.media.text import CountTokens, decode_text, passages, spoken
from mmsearch.settings import Limits
from mmsearch.types import Failure, Modality, Segment, Stage, View

if TYPE_CHECKING:
    from mmsearch.types import Payload

DECODER_VERSION = 1
"""Raised when a change here may make a file decode that failed before; failures of an older one are tried again."""


_CAPTION_PASSAGES = 64
"""How much of what stands beside a picture is read: a caption, not a novel of the same name."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What the towers ask of decoding: the least picture side in pixels, and the longest passage in tokens."""

    limits: Limits
    side: int
    max_tokens: int
    count_tokens: CountTokens


@dataclass(frozen=True, slots=True)
class Decoded:
    """The segments of one content. `failures` are parts of it that couldn't be read, such as a broken sidecar."""

    modality: Modality
    segments: tuple[Segment, ...]
    failures: tuple[Failure, ...] = ()


def open_regular(path: bytes | str) -> io.BufferedReader:
    """Open a file for reading, unless it is a pipe, a device or a folder; never blocks on one. Raises `MediaError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise MediaError(f"{(error.strerror or str(error)).lower()}; check the file and its permissions") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaError("not a regular file")
    return os.fdopen(descriptor, "rb")


def decode(path: bytes, sidecars: Sequence[bytes], options: DecodeOptions) -> Decoded:
    """Decode the media at `path` with the captions in `sidecars` (paths as `os.fsencode` bytes).

    A picture is one segment with a visual view, and a text view where anything is written beside or in it; captions
    that don't fit the text tower continue in segments of their own. A text is one segment a passage.
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
                    return _decode_picture(file, sidecars, options)
                case Modality.TEXT:
                    return _decode_text(file, path, options)
                case Modality.AUDIO | Modality.VIDEO as modality:
                    raise MediaError(f"its content is {modality}, which this version doesn't index")
                case _:
                    raise MediaError("not a kind of file that mmsearch knows; see the README for the list")
    except OSError as error:
        raise MediaError(f"can't be read: {error.strerror or error}") from error


def _decode_picture(file: io.BufferedReader, sidecars: Sequence[bytes], options: DecodeOptions) -> Decoded:
    from mmsearch.media.image import read_image  # Pillow is loaded only when there is a picture

    picture, descriptions = read_image(file, options.limits, options.side)
    captions: list[str] = []
    failures: list[Failure] = []
    for sidecar in sidecars:
        stage = Stage.READ
        try:
            with open_regular(sidecar) as beside:
                raw = beside.read(options.limits.text_bytes)
            stage = Stage.DECODE
            captions += read_sidecar(sidecar, raw)
        except MediaError as error:
            failures.append(Failure(Path(os.fsdecode(sidecar)), stage, str(error)))
    words = "\n".join(dict.fromkeys(captions + descriptions))
    written = list(islice(passages(words, options.count_tokens, options.max_tokens), _CAPTION_PASSAGES))
    views: dict[View, Payload] = {View.VISUAL: picture}
    if written:
        views[View.TEXT] = written[0]
    own = Segment(views, text=written[0] if written else None)
    more = (Segment({View.TEXT: passage}, text=passage) for passage in written[1:])
    return Decoded(Modality.IMAGE, (own, *more), tuple(failures))


def _decode_text(file: io.BufferedReader, path: bytes, options: DecodeOptions) -> Decoded:
    raw = file.read(options.limits.text_bytes + 1)
    if len(raw) > options.limits.text_bytes:
        raise MediaError(f"the text is larger than {options.limits.text_bytes // 2**20} MB; split it")
    text = decode_text(raw)
    found = _passages(spoken(text) if path.lower().endswith((b".srt", b".vtt")) else text, options)
    if not found:
        raise MediaError("the text holds no words")
    return Decoded(Modality.TEXT, tuple(Segment({View.TEXT: passage}, text=passage) for passage in found))


def _passages(text: str, options: DecodeOptions) -> list[str]:
    found: list[str] = []
    for passage in passages(text, options.count_tokens, options.max_tokens):
        if len(found) == options.limits.passages:
            raise MediaError(f"the text has more than {options.limits.passages} passages; split it")
        found.append(passage)
    return found
