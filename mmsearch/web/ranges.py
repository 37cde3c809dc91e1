"""Answers with a part of a file: the Range header of RFC 9110, one range at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BufferedReader

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK_BYTES = 2**18


def ranged(request: Request, file: BufferedReader, size_bytes: int, headers: dict[str, str]) -> Response:
    """Return a file, or the part of it that is asked for: 200, 206, 304 or 416. It is closed afterwards.

    `headers` have the `etag` by which the file is known. Several ranges at once are answered with the whole file.
    """
    etag = headers["etag"]
    if etag in request.headers.get("if-none-match", ""):
        file.close()
        return Response(None, 304, headers)
    fixed = headers | {"accept-ranges": "bytes"}
    asked = request.headers.get("range")
    if asked is not None and request.headers.get("if-range", etag) != etag:
        asked = None  # the part that the client has is of another content
    match = _RANGE.fullmatch(asked.strip()) if asked is not None else None
    status, start, end = 200, 0, size_bytes
    if match is not None and match.groups() != ("", ""):  # a range that isn't understood is ignored
        start, end = _span(match[1], match[2], size_bytes)
        if start >= end:
            file.close()
            return Response(None, 416, fixed | {"content-range": f"bytes */{size_bytes}"})
        fixed["content-range"] = f"bytes {start}-{end - 1}/{size_bytes}"
        status = 206
    fixed["content-length"] = str(end - start)
    if request.method == "HEAD":
        file.close()
        return Response(None, status, fixed)
    return StreamingResponse(_pieces(file, start, end), status, fixed)


def _span(first: str, last: str, size_bytes: int) -> tuple[int, int]:
    """Return the first byte of a range and the one after its last; the file has none of them where that isn't more."""
    if not first:
        return max(0, size_bytes - int(last)), size_bytes
    return int(first), min(int(last) + 1, size_bytes) if last else size_bytes


def _pieces(file: BufferedReader, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left > 0:
            piece = file.read(min(_CHUNK_BYTES, left))
            if not piece:
                raise OSError("the file became shorter while it was sent")
            left -= len(piece)
            yield piece
