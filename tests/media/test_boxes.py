"""MP4 files from outside: whether their last box is whole."""

from __future__ import annotations

import io

import pytest

from mmsearch.media.boxes import breaks_off


def box(name: bytes, size: int, *, says: int | None = None) -> bytes:
    return (says or size).to_bytes(4, "big") + name + bytes(size - 8)


@pytest.mark.parametrize(
    ("file", "broken"),
    [
        (box(b"ftyp", 24) + box(b"moov", 100) + box(b"mdat", 50), False),
        (box(b"ftyp", 24) + box(b"moov", 100) + box(b"mdat", 50, says=51), True),
        (box(b"ftyp", 24) + box(b"mdat", 50)[:-1], True),
        (box(b"ftyp", 24) + b"\0\0\0\0mdat" + bytes(99), False),  # to the end of the file
        (box(b"ftyp", 24) + b"\0\0\0\1mdat" + (40).to_bytes(8, "big") + bytes(24), False),  # 64-bit length
        (box(b"ftyp", 24) + b"\0\0\0\1mdat" + (41).to_bytes(8, "big") + bytes(24), True),
        (box(b"ftyp", 24) + b"\0\0\0\7mdat", False),  # nonsense is left to the decoder
        (box(b"ftyp", 24) + b"\0\0", False),
        (b"", False),
    ],
)
def test_a_file_breaks_off_where_its_last_box_ends_beyond_it(file: bytes, broken: bool) -> None:
    assert breaks_off(io.BytesIO(file)) is broken
