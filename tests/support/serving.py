"""A server over a small library, in the process of the tests: its requests go through the gate as a client's do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

import mmsearch
from mmsearch.web import server
from mmsearch.web.app import make_app
from mmsearch.web.policy import Policy

ADDRESS = "http://127.0.0.1:7700"


@contextmanager
def serving(
    folder: Path, host: str = "127.0.0.1", token: str | None = None, address: str = ADDRESS
) -> Iterator[TestClient]:
    """Serve the library in a folder; the client's address is a loopback one."""
    app = make_app(mmsearch.open(folder), Policy.of(host, token))
    with TestClient(app, address, client=("127.0.0.1", 50_000)) as client:
        yield client


@contextmanager
def running(library: Path, token: str | None = None) -> Iterator[tuple[str, int]]:
    """Run a real server in a thread, and give its address."""
    opened = socket.create_server(("127.0.0.1", 0))
    app = make_app(mmsearch.open(library), Policy.of("127.0.0.1", token))
    config = uvicorn.Config(app, http=server._PatientProtocol, ws="none", log_config=None, access_log=False)
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, args=([opened],))
    thread.start()
    try:
        yield opened.getsockname()
    finally:
        runner.should_exit = True
        thread.join()


def hits_of(response: Any) -> list[dict[str, Any]]:  # noqa: ANN401  httpx's response
    """Return the hits of a search that went well."""
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["hits"]
    return found


def refusal_of(response: Any, status: int) -> str:  # noqa: ANN401  httpx's response
    """Return what a refusal says, once it is seen to be a problem of this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["detail"].count("\n") == 0
    return str(body["detail"])
