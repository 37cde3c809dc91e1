"""What comes out of a container, as FFmpeg gives it → pictures, thumbs, waveforms and words."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc, VideoReformatter
from numpy.typing import NDArray

from mmsearch.media.hdr import from_hlg, from_pq, to_screen
from mmsearch.media.shots import THUMB, Thumb
from mmsearch.media.subtitles import plain

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideData
    from PIL.Image import Image, Transpose

_HDR = {int(ColorTrc.SMPTE2084): from_pq, int(ColorTrc.ARIB_STD_B67): from_hlg}
_LONGEST = 4_000
"""Characters that are read of one line of subtitles."""
_DTYPES = {"u8p": "u1", "s16p": "i2", "s32p": "i4", "s64p": "i8", "fltp": "f4", "dblp": "f8"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame at a time. `changed_s` is when, at the most likely, it took the place of the one at `before_s`.

    Only some have a `thumb`: the first of every eighth of a second.
    """

    time_s: float
    end_s: float
    before_s: float
    changed_s: float | None
    thumb: Thumb | None
    source: VideoFrame
    aspect: float
    """Width to height of one pixel."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some sound, (channels, n) float32."""

    start_s: float
    rate_hz: int
    samples: NDArray[np.float32]


def picture_of(frame: Frame, side: int) -> Image:
    """Return a frame as an upright RGB picture with square pixels, no smaller than `side` if it was as large.

    High dynamic range is mapped to 8 bits; of an interlaced frame one field is taken.
    """
    from PIL import Image

    source = frame.source
    width, height = max(1, round(source.width * frame.aspect)), source.height
    scale = min(1.0, side / max(1, min(width, height)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    light = _HDR.get(source.color_trc)
    fields = source.interlaced_frame and source.height >= 2 * size[1]
    rgb = VideoReformatter().reformat(
        source,
        size[0],
        source.height if fields else size[1],
        "rgb48le" if light else "rgb24",
        interpolation="AREA",
        threads=1,
    )
    lines = rgb.to_ndarray()[:: 2 if fields else 1]
    pixels = to_screen(light(np.asarray(lines / 65535, np.float32))) if light else np.ascontiguousarray(lines)
    picture = Image.fromarray(pixels.astype(np.uint8, copy=False))
    if fields:
        picture = picture.resize(size, Image.Resampling.BOX)
    for turn in _turns(source):
        picture = picture.transpose(turn)
    return picture


def _turns(source: VideoFrame) -> Iterator[Transpose]:
    """Yield what makes a frame upright by its display matrix: x' = a·x + c·y, y' = b·x + d·y (ISO/IEC 14496-12).

    Angles between are taken for the nearest of the eight ways in which a picture can lie.
    """
    from PIL.Image import Transpose

    matrix = source.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(cast("SideData", matrix))[:36])
    lies = abs(b) + abs(c) > abs(a) + abs(d)
    if lies:
        yield Transpose.TRANSPOSE
    if (c if lies else a) < 0:
        yield Transpose.FLIP_LEFT_RIGHT
    if (b if lies else d) < 0:
        yield Transpose.FLIP_TOP_BOTTOM


def thumb_of(frame: VideoFrame, reformatter: VideoReformatter) -> Thumb:
    """Return a frame as small as shots are judged by, (18, 32, 3)."""
    small = reformatter.reformat(frame, *THUMB, "rgb24", interpolation="BILINEAR", threads=1)
    return small.to_ndarray().astype(np.uint8, copy=False)


def samples_of(frame: AudioFrame) -> NDArray[np.float32]:
    """Return a block as (channels, n) float32 in [-1, 1]."""
    channels = max(1, frame.layout.nb_channels)
    if frame.format.is_planar:  # not by to_ndarray, which reads past the end where there are more than 8 channels
        dtype = np.dtype(_DTYPES[frame.format.name])
        planes = np.stack([np.frombuffer(memoryview(frame.planes[n]), dtype)[: frame.samples] for n in range(channels)])
    else:
        planes = frame.to_ndarray().reshape(-1, channels).T
    match planes.dtype.kind, planes.dtype.itemsize:
        case "u", 1:
            return np.asarray((planes.astype(np.float32) - 128) / 128, np.float32)
        case "i", size:
            return np.asarray(planes / float(2 ** (8 * size - 1)), np.float32)
        case _:
            return np.asarray(planes, np.float32)


def words_of(subtitle: Any) -> str:  # noqa: ANN401  PyAV's subtitles share no base class that has words
    """Return the words of a subtitle, a row a line; "" for one that is a picture."""
    raw = getattr(subtitle, "ass", None) or getattr(subtitle, "text", None) or b""
    text = (raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw))[:_LONGEST]
    if getattr(subtitle, "ass", None):  # ReadOrder, Layer, Style, Name, three margins, Effect, Text
        text = text.split(",", 8)[-1] if text.count(",") >= 8 else ""
    return plain(text, styled=True)
