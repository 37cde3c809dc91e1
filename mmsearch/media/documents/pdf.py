"""PDF → its pages: the words on each, and what it looks like."""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from mmsearch.errors import MediaError
from mmsearch.media import metadata
from mmsearch.media.description import Description, clean
from mmsearch.media.documents.document import Document, Section

if TYPE_CHECKING:
    from mmsearch.types import Payload

_UNREADABLE = "not a PDF that can be read; save it again"
_MOST_PAGES = 5_000
_WALL_S = 30.0
"""No more pages are begun after so long: the file as a whole has twice as long."""
_SEEN_PAGES = 100
"""Pages of which the picture is kept, each up to half a megabyte."""
_MOST_BOOKMARKS = 5_000
_LONGEST_PAGE = 200_000
"""Characters that are read of one page."""
_WIDEST = 4
"""How much longer than wide the picture of a page is at most."""
_HYPHEN = re.compile("(?<=[a-zà-ž])[-\u00ad\u2010\ufffe\x02]\r?\n(?=[a-zà-ž])|[\ufffe\x02]\r?\n?")
_DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-]\d\d)'?(\d\d)?)?")


def read_pdf(file: BinaryIO, side: int) -> Document:
    """Read a PDF; `side` is the least width and height of the picture of a page, in pixels. Raises `MediaError`."""
    import pypdfium2  # loaded only where there is a PDF

    began = time.monotonic()
    try:
        pdf = pypdfium2.PdfDocument(file)
        count = len(pdf)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise MediaError("it is locked by a password; save it without" if locked else _UNREADABLE) from None
    try:
        headings = _headings(pdf)
        starts = [page for page, _ in headings]
        sections: list[Section] = []
        lost = 0
        most = min(count, _MOST_PAGES)
        for number in range(most):
            if time.monotonic() - began > _WALL_S:
                most = number
                break
            try:
                words, picture = _page(pdf, number, side if number < _SEEN_PAGES else None)
            except pypdfium2.PdfiumError:
                lost += 1
                continue
            at = bisect_right(starts, number)
            sections.append(Section(words, headings[at - 1][1] if at else "", number + 1, picture))
        return Document(tuple(sections), _about(pdf), _cut(count, most, lost))
    finally:
        pdf.close()


def _cut(count: int, most: int, lost: int) -> str | None:
    if lost:
        return f"{lost:,} of its {count:,} pages are damaged; the others are kept"
    if most < count:
        return f"only the first {most:,} of its {count:,} pages are read; split it"
    return None


def _page(pdf: Any, number: int, side: int | None) -> tuple[str, Payload | None]:  # noqa: ANN401  pypdfium2 has no types
    """Return the words on a page and its picture, None where none is wanted. Raises `PdfiumError`."""
    page = pdf[number]
    try:
        text = page.get_textpage()
        try:
            words = text.get_text_range(0, min(text.count_chars(), _LONGEST_PAGE))
        finally:
            text.close()
        words = _HYPHEN.sub("", words).replace("\r\n", "\n")
        width, height = page.get_size()
        if side is None or min(width, height) <= 0:
            return words, None
        scale = min(side / min(width, height), _WIDEST * side / max(width, height))
        return words, page.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB")
    finally:
        page.close()


def _headings(pdf: Any) -> list[tuple[int, str]]:  # noqa: ANN401
    """Return the bookmarks of a PDF in order, each with the number of its page, from 0."""
    found: list[tuple[int, str]] = []
    with suppress(Exception):  # whatever ctypes makes of a damaged outline; the pages are read without
        for bookmark in islice(pdf.get_toc(), _MOST_BOOKMARKS):
            target, title = bookmark.get_dest(), clean(bookmark.get_title())
            index = target.get_index() if target is not None else None
            if title and index is not None:
                found.append((index, title[:200]))
    return sorted(found, key=lambda heading: heading[0])


def _about(pdf: Any) -> Description:  # noqa: ANN401
    try:
        said = {name: str(value) for name, value in pdf.get_metadata_dict().items()}
    except Exception:
        return Description()
    return Description.of(
        (said.get("Title", ""), said.get("Subject", "")),
        re.split("[,;]", said.get("Keywords", "")),
        (said.get("Author", ""),),
        taken_at=_date(said.get("CreationDate", "")),
    ).without_machine_text


def _date(written: str) -> object:
    """Return the date of `D:20190601123015+02'00'`."""
    found = _DATE.match(written)
    if found is None:
        return None
    year, month, day, hour, minute, second, _, hours, minutes = found.groups(default="00")
    zone = "Z" if found[7] else f"{hours}:{minutes}" if found[8] else ""
    return metadata.date(f"{year}-{month}-{day} {hour}:{minute}:{second}{zone}")
