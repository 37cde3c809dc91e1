"""Thumbnails in terminals that show pictures: the kitty graphics protocol and iTerm2's inline images."""

from __future__ import annotations

import base64
import io
import os
from enum import Enum
from typing import TYPE_CHECKING, TextIO

from mmsearch.errors import MediaError
from mmsearch.media import open_regular
from mmsearch.settings import Limits
from mmsearch.types import Hit, Modality

if TYPE_CHECKING:
    from PIL.Image import Image

_HEIGHT_PX = 120
_LIMITS = Limits(pixels=120_000_000, picture_bytes=2**28, frame_pixels=4_096 * 2_304)
"""What a thumbnail may cost: it isn't worth what indexing is."""
_KITTY_CHUNK = 4096  # https://sw.kovidgoyal.net/kitty/graphics-protocol/


class Protocol(Enum):
    """How a terminal is told to show a picture."""

    KITTY = "kitty"
    ITERM2 = "iterm2"


def protocol(stream: TextIO) -> Protocol | None:
    """Return what the terminal behind a stream understands, None for no terminal or one without pictures."""
    if not stream.isatty():
        return None
    if os.environ.get("TERM") == "xterm-kitty" or "KITTY_WINDOW_ID" in os.environ:
        return Protocol.KITTY
    if os.environ.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") or os.environ.get("LC_TERMINAL") == "iTerm2":
        return Protocol.ITERM2
    return None


def escape(hit: Hit, how: Protocol) -> str:
    """Return the sequence that shows a hit's picture, "" where it has none that can be read."""
    try:
        png = _png(hit)
    except (MediaError, OSError, MemoryError):
        return ""  # gone or broken since it was indexed; its path is printed all the same
    if png is None:
        return ""
    encoded = base64.standard_b64encode(png).decode("ascii")
    if how is Protocol.ITERM2:
        return f"\x1b]1337;File=inline=1;size={len(png)};height=6:{encoded}\x07"
    parts = [encoded[start : start + _KITTY_CHUNK] for start in range(0, len(encoded), _KITTY_CHUNK)]
    control = ["a=T,f=100,r=6,q=2,"] + [""] * (len(parts) - 1)
    more = [1] * (len(parts) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{part}\x1b\\" for head, m, part in zip(control, more, parts, strict=True))


def _png(hit: Hit) -> bytes | None:
    picture = picture_of(hit)
    if picture is None:
        return None
    picture.thumbnail((4 * _HEIGHT_PX, _HEIGHT_PX))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def picture_of(hit: Hit) -> Image | None:
    """Return what a hit shows, None where there is nothing to see. Raises `MediaError`; large files have no thumbnail.

    This is the only place where thumbnails decode a file.
    """
    if hit.modality not in (Modality.IMAGE, Modality.VIDEO):
        return None
    with open_regular(str(hit.path)) as file:
        if hit.modality is Modality.IMAGE:
            from mmsearch.media.image import read_image

            return read_image(file, _LIMITS, _HEIGHT_PX)[0]
        from mmsearch.media.video import frame_at

        return frame_at(file, ((hit.start_s or 0.0) + (hit.end_s or 0.0)) / 2, _HEIGHT_PX, _LIMITS)
