"""Descriptions that cameras, phones and programs write into a picture: they say nothing of what it shows."""

from __future__ import annotations

import re

_MODES = (
    "dav|hdr|hdrpl|sdr|oznor|ozedf|oznorhdr|rhdr|rpt|cof|fbt|fbtmdn|edf|ptr|qrf|qpt|qrfptr|_?cuva|mde|bty|bmpt|btf|btmdn|binary|"
    "nor|norhdr|rbt|rptr|rhdr|burst|lfht|pt|srgb|vivid|soft"
)
"""Modes of phones' cameras, as Huawei, Honor and others write them."""
_MAKERS = (
    "samsung|sony|olympus|minolta|konica|kodak|nikon|canon|casio|fuji(?:film)?|panasonic|pentax|ricoh|hp|huawei|lge?|"
    "digimax"
)
_PROGRAMS = (
    "gimp|adobe|photoshop|lightroom|inkscape|imagemagick|imagej|matlab|vsco|snapseed|picasa|paint|google|canva|figma|"
    "instagram|darktable|rawtherapee|capture one|acdsee|irfanview|xnview|blender|r |python|matplotlib|ezgif|gd-jpeg"
)
_MACHINE = re.compile(
    "|".join(
        (
            rf"(?:{_MODES})",
            rf"(?:(?:{_MAKERS})[\s-]*)?(?:[\w-]+ )?digital (?:still )?camera",
            rf"(?:{_MAKERS})(?: dsc| camera(?: pictures?)?)?",
            rf"<?(?:{_MAKERS})\b[^a-z]*(?:/.*)?>?",
            r"camera|applemark|picasa|makernote|default|untitled|no ?name|title|description|screenshot|binary comment",
            r"dcim[\\/].*",
            r"exif[ _-]?(?:jpeg|picture)(?:[ _]\w+)*",
            r"screen ?shot[ _-].*",
            rf"(?:\w+ ){{0,2}}\w+ (?:with|by|using|in) (?:the )?(?:{_PROGRAMS}).*",  # Created with GIMP
            r"lead technologies.*|intel\(r\).*|adobe .*|imagej=.*|imagemagick.*|ascii.?|charset=.*|creator: .*",
            r"[a-z]{1,12}[_-]?\d[\d_-]*(?:\.\w{2,4})?",  # IMG_1234.JPG, cam_1, Screenshot_20240101
            r"\{?[0-9a-f]{4,}(?:-[0-9a-f]{4,})+\}?|[0-9a-f]{16,}",  # identifiers
            r"[\d\s.,:;/_-]+",  # a time or a number
            r"[\[{<].*[\]}>]",  # JSON and XML
            r"(?:\w+ ?[:=] ?[^\s;]+[;,]? *){2,}",  # settings, as in "filter: 0; mask: 0;"
        )
    ),
    re.IGNORECASE | re.DOTALL,
)


def is_machine_text(text: str) -> bool:
    """Return whether a description was written by a machine: the name of a maker, a mode, a file, or settings."""
    return _MACHINE.fullmatch(text.strip()) is not None
