"""Thumbnails in terminals that show pictures: the kitty graphics protocol and iTerm2's inline images."""

from __future__ import annotations

import base64
import io
import os
from enum import Enum
from pathlib import Path
from typing import TextIO

from mmsearch.errors import MediaError
from mmsearch.media import open_regular
from mmsearch.settings import Limits
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
    if hit.modality is not Modality.IMAGE:
        return ""
    try:
        png = _png(hit.path)
    except (MediaError, OSError):
        return ""  # gone or broken since it was indexed; its path is printed all the same
    encoded = base64.standard_b64encode(png).decode("ascii")
    if how is Protocol.ITERM2:
        return f"\x1b]1337;File=inline=1;size={len(png)};height=6:{encoded}\x07"
    parts = [encoded[start : start + _KITTY_CHUNK] for start in range(0, len(encoded), _KITTY_CHUNK)]
    control = ["a=T,f=100,r=6,q=2,"] + [""] * (len(parts) - 1)
    more = [1] * (len(parts) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{part}\x1b\\" for head, m, part in zip(control, more, parts, strict=True))


def _png(path: Path) -> bytes:
    from mmsearch.media.image import read_image

    with open_regular(str(path)) as file:
        picture, _ = read_image(file, Limits(), _HEIGHT_PX)
    picture.thumbnail((4 * _HEIGHT_PX, _HEIGHT_PX))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
