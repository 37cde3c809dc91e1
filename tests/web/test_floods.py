"""Requests that are too large, too many, bombs, or slow on purpose: the server refuses them and answers on."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from support.guarded_server import library_of
from support.media_maker import deflate_bomb, encoded, plain, png
from support.serving import hits_of, refusal_of

import mmsearch
from mmsearch.web import gate, server
from mmsearch.web.app import make_app
from mmsearch.web.gate import Rates
from mmsearch.web.policy import Policy


def bombs() -> dict[str, bytes]:
    return {
        "a picture of ten billion pixels": png(100_000, 100_000, deflate_bomb(2**20)),
        "a picture that takes more memory than any": png(15_800, 15_800, deflate_bomb(2**20), colour_type=6),
        "a sound of nothing": b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(16),
        "a container of nothing": b"\0\0\0\x18ftypmp42" + bytes(12) + b"\xff\xff\xff\xffmoov" * 99,
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_that_is_uploaded_is_refused_and_the_server_answers_on(client: TestClient, name: str) -> None:
    refusal_of(client.post("/search", files={"file": io.BytesIO(bombs()[name])}), 422)
    assert hits_of(client.get("/search?q=red"))


def test_what_is_uploaded_is_decoded_in_another_process(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("decoded in the server's own process")

    for module in ("image.read_picture", "image.read_image", "clip.read_clip", "clip.read_sound", "cut.cut"):
        monkeypatch.setattr(f"mmsearch.media.{module}", forbidden)
    picture = io.BytesIO(encoded(plain((220, 20, 20)), "PNG"))
    assert hits_of(client.post("/search", files={"file": picture}, data={"in": "image"}))


def test_a_request_that_is_too_large_is_refused_before_and_while_it_comes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BODY_BYTES", 10_000)
    large = bytes(20_000)
    for path in ("/search", "/v1/embeddings", "/export", "/login", "/index"):
        refusal_of(client.post(path, content=large, headers={"content-type": "application/json"}), 413)
        pieces = iter([large[:5_000]] * 4)  # sent in chunks: nothing says beforehand how much there is
        refusal_of(client.post(path, content=pieces, headers={"content-type": "application/json"}), 413)
    refusal_of(client.post("/search", files={"file": io.BytesIO(large)}), 413)


def test_a_form_of_too_many_parts_is_refused(client: TestClient) -> None:
    files: list[tuple[str, Any]] = [("file", (f"{n}.png", b"x")) for n in range(5)]
    refusal_of(client.post("/search", files=files), 400)
    refusal_of(client.post("/search", data={f"f{n}": "x" for n in range(65)}, files=files[:1]), 400)


def test_an_address_has_a_rate_and_loopback_has_none() -> None:
    rates = Rates(10.0, 3.0)
    assert [rates.wait_s("192.0.2.9") == 0 for _ in range(5)] == [True, True, True, False, False]
    assert 0 < rates.wait_s("192.0.2.9") <= 0.1
    assert rates.wait_s("192.0.2.10") == 0
    assert [rates.wait_s("127.0.0.1") for _ in range(99)] == [0.0] * 99
    for n in range(Rates._MOST_ADDRESSES + 10):
        rates.wait_s(f"host {n}")
    assert len(rates._left) == Rates._MOST_ADDRESSES


@contextmanager
def running(library: Path) -> Iterator[tuple[str, int]]:
    """Run a real server in a thread, and give its address."""
    opened = socket.create_server(("127.0.0.1", 0))
    app = make_app(mmsearch.open(library), Policy.of("127.0.0.1", None))
    config = uvicorn.Config(app, http=server._PatientProtocol, ws="none", log_config=None, access_log=False)
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, args=([opened],))
    thread.start()
    try:
        yield opened.getsockname()
    finally:
        runner.should_exit = True
        thread.join()


def test_clients_that_are_slow_on_purpose_are_hung_up_on(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_HEADERS_S", 0.3)
    monkeypatch.setattr(gate, "IDLE_S", 0.3)
    with running(library) as address:
        silent, headless, bodiless = (socket.create_connection(address, 20) for _ in range(3))
        headless.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        kind = b"Content-Type: application/json\r\nContent-Length: 999\r\n\r\n{"
        bodiless.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\n" + kind)
        assert silent.recv(1_000) == b""
        assert headless.recv(1_000) == b""
        assert bodiless.recv(1_000).startswith(b"HTTP/1.1 408 ")
        for client in (silent, headless, bodiless):
            client.close()
        with socket.create_connection(address, 20) as client:  # and another is answered
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(1_000).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_takes_nothing_holds_no_file_for_ever(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "IDLE_S", 0.3)
    (tmp_path / "long.txt").write_text("many words " * 2_000_000)
    shutil.copy(media / "red.png", tmp_path / "red.png")
    numbers = library_of(tmp_path / "lib", tmp_path / "red.png")
    (tmp_path / "long.txt").replace(tmp_path / "red.png")  # 22 MB are served under the name of a picture
    with running(tmp_path / "lib") as address:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(20)
        client.connect(address)
        client.sendall(f"GET /items/{numbers['red.png']}/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        taken = len(client.recv(1))  # from here on the answer is under way
        time.sleep(2.0)
        while piece := client.recv(2**20):
            taken += len(piece)
        client.close()
    assert taken < 22_000_000
