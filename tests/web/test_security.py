"""What the server refuses by where it points or comes from: paths, links, hosts and origins; and its headers."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.guarded_server import guarded as guarded
from support.guarded_server import library_of
from support.media_maker import encoded, plain
from support.serving import hits_of, refusal_of, serving

import mmsearch
from mmsearch.rooted import OutsideRootsError, open_below
from mmsearch.web import gate

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
