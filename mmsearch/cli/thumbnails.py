"""Thumbnails in terminals that show pictures: the kitty graphics protocol and iTerm2's inline images."""

from __future__ import annotations

import base64
import io
import os
from enum import Enum
from typing import TYPE_CHECKING, TextIO

import numpy as np

from mmsearch.errors import MMSearchError
from mmsearch.settings import Limits
from mmsearch.types import Hit, Modality, View

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmsearch.spaces import Prepared
    from mmsearch.types import Payload

_HEIGHT_PX = 120
_LIMITS = Limits(pixels=120_000_000, picture_bytes=2**28, frame_pixels=4_096 * 2_304)
"""What a thumbnail may cost: it isn't worth what indexing is."""
_LONGEST_S = 5.0
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
    except (MMSearchError, OSError, MemoryError):
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
    if hit.modality not in (Modality.IMAGE, Modality.VIDEO):
        return None
    out = io.BytesIO()
    picture_of(hit).save(out, "PNG")
    return out.getvalue()


def picture_of(hit: Hit) -> Image:
    """Return a small picture of what a hit shows, decoded in the sandbox. Raises `MediaError`, `SandboxError`."""
    from PIL.Image import fromarray

    from mmsearch.sandbox.keeper import Job, Needs
    from mmsearch.sandbox.shared import shared_sandbox
    from mmsearch.sandbox.work import Request

    path = os.path.abspath(os.fsencode(hit.path))  # noqa: PTH100  the worker's folder is another
    middle_s = ((hit.start_s or 0.0) + (hit.end_s or 0.0)) / 2
    needs = Needs.of({("thumbnail", View.VISUAL): _Shrunk()}, _LIMITS)
    sandbox = shared_sandbox(_LIMITS)
    content = sandbox.take(sandbox.submit(Job(Request(path, still_s=middle_s), needs, _LONGEST_S)))
    (((pixels,),),) = (inputs.values() for inputs in content.segments[0].views.values())
    return fromarray(pixels)


class _Shrunk:
    """What a worker makes of a picture: (height, width, 3) uint8. It stands where an index run has a tower's input."""

    side = _HEIGHT_PX
    max_tokens = 1

    def __call__(self, payload: Payload) -> Prepared:
        assert not isinstance(payload, str | np.ndarray)
        payload.thumbnail((4 * _HEIGHT_PX, _HEIGHT_PX))
        return np.asarray(payload)

    def count_tokens(self, text: str) -> int:
        return len(text)
