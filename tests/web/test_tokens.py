"""Without the server's token nothing is shown; with it programs are admitted, and a login admits the page."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.guarded_server import ELSEWHERE, TOKEN
from support.guarded_server import guarded as guarded
from support.serving import hits_of, refusal_of, serving

from mmsearch import UsageError
from mmsearch.web import policy
from mmsearch.web.gate import COOKIE
from mmsearch.web.policy import Policy


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
