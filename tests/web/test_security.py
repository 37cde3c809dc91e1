"""What the server refuses: paths, links, hosts, origins, tokens, sizes, and clients that are slow on purpose."""

from __future__ import annotations

import io
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.media_maker import deflate_bomb, encoded, plain, png
from support.serving import hits_of, refusal_of, running, serving

import mmsearch
from mmsearch import Settings, UsageError
from mmsearch.rooted import OutsideRootsError, open_below
from mmsearch.web import gate, policy, server
from mmsearch.web.gate import COOKIE, Rates
from mmsearch.web.policy import Policy

TOKEN = "a token that nobody guesses"
ELSEWHERE = "http://192.0.2.7:7700"


@pytest.fixture(scope="module")
def guarded(library: Path) -> Iterator[TestClient]:
    """A client of a server that other machines reach."""
    with serving(library, "0.0.0.0", TOKEN, ELSEWHERE) as client:
        yield client


# Paths and links


@pytest.mark.parametrize(
    "address",
    [
        "/items/../../../../etc/passwd",
        "/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd/file",
        "/items/1/file/../../../etc/passwd",
        "/items//etc/passwd/file",
        "/items/-1/file",
        "/items/1e3/file",
        "/items/1/thumbnail/etc",
        "/static/../app.py",
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/page.py",
        "/static/app.py",
        "/static/.hidden.js",
        "/static/nothing.js",
    ],
)
def test_no_address_leads_to_a_path_of_the_disk(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code in (404, 422), answer.text
    assert b"root:" not in answer.content
    assert b"import" not in answer.content


def library_of(folder: Path, *roots: Path) -> dict[str, int]:
    with mmsearch.open(folder, model="hashing", settings=Settings(workers=1)) as library:
        library.index(*roots)
        return {item.path.name: item.id for item in library.items()}


def test_a_link_out_of_the_roots_is_refused_whenever_it_came_there(tmp_path: Path) -> None:
    roots, outside = tmp_path / "roots", tmp_path / "outside"
    outside.mkdir()
    for place in (outside / "secret.png", roots / "own.png", roots / "deep" / "swapped.png", roots / "file.png"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(plain((220, 20, 20)), "PNG"))
    (roots / "linked").symlink_to(outside)
    (roots / "inner").symlink_to(roots / "deep")
    ids = library_of(tmp_path / "lib", roots)
    (outside / "swapped.png").write_bytes(b"\x89PNG secret")
    shutil.rmtree(roots / "deep")
    (roots / "deep").symlink_to(outside)
    (roots / "file.png").unlink()
    (roots / "file.png").symlink_to(outside / "secret.png")
    with serving(tmp_path / "lib") as client:
        number = next(iter(ids.values()))  # all were one content: one item, whose first path is looked at
        for part in ("file", "thumbnail", "similar"):
            assert "leads out" in refusal_of(client.get(f"/items/{number}/{part}"), 403)
        assert "leads out" in refusal_of(client.get("/search", params={"like": number}), 403)


def test_a_file_is_opened_only_where_it_really_lies_below_a_root(tmp_path: Path) -> None:
    root, other, outside = tmp_path / "root", tmp_path / "other", tmp_path / "outside"
    for folder in (root / "deep", other, outside, tmp_path / "root2"):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(folder.name)
    (root / "to_other").symlink_to(other)
    (root / "to_outside").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "file.txt").symlink_to(outside / "a.txt")
    (tmp_path / "linked_root").symlink_to(root)
    os.mkfifo(root / "pipe.txt")
    roots = [os.fsencode(root), os.fsencode(other), os.fsencode(tmp_path / "linked_root")]

    def read(path: Path) -> str:
        with open_below(os.fsencode(path), roots) as file:
            return file.read().decode()

    assert read(root / "deep" / "a.txt") == "deep"
    assert read(root / "to_other" / "a.txt") == "other"
    assert read(tmp_path / "linked_root" / "deep" / "a.txt") == "deep"
    refused = (
        root / "to_outside" / "a.txt",
        root / "up" / "outside" / "a.txt",
        root / "file.txt",
        root / ".." / "outside" / "a.txt",
        outside / "a.txt",
        tmp_path / "root2" / "a.txt",
        root / "pipe.txt",
        Path("/etc/passwd"),
    )
    for path in refused:
        with pytest.raises(OSError, match=r"outside|regular"):
            read(path)
    with pytest.raises(OutsideRootsError):
        open_below(os.fsencode(root / "deep" / "a.txt"), [])
    with open_below(os.fsencode(root / "deep" / "a.txt"), [os.fsencode(root / "deep" / "a.txt")]) as file:
        assert file.read() == b"deep"


# Hosts and origins


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:7700",
        "192.168.1.5",
        "",
        "127.0.0.1@evil",
        "::1]",
    ],
)
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    assert "known by that name" in refusal_of(client.get("/status", headers={"host": host}), 403)


@pytest.mark.parametrize("host", ["127.0.0.1:7700", "localhost", "LOCALHOST:8080", "[::1]:7700", "localhost."])
def test_every_name_of_loopback_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_other_machines_reach_a_server_by_its_addresses_and_not_by_a_name_that_was_pointed_at_it(
    guarded: TestClient,
) -> None:
    own = socket.gethostname()
    for host in ("192.0.2.7:7700", "[2001:db8::1]", own):
        assert guarded.get("/healthz", headers={"host": host}).status_code == 200
    assert guarded.get("/healthz", headers={"host": "rebound.example"}).status_code == 403


