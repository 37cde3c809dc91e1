"""Routes of one item: its facts, a picture of it, its file, and a moment cut out of it."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mmsearch import wire
from mmsearch.errors import QueryError
from mmsearch.types import Modality
from mmsearch.web.problems import PROBLEMS, Json
from mmsearch.web.ranges import ranged
from mmsearch.web.service import STILL_SIDES, Service, service_of

router = APIRouter(prefix="/items", tags=["items"])
_MOST_SEGMENTS = 1_000
_MOST_CLIP_S = 120.0
_TYPES = {
    **{name: f"image/{name}" for name in ("png", "webp", "gif", "avif", "bmp")},
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    **dict.fromkeys(("mp4", "m4v"), "video/mp4"),
    **{"mov": "video/quicktime", "webm": "video/webm", "mkv": "video/x-matroska", "ogv": "video/ogg"},
    **{"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "aac": "audio/aac", "m4a": "audio/mp4"},
    **dict.fromkeys(("ogg", "oga", "opus"), "audio/ogg"),
    **dict.fromkeys(("txt", "md", "srt", "vtt", "org", "rst"), "text/plain; charset=utf-8"),
}
"""What a browser is told of a file, by its extension. Whatever else there is, is a download: no file becomes a page."""
_DOWNLOAD = "application/octet-stream"
_ALONE = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
"""The content security policy of files: they load and run nothing."""
_KEPT = "private, max-age=3600"


class ItemOut(BaseModel):
    """What the library holds of a file."""

    model_config = {"extra": "allow"}

    id: int
    path: str
    modality: Modality
    texts: list[dict[str, Any]]
    facts: dict[str, Any]
    segments: list[dict[str, Any]]
    segment_count: int


def _binary(description: str, *types: str) -> dict[int | str, dict[str, Any]]:
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in types}
    return {200: {"description": description, "content": content}, **PROBLEMS}


_FILE = _binary("The file", "application/octet-stream") | {
    206: {"description": "The part that the Range header asks for"},
    304: {"description": "The client has it"},
    416: {"description": "The file has no such part"},
}


@router.get("/{number}", responses={200: {"model": ItemOut}, **PROBLEMS}, summary="What is known of an item")
def item(number: int, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return an item with its facts, its texts and its segments, at most 1,000 of these."""
    from mmsearch.holdings import read_item

    found, segments = read_item(service.library.seen().catalog, number)
    fields = wire.from_item(found)
    fields["segments"] = [wire.from_segment(segment) for segment in segments[:_MOST_SEGMENTS]]
    fields["segment_count"] = len(segments)
    return Json(fields)


@router.get("/{number}/thumbnail", responses=_binary("A small picture", "image/jpeg"), summary="A small picture")
def thumbnail(
    number: int,
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    at: Annotated[float, Query(ge=0, le=10**6, description="Of a video: the second.")] = 0.0,
    size: Annotated[int, Query(ge=1, le=4_096, description="Pixels of the longer side, rounded up.")] = 320,
) -> Response:
    """Return a JPEG of a picture, or of a video at a second."""
    side = next((side for side in STILL_SIDES if side >= size), STILL_SIDES[-1])
    picture, stamp = service.still(number, at, side)
    headers = {"etag": f'"{stamp}-{side}"', "cache-control": _KEPT}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(picture, 200, headers, "image/jpeg")


@router.head("/{number}/file", include_in_schema=False)
@router.get("/{number}/file", responses=_FILE, summary="The file itself")
def file(
    number: int,
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    download: Annotated[bool, Query(description="As a download, under its name.")] = False,
) -> Response:
    """Return an item's file, or a range of it."""
    opened = service.open_item(number)
    name = opened.item.path.name
    kind = _TYPES.get(name.rpartition(".")[2].lower(), _DOWNLOAD)
    headers = {
        "etag": f'"{opened.stamp}"',
        "content-type": kind,
        "cache-control": "private, no-cache",
        "content-security-policy": _ALONE,
        "content-disposition": _disposition(name, attached=download or kind == _DOWNLOAD),
    }
    return ranged(request, opened.file, opened.size_bytes, headers)


@router.get(
    "/{number}/clip",
    responses=_binary("A moment of it", "video/mp4", "audio/mp4", "video/webm"),
    summary="A moment, cut",
)
def clip(
    number: int,
    service: Annotated[Service, Depends(service_of)],
    start: Annotated[float, Query(ge=0, le=10**6, description="In seconds.")],
    end: Annotated[float, Query(ge=0, le=10**6, description="In seconds, at most two minutes later.")],
    download: Annotated[bool, Query(description="As a download, under its name.")] = False,
) -> Response:
    """Return a moment of a sound or video as a file that browsers play."""
    if not 0 < end - start <= _MOST_CLIP_S:
        raise QueryError(f"a moment ends after it starts, and lasts {_MOST_CLIP_S:.0f} s at most; change start or end")
    found = service.library.item(number)
    if found.modality not in (Modality.AUDIO, Modality.VIDEO):
        raise HTTPException(404, "it has no moments: only sounds and videos have")
    made = service.clip(number, start, end)
    name = f"{found.path.stem} {start:g}-{end:g} s.{made.media_type.rpartition('/')[2]}"
    headers = {
        "cache-control": _KEPT,
        "content-security-policy": _ALONE,
        "content-disposition": _disposition(name, attached=download),
    }
    return Response(made.content, 200, headers, made.media_type)


def _disposition(name: str, *, attached: bool) -> str:
    """Return a Content-Disposition header for a file name, whatever stands in it (RFC 6266)."""
    ascii_name = re.sub(r"[^A-Za-z0-9 ._()-]", "_", name)
    kind = "attachment" if attached else "inline"
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(os.fsencode(name))}"
