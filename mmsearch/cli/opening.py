"""Writing a contact sheet where the user wants it, and opening it in their browser."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmsearch.cli.sheet import write_sheet
from mmsearch.cli.streams import note, warn
from mmsearch.paths import expand
from mmsearch.printable import printable
from mmsearch.types import Answer

_NAME = "mmsearch.html"


def contact_sheet(answer: Answer, terms: Sequence[str], file: Path | None, *, show: bool) -> None:
    """Write the sheet to a file, or where none is named to a temporary one; `show` opens it. Raises `OSError`."""
    place = expand(file).absolute() if file else Path(tempfile.mkdtemp(prefix="mmsearch-")) / _NAME
    write_sheet(answer, " ".join(terms) or "mmsearch", place)
    if file:
        note(f"the contact sheet is in {printable(file)}")
    if show:
        import webbrowser  # nothing else needs it

        if not webbrowser.open(place.as_uri()):
            warn(f"no browser could be started; open {place} yourself")
