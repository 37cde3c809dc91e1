"""A contact sheet: the hits of a query as one HTML file, with pictures and players in it.

Players play the file on this disk, at the moment. Where that isn't there, on another computer for example, they play
the clip of the moment that is embedded; it may begin a little earlier, at a key frame. Nothing else is loaded, and no
script runs in the page.
"""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from mmsearch.cli.units import span, sure
from mmsearch.errors import MMSearchError
from mmsearch.files import write_whole
from mmsearch.printable import printable
from mmsearch.sandbox.shared import shared_sandbox
from mmsearch.sandbox.stills import LIMITS, Still, clip_of, still_of
from mmsearch.types import Answer, Hit, Modality

MOST_CLIP_BYTES = 8 * 2**20
"""A larger clip isn't embedded."""
MOST_BYTES = 128 * 2**20
"""How many bytes of clips are embedded in one sheet."""
_LONGEST_S = 60.0
_EXCERPT = 600
_STILL = Still(640, 360, "JPEG")
_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data: file:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: .5rem; overflow: hidden }
img, video { display: block; width: 100%; height: 15rem; object-fit: contain; background: #111 }
audio { display: block; width: calc(100% - 2rem); margin: 1rem }
figcaption, blockquote { margin: .75rem 1rem; overflow-wrap: anywhere }
a { color: inherit } .dim { color: #666 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 }
 figure { background: #222; border-color: #444 } .dim { color: #999 } }
</style></head>
<body><h1>$title</h1><p class="dim">$summary</p><main>
$figures
</main></body></html>
""")


def write_sheet(answer: Answer, title: str, file: Path) -> None:
    """Write the contact sheet of an answer; a file that is there is replaced. Raises `OSError`."""
    hidden = [f"{n:,} {what}" for n, what in ((answer.hidden, "copies"), (answer.weak, "weak matches")) if n]
    summary = f"{len(answer.hits):,} found" + (f"; {' and '.join(hidden)} hidden" if hidden else "")
    figures = "\n".join(_figures(answer.hits))
    page = _PAGE.substitute(title=_escaped(title), summary=summary, figures=figures)
    write_whole(file, page.encode("utf-8", "replace"))


def _figures(hits: Sequence[Hit]) -> Iterator[str]:
    room = MOST_BYTES
    for hit in hits:
        shown, taken = _shown(hit, room)
        room -= taken
        text = "" if hit.modality is Modality.TEXT else _excerpt(hit)
        yield (
            f'<figure id="hit-{hit.rank}">{shown}<figcaption>'
            f'{hit.rank}. <a href="{_address(hit)}">{_escaped(hit.path.name)}</a>{_moment(hit)} '
            f'<span class="dim">{sure(hit.confidence)}<br>{_escaped(str(hit.path.parent))}'
            f"{f'<br>{text}' if text else ''}</span></figcaption></figure>"
        )


def _shown(hit: Hit, room: int) -> tuple[str, int]:
    """Return what shows a hit, and how many bytes of clips it takes."""
    if hit.modality is Modality.TEXT:
        return f"<blockquote>{_excerpt(hit)}</blockquote>", 0
    picture = "" if hit.modality is Modality.AUDIO else _picture(hit)
    if hit.modality is Modality.IMAGE:
        return f'<img src="{picture}" alt="{_escaped(hit.path.name)}">' if picture else "", 0
    tag = hit.modality.value
    clip, taken = _clip(hit, room)
    poster = f' poster="{picture}"' if picture else ""
    sources = "".join(f'<source src="{address}">' for address in (_address(hit), clip) if address)
    return f'<{tag} controls preload="metadata"{poster}>{sources}</{tag}>', taken


def _picture(hit: Hit) -> str:
    """Return the address of a hit's picture with the picture in it, "" where it can't be read any more."""
    middle_s = ((hit.start_s or 0.0) + (hit.end_s or 0.0)) / 2
    try:
        return _embedded(still_of(shared_sandbox(LIMITS), os.fsencode(hit.path), middle_s, _STILL), "image/jpeg")
    except (MMSearchError, OSError, MemoryError):
        return ""


def _clip(hit: Hit, room: int) -> tuple[str, int]:
    """Return the address of a hit's moment with the clip in it, and its size; "" and 0 where the file has to do."""
    if hit.start_s is None or hit.end_s is None or not math.isfinite(hit.end_s):
        return "", 0
    try:
        end_s = min(hit.end_s, hit.start_s + _LONGEST_S)
        clip = clip_of(shared_sandbox(LIMITS), os.fsencode(hit.path), hit.start_s, end_s)
    except (MMSearchError, OSError, MemoryError):
        return "", 0
    size = len(clip.content)
    return (_embedded(clip.content, clip.media_type), size) if size <= min(room, MOST_CLIP_BYTES) else ("", 0)


def _embedded(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.standard_b64encode(content).decode('ascii')}"


def _address(hit: Hit) -> str:
    """Return the address of the file on this disk, at the moment (https://www.w3.org/TR/media-frags/)."""
    moment = "" if hit.start_s is None or hit.end_s is None else f"#t={hit.start_s:.2f},{hit.end_s:.2f}"
    return html.escape(hit.path.as_uri() + moment)


def _moment(hit: Hit) -> str:
    return "" if hit.start_s is None or hit.end_s is None else f" {span(hit.start_s, hit.end_s)}"


def _excerpt(hit: Hit) -> str:
    text = " ".join((hit.text or "").split())
    return _escaped(text[:_EXCERPT] + ("…" if len(text) > _EXCERPT else ""))


def _escaped(text: str) -> str:
    return html.escape(printable(text))
