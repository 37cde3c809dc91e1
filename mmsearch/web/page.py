"""Routes of the page: its files, the login, and the export of a selection."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from mmsearch.web.export import zipped
from mmsearch.web.gate import COOKIE
from mmsearch.web.policy import LOGIN_S, Policy
from mmsearch.web.problems import PROBLEMS
from mmsearch.web.service import Service, service_of

router = APIRouter(include_in_schema=False)
FILES = Path(__file__).with_name("static")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_NAME = re.compile(r"[a-z][a-z_]*\.(?:js|css|svg)")
_MOST_FORM_BYTES = 2**16
_MOST_EXPORTED = 2_000


@router.api_route("/", methods=["GET", "HEAD"])
def page() -> Response:
    """Return the page."""
    return _file("index.html")


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return one of the page's files."""
    if not _NAME.fullmatch(name) or not (FILES / name).is_file():
        raise HTTPException(404, "the page has no such file")
    return _file(name)


@router.get("/favicon.ico")
def favicon() -> Response:
    """Return the page's sign."""
    return _file("icon.svg")


@router.get("/login")
def login_page() -> Response:
    """Return the form that asks for the token."""
    return _file("login.html")


@router.post("/login")
async def login(request: Request) -> Response:
    """Exchange the token for a login cookie."""
    policy: Policy = request.app.state.policy
    given = (await _form(request)).get("token", [""])[0]
    if policy.token is not None and not policy.is_token(given.strip()):
        return _file("login.html", 401)
    response = RedirectResponse("/", 303)
    if policy.token is not None:
        secure = request.headers.get("x-forwarded-proto") == "https"
        response.set_cookie(COOKIE, policy.login(), LOGIN_S, httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/export", responses=PROBLEMS)
async def export(request: Request, service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return the files of a selection as one zip archive; the form has their numbers in `ids`, with commas."""
    raw = (await _form(request)).get("ids", [""])[0]
    numbers = list(dict.fromkeys(int(part) for part in raw.split(",") if part.strip().isdecimal()))
    if not 0 < len(numbers) <= _MOST_EXPORTED:
        raise HTTPException(400, f"select from one to {_MOST_EXPORTED:,} files to export")
    headers = {"content-disposition": 'attachment; filename="mmsearch.zip"'}
    return StreamingResponse(zipped(service, numbers), 200, headers, "application/zip")


async def _form(request: Request) -> dict[str, list[str]]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_FORM_BYTES:
            raise HTTPException(413, "the form is too large")
    return parse_qs(body.decode("utf-8", "replace"), max_num_fields=16)


def _file(name: str, status: int = 200) -> Response:
    headers = {"content-type": _TYPES[name.rpartition(".")[2]], "cache-control": "no-cache"}
    return Response((FILES / name).read_bytes(), status, headers)
