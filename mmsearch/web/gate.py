"""What every request passes first: host, origin, token, rate, size and time; and the headers of every answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.web.policy import SAFE_METHODS, Policy, is_loopback
from mmsearch.web.problems import problem, problem_of

_log = logging.getLogger(__name__)
COOKIE = "mmsearch_login"
BODY_BYTES = 2**27
"""The largest body of a request."""
IDLE_S = 30.0
"""How long a client may take to send the next piece of its request, or to take the next one of an answer."""
BODY_S = 300.0
"""How long a client may take to send a whole request."""
_OPEN_PATHS = ("/healthz", "/login", "/favicon.ico")
_OPEN_FOLDER = "/static/"
"""What needs no token: nothing of the library is in it."""
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
    "cache-control": "no-store",
}
"""Of every answer that doesn't say otherwise."""


class Rates:
    """How many requests an address may send: so many a second on average, and `burst` at once. Loopback has no rate."""

    _MOST_ADDRESSES = 10_000

    def __init__(self, per_s: float, burst: float, *, spares_loopback: bool = True) -> None:
        self._per_s, self._burst, self._spares_loopback = per_s, burst, spares_loopback
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Count a request; return 0 where it may go on, else after how many seconds it may."""
        if self._spares_loopback and is_loopback(address):
            return 0.0
        now = time.monotonic()
        left, since = self._left.pop(address, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_s)
        allowed = left >= 1.0
        self._left[address] = (left - 1.0 if allowed else left, now)
        if len(self._left) > self._MOST_ADDRESSES:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._per_s


class Gate:
    """The outermost application: it refuses what the policy doesn't admit, and bounds what it does.

    `observe` is called after every answer with the method, the route, the status and the seconds it took.
    """

    def __init__(self, app: ASGIApp, policy: Policy, observe: Callable[[str, str, int, float], None]) -> None:
        self._app, self._policy, self._observe = app, policy, observe
        self._rates = Rates(100.0, 1_000.0)
        self._logins = Rates(1 / 6, 10.0, spares_loopback=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        began = time.monotonic()
        sending = _Sending(send)
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, sending)
            else:
                await self._app(scope, _Receiving(receive, scope), sending)
        except TimeoutError:
            _log.debug("a client took nothing for %.0f s; its connection is closed", IDLE_S)
            raise ConnectionError("the client stalled") from None
        except Exception as error:
            if not sending.status:
                await problem_of(error)(scope, receive, sending)
            elif not sending.complete:
                raise  # closing the connection is all that is left
        finally:
            route = getattr(scope.get("route"), "path", "") or "other"
            self._observe(scope["method"], route, sending.status or 499, time.monotonic() - began)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        hosts = sum(name == b"host" for name, _ in scope["headers"])
        address, path, method = (scope["client"] or ("", 0))[0], scope["path"], scope["method"]
        if hosts != 1 or not self._policy.answers_to(headers.get("host")):
            return problem(403, "this server isn't known by that name; use the address that it printed at its start")
        if self._policy.is_foreign(method, path, headers):
            return problem(403, "another site's page may not ask this server")
        if wait_s := self._rates.wait_s(address):
            return _too_many(wait_s)
        if path == "/login" and method == "POST" and (wait_s := self._logins.wait_s(address)):
            return _too_many(wait_s)
        if not (path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER)):
            return self._unadmitted(headers, path, method)
        return None

    def _unadmitted(self, headers: dict[str, str], path: str, method: str) -> Response | None:
        if self._policy.admits(headers.get("authorization"), _cookie(headers.get("cookie", ""))):
            by_cookie = self._policy.token is not None and "authorization" not in headers
            if by_cookie and method not in SAFE_METHODS and "origin" not in headers:
                return problem(403, "a login is good for the page alone; programs send the token")
            return None
        if path == "/" and method == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        wanted = {"www-authenticate": 'Bearer realm="mmsearch"'}
        return problem(
            401, "a token is asked for here; send 'Authorization: Bearer TOKEN', or log in at /login", wanted
        )


def _too_many(wait_s: float) -> Response:
    return problem(429, "too many requests; wait a moment", {"retry-after": str(max(1, round(wait_s)))})


def _cookie(raw: str) -> str:
    try:
        morsel = SimpleCookie(raw).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


class _Receiving:
    """Receives a request's body within its limits of size and time."""

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive = receive
        self._left_bytes = BODY_BYTES
        self._until = time.monotonic() + BODY_S
        self._complete = False
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        self._refused = int(length) > BODY_BYTES if length.isdigit() else False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # waits for the client to leave, for as long as the answer takes
        if self._refused:
            raise _too_large()
        try:
            async with asyncio.timeout(max(0.0, min(IDLE_S, self._until - time.monotonic()))):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the request came too slowly; send it again") from None
        if message["type"] == "http.request":
            self._left_bytes -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._left_bytes < 0:
                raise _too_large()
        return message


def _too_large() -> HTTPException:
    return HTTPException(413, f"the request is larger than {BODY_BYTES // 2**20} MB; send a smaller file")


class _Sending:
    """Sends an answer with the headers that every one has, to a client that takes it within a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        async with asyncio.timeout(IDLE_S):
            await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)
