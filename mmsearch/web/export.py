"""A selection of items → one zip archive, written while it is sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmsearch.errors import NoItemError, why
from mmsearch.rooted import OutsideRootsError

if TYPE_CHECKING:
    from mmsearch.web.service import Service

_CHUNK_BYTES = 2**20
_NOTE = "not exported.txt"


class _Pipe(io.RawIOBase):
    """Takes what is written, and gives it away piece by piece: a file that can't be sought in."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, raw: object, /) -> int:
        """Take some bytes."""
        piece = bytes(raw)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        """Give what was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zipped(service: Service, numbers: Sequence[int]) -> Iterator[bytes]:
    """Yield the bytes of an archive with the files of these items, each under its own name, uncompressed.

    Names that occur twice get a number. What can't be read is named, with the reason, in a text of the archive.
    """
    pipe = _Pipe()
    names: set[str] = set()
    missing: list[str] = []
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for number in numbers:
            try:
                opened = service.open_item(number)
            except (NoItemError, OutsideRootsError) as error:
                missing.append(f"item {number}: {error}")
                continue
            except OSError as error:
                missing.append(f"item {number}: {why(error)}")
                continue
            with (
                opened.file as source,
                archive.open(_unused(opened.item.path.name, names), "w", force_zip64=True) as entry,
            ):
                while piece := source.read(_CHUNK_BYTES):
                    entry.write(piece)
                    yield pipe.taken()
        if missing:
            archive.writestr(_unused(_NOTE, names), "\n".join(missing).encode("utf-8", "backslashreplace"))
    yield pipe.taken()


def _unused(name: str, names: set[str]) -> str:
    """Return a name that the archive doesn't have yet, and note it; bytes that aren't UTF-8 are escaped."""
    clean = name.encode("utf-8", "backslashreplace").decode("utf-8").replace("\\", "_")
    stem, dot, extension = clean.rpartition(".")
    unused, n = clean, 2
    while unused.casefold() in names:
        unused = f"{stem or extension} ({n}){dot if stem else ''}{extension if stem else ''}"
        n += 1
    names.add(unused.casefold())
    return unused
