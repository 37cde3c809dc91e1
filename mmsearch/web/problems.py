"""Errors → problem details (RFC 9457): the product's own one-line messages, each with a status."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mmsearch.errors import (
    DiskFullError,
    LibraryError,
    LockedError,
    MediaError,
    MissingPackageError,
    MMSearchError,
    ModelError,
    NoItemError,
    UsageError,
    one_line,
    why,
)
from mmsearch.rooted import OutsideRootsError

_log = logging.getLogger(__name__)
_STATUSES: tuple[tuple[type[MMSearchError], int], ...] = (
    (NoItemError, 404),
    (UsageError, 400),
    (DiskFullError, 507),
    (LockedError, 409),
    (MissingPackageError, 501),
    (ModelError, 503),
    (LibraryError, 503),
    (MediaError, 422),
)
"""The first class that an error is of decides its status; what is left is the machine's fault for now: 503."""


class Json(Response):
    """JSON in ASCII, so that a path that isn't UTF-8 passes as lone surrogates."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401  the signature of Starlette
        """Return the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Problem(BaseModel):
    """Why a request wasn't answered, as in RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503, 507)
}
"""The answers that any route may give instead of its own."""


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a refusal or a failure as a response."""
    title = HTTPStatus(status).phrase
    body = Json({"type": "about:blank", "title": title, "status": status, "detail": detail}, status, headers)
    body.headers["content-type"] = "application/problem+json"
    return body


def problem_of(error: Exception) -> Response:
    """Return an error as a response. One that isn't mmsearch's own is logged and says nothing of itself."""
    if isinstance(error, MMSearchError):
        return problem(next((status for kind, status in _STATUSES if isinstance(error, kind)), 503), str(error))
    if isinstance(error, OutsideRootsError):
        return problem(403, "a link leads out of the library's folders there; index the folder that it leads to")
    if isinstance(error, OSError):
        return problem(404 if isinstance(error, FileNotFoundError) else 503, f"the file: {why(error)}")
    _log.error("a request failed", exc_info=error)
    return problem(500, "unexpected; the server's log says more")


def install(app: FastAPI) -> None:
    """Have an app answer every error as a problem."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = str(error.detail) if error.detail != HTTPStatus(error.status_code).phrase else _hint(error.status_code)
        return problem(error.status_code, detail, dict(error.headers or {}))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(map(str, first.get("loc", ())[1:]))  # the first says where: in the address or in the body
        return problem(422, one_line(f"{place or 'the request'}: {str(first.get('msg', '')).lower()}"))

    async def failed(_: Request, error: Exception) -> Response:
        return problem_of(error)

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in (MMSearchError, OSError, Exception):
        app.add_exception_handler(kind, failed)


def _hint(status: int) -> str:
    return {404: "there is nothing at this address", 405: "this address takes another method"}.get(
        status, HTTPStatus(status).phrase.lower()
    )
