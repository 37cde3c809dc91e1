"""Runs the application until it is told to end."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mmsearch.errors import UsageError, one_line
from mmsearch.web.app import make_app
from mmsearch.web.policy import Policy
from mmsearch.web.ports import ServedLibrary

_HEADERS_S = 15.0
"""How long a client may take to send the headers of a request."""
_END_S = 5
"""How long answers under way may take once the server is to end."""
_MOST_CONNECTIONS = 512


def serve(library: ServedLibrary, host: str, port: int, token: str | None, ready: Callable[[str], None]) -> bool:
    """Serve a library until a signal ends it; return whether that was Ctrl-C.

    `ready` is called with the server's address. Raises `UsageError` where it can't listen there.
    """
    app = make_app(library, Policy.of(host, token))
    with _listening(host, port) as opened:
        config = uvicorn.Config(
            app,
            http=_PatientProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_END_S,
        )
        server = _Server(config)
        shown = f"[{host}]" if ":" in host else host
        server.on_started = lambda: ready(f"http://{shown}:{opened.getsockname()[1]}/")
        server.run([opened])
        return server.interrupted


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        opened = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} of {host} is taken; choose another with --port") from None
        reason = one_line(error.strerror or error).lower()
        raise UsageError(f"the server can't listen at {host}, port {port} ({reason}); choose another --host") from None
    with opened:
        yield opened


class _Server(uvicorn.Server):
    """Ends by itself after a signal, where uvicorn would send that signal to the process once more."""

    interrupted = False
    on_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        import signal

        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: Any) -> None:  # noqa: ANN401  the signature of a handler
            self.interrupted = self.interrupted or number == signal.SIGINT
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _PatientProtocol(H11Protocol):
    """HTTP/1.1 for clients that send the headers of a request within `_HEADERS_S`; others are hung up on."""

    _deadline: Any = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  the signature of uvicorn
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Give a request that has begun until the deadline to show its headers."""
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_HEADERS_S, self._give_up)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