CROSS_SITE = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "file://127.0.0.1:7700"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_sites_page_may_neither_ask_nor_order(client: TestClient, method: str, headers: dict[str, str]) -> None:
    for path in ("/search?q=red", "/index", "/export", "/v1/embeddings", "/items/1/file"):
        assert "another site" in refusal_of(client.request(method, path, headers=headers), 403)


def test_the_page_itself_may_be_linked_to_and_may_ask(client: TestClient) -> None:
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=linked).status_code == 200
    assert client.post("/", headers=linked).status_code == 403
    own = {"origin": "http://127.0.0.1:7700", "sec-fetch-site": "same-origin"}
    assert hits_of(client.post("/search", json={"q": "red"}, headers=own))


def test_no_answer_may_be_read_by_another_site(client: TestClient) -> None:
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for answer in (client.options("/search", headers=preflight), client.get("/search?q=red")):
        assert not [name for name in answer.headers if name.startswith("access-control")]


# Tokens


def test_an_address_that_others_reach_demands_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(UsageError, match="--token"):
            Policy.of(host, None)
    with pytest.raises(UsageError, match="empty"):
        Policy.of("0.0.0.0", " ")
    assert Policy.of("127.0.0.1", None).token is None


ROUTES = [
    "/",
    "/search?q=red",
    "/status",
    "/facets",
    "/metrics",
    "/openapi.json",
    "/items/1",
    "/items/1/file",
    "/jobs/1",
]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"cookie": f"{COOKIE}={TOKEN}"},
        {"cookie": f"{COOKIE}=99999999999.0000"},
        {"cookie": f"{COOKIE}=; {COOKIE}"},
    ],
)
def test_without_the_token_nothing_of_the_library_is_shown(
    guarded: TestClient, path: str, headers: dict[str, str]
) -> None:
    answer = guarded.get(path, headers=headers)
    assert "token" in refusal_of(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_posts_without_the_token_are_refused(guarded: TestClient) -> None:
    for path in ("/search", "/index", "/export", "/v1/embeddings"):
        refusal_of(guarded.post(path, json={"q": "red"}), 401)


def test_the_token_admits_programs_and_a_login_admits_the_page(library: Path) -> None:
    with serving(library, "0.0.0.0", TOKEN, ELSEWHERE) as client:
        assert client.get("/status", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
        to_login = client.get("/", headers={"accept": "text/html"}, follow_redirects=False)
        assert (to_login.status_code, to_login.headers["location"]) == (303, "/login")
        own = {"origin": ELSEWHERE}
        assert client.post("/login", data={"token": "wrong"}, headers=own).status_code == 401
        assert COOKIE not in client.cookies
        done = client.post("/login", data={"token": TOKEN}, headers=own, follow_redirects=False)
        assert (done.status_code, done.headers["location"]) == (303, "/")
        cookie = done.headers["set-cookie"].lower()
        assert TOKEN not in cookie
        assert all(flag in cookie for flag in ("httponly", "samesite=strict"))
        assert hits_of(client.get("/search?q=red"))
        assert hits_of(client.post("/search", json={"q": "red"}, headers=own))
        assert "login is good for the page alone" in refusal_of(client.post("/search", json={"q": "red"}), 403)
        refusal_of(client.post("/search", json={"q": "red"}, headers={"origin": "http://evil.example"}), 403)


def test_a_login_ends_with_its_time_and_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = Policy.of("0.0.0.0", TOKEN), Policy.of("0.0.0.0", "another")
    cookie = first.login()
    assert first.admits(None, cookie)
    assert not other.admits(None, cookie)
    ends, _, signature = cookie.partition(".")
    assert not first.admits(None, f"{int(ends) + 1}.{signature}")
    now = time.time() + policy.LOGIN_S + 1
    monkeypatch.setattr(time, "time", lambda: now)
    assert not first.admits(None, cookie)


def test_a_token_is_compared_by_digests_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return given == wanted

    monkeypatch.setattr("hmac.compare_digest", compare)
    guard = Policy.of("0.0.0.0", TOKEN)
    for given in ("", "x", TOKEN[:-1], TOKEN * 9, TOKEN):
        assert guard.admits(f"Bearer {given}", None) == (given == TOKEN)
    assert {len(side) for pair in compared for side in pair} == {32}
    assert len(compared) == 5


def test_guessing_a_token_is_slowed_down(library: Path) -> None:
    with serving(library, "0.0.0.0", TOKEN, ELSEWHERE) as client:
        statuses = [client.post("/login", data={"token": str(n)}).status_code for n in range(12)]
        assert statuses[:10] == [401] * 10
        assert statuses[-1] == 429
        assert int(client.post("/login", data={"token": TOKEN}).headers["retry-after"]) > 0


# Sizes and bombs


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


# Slow clients


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


# Headers


def test_every_answer_has_the_headers_of_a_careful_server(client: TestClient, ids: dict[str, int]) -> None:
    addresses = (
        "/",
        "/search?q=red",
        "/search",
        "/nothing",
        "/static/style.css",
        f"/items/{ids['red.png']}/file",
        "/healthz",
    )
    for address in addresses:
        headers = client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert (
            "unsafe-inline" not in headers["content-security-policy"] or "sandbox" in headers["content-security-policy"]
        )
        assert "cache-control" in headers
        assert "server" not in headers
    refused = client.get("/", headers={"host": "evil.example"}).headers
    assert "default-src 'none'" in refused["content-security-policy"]


def test_the_page_asks_nobody_else_for_anything() -> None:
    static = Path(gate.__file__).with_name("static")
    for file in static.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        assert "//cdn" not in text, file


def test_an_unexpected_error_says_nothing_of_itself(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(mmsearch.Library, "facets", broken)
    assert "secret" not in refusal_of(client.get("/facets"), 500)
    assert "a secret of the inside" in caplog.text
