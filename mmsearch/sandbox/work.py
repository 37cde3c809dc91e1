"""The work on one file: decoding it, and passing its payloads through the front ends of the towers."""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from mmsearch.errors import ReadError, one_line, why
from mmsearch.files import mtime_ns
from mmsearch.media import DecodeOptions, clip_of, decode, facts_of, still
from mmsearch.records import FileFacts, Segment
from mmsearch.settings import Limits
from mmsearch.spaces.base import FrontEnd, Prepared, decoding_needs
from mmsearch.types import Failure, Modality, View

if TYPE_CHECKING:
    from mmsearch.media.cut import Clip
    from mmsearch.records import Payloads

_DECODERS = {Modality.IMAGE: ("image",), Modality.AUDIO: ("clip", "sound"), Modality.VIDEO: ("clip", "video")}
FrontEnds = Mapping[tuple[str, View], FrontEnd]
"""The front ends of a model's towers, by (space name, view)."""
PreparedSegment: TypeAlias = Segment[Mapping[View, Mapping[str, tuple[Prepared, ...]]]]
"""A segment with, for each of its views, the inputs of each space's tower, by the space's name. A view without a tower
has an empty mapping."""


@dataclass(frozen=True, slots=True)
class Request:
    """A file to decode, or the part of a long one from a second on: its path and its sidecars', as bytes.

    With `only_facts`, nothing is read but what the file says of itself. With `still_s`, only what is to be seen at that
    second is decoded: a frame of a video, or a picture. With `cut_s`, a moment of a sound or video, from one second to
    another, becomes a file of its own.

    `joins` makes one segment of a long stretch in which nothing happens: see `DecodeOptions`. `stamp` is its size in
    bytes and its mtime in ns where the caller relies on them: a file that differs afterwards was changed while it was
    read.
    """

    path: bytes
    sidecars: tuple[bytes, ...] = ()
    from_s: float = 0.0
    joins: bool = True
    stamp: tuple[int, int] | None = None
    still_s: float | None = None
    cut_s: tuple[float, float] | None = None
    only_facts: bool = False


@dataclass(frozen=True, slots=True)
class PreparedContent:
    """A decoded content, or a part of one, ready to be encoded.

    `resume_s` is where the next part begins, None after the last. `seconds` is the time of decoding and preparing.
    """

    modality: Modality
    segments: tuple[PreparedSegment, ...]
    failures: tuple[Failure, ...]
    resume_s: float | None = None
    seconds: float = 0.0
    facts: FileFacts | None = None
    clip: Clip | None = None

    @property
    def bytes(self) -> int:
        """How much memory it takes until it is encoded."""
        views = (inputs for segment in self.segments for inputs in segment.views.values())
        prepared = sum(p.nbytes for inputs in views for prepared in inputs.values() for p in prepared)
        return prepared + (len(self.clip.content) if self.clip is not None else 0)


class Work:
    """Decodes files for the towers of one model."""

    def __init__(self, front_ends: FrontEnds, limits: Limits) -> None:
        self._front_ends = front_ends
        self._options = DecodeOptions(limits, *decoding_needs(front_ends.values()))
        warnings.simplefilter("ignore")  # nobody reads a decoder's warnings here

    def prepare(self, request: Request) -> PreparedContent:
        """Decode a file. Raises `MediaError`, `ReadError`, `MemoryError`, and whatever a decoder lets through."""
        began = time.monotonic()
        options = replace(self._options, joins=request.joins)
        if request.cut_s is not None:
            clip = clip_of(request.path, *request.cut_s, options.limits)
            return PreparedContent(Modality.VIDEO, (), (), seconds=time.monotonic() - began, clip=clip)
        if request.still_s is not None:
            decoded = still(request.path, options, request.still_s)
        elif request.only_facts:
            decoded = facts_of(request.path, request.sidecars, options.limits)
        else:
            decoded = decode(request.path, request.sidecars, options, request.from_s)
        if request.stamp is not None:
            _check_unchanged(request.path, request.stamp)
        segments = tuple(self._prepared(segment) for segment in decoded.segments)
        seconds = time.monotonic() - began
        return PreparedContent(decoded.modality, segments, decoded.failures, decoded.resume_s, seconds, decoded.facts)

    def _prepared(self, segment: Segment[Payloads]) -> PreparedSegment:
        inputs: dict[View, dict[str, tuple[Prepared, ...]]] = {view: {} for view in segment.views}
        for (space, view), end in self._front_ends.items():
            if view in inputs:
                inputs[view][space] = tuple(end(payload) for payload in segment.views[view])
        return segment.with_views(inputs)


def _check_unchanged(path: bytes, stamp: tuple[int, int]) -> None:
    try:
        after = os.stat(path)  # noqa: PTH116  paths are bytes here
    except OSError as error:
        raise ReadError(why(error, "check the disk")) from None
    if (after.st_size, mtime_ns(after)) != stamp:
        raise ReadError("it changed while it was read; run 'mmsearch index' again")


def undecodable(error: Exception) -> str:
    """Return a one-line message for an error that a decoder didn't catch."""
    return f"can't be decoded: {type(error).__name__}: {one_line(error)}"


def load_decoders(modality: Modality) -> None:
    """Import the decoders of a modality, so that the first file doesn't wait for them."""
    for module in _DECODERS.get(modality, ()):
        importlib.import_module(f"mmsearch.media.{module}")
