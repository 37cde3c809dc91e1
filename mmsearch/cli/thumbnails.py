"""Thumbnails in terminals that show pictures: the kitty graphics protocol and iTerm2's inline images."""

from __future__ import annotations

import base64
import os
from enum import Enum
from typing import TextIO

from mmsearch.errors import MMSearchError
from mmsearch.types import Hit, Modality

_HEIGHT_PX = 120
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
        png = picture_of(hit)
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


def picture_of(hit: Hit) -> bytes | None:
    """Return a small PNG file of what a hit shows, made in the sandbox. Raises `MediaError`, `SandboxError`."""
    if hit.modality not in (Modality.IMAGE, Modality.VIDEO):
        return None
    from mmsearch.sandbox.shared import shared_sandbox
    from mmsearch.sandbox.stills import LIMITS, Still, still_of

    path = os.path.abspath(os.fsencode(hit.path))  # noqa: PTH100  the worker's folder is another
    middle_s = ((hit.start_s or 0.0) + (hit.end_s or 0.0)) / 2
    return still_of(shared_sandbox(LIMITS), path, middle_s, Still(4 * _HEIGHT_PX, _HEIGHT_PX, "PNG"))
