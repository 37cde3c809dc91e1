"""A hub that can't be reached: nobody waits long, what is cached will do, and the rest is one line."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import huggingface_hub
import pytest
from huggingface_hub import constants
from support.fake_hub import FakeHub, Fault
from support.hub_files import CLIP, PICKLED, SAFE, TOKENS, refusal
from support.hub_files import home as home
from support.hub_files import server as server

from mmsearch.spaces import hub


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_computer_without_a_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused_port()}")
    began = time.monotonic()
    said = refusal()
    assert time.monotonic() - began < 5
    assert [word for word in (CLIP, "refused", "check the network", "--model mini", "copy ") if word not in said] == []


def test_a_host_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    said = refusal()
    assert f"{CLIP} can't be fetched from https://hub.example.invalid: Name or service not known; check the" in said


def test_a_certificate_that_is_not_trusted_is_told_from_an_odd_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def distrust(*_: object, **__: object) -> None:
        raise RuntimeError("the library's own") from ssl.SSLCertVerificationError(1, "certificate verify failed")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", distrust)
    assert ": certificate verify failed; check the network, the proxy" in refusal()


def test_a_server_that_says_nothing_is_given_up(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_LISTING_TIMEOUT_S", 0.5)
    server.misbehave(Fault(hang=True))
    began = time.monotonic()
    assert "no answer in time" in refusal()
    assert time.monotonic() - began < 5


def test_a_download_that_stands_still_is_given_up(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    server.misbehave(Fault(hang=True), repository=f"content/{CLIP}", method="GET")
    began = time.monotonic()
    said = refusal()
    assert f"{SAFE} of {CLIP} can't be fetched" in said
    assert "timed out" in said
    assert time.monotonic() - began < 10


def test_an_endpoint_that_is_no_web_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ("file:///etc", "hub.example.org", "http://[bad", "http://a b", "https://"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        said = refusal()
        assert endpoint.rstrip("/") in said
        assert "HF_ENDPOINT" in said
        assert not hub.answers(CLIP)


def test_without_a_network_what_is_needed_and_cached_will_do(server: FakeHub) -> None:
    folder = hub.fetch_all(CLIP, [[SAFE]])
    server.misbehave(Fault(status=503))
    assert hub.fetch_all(CLIP, [[SAFE]], [TOKENS]) == folder


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_uses_the_cache_and_nothing_else(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    cached = hub.fetch(CLIP, [SAFE])
    server.requests.clear()
    monkeypatch.setenv(variable, "1")
    assert hub.fetch(CLIP, [SAFE]) == cached
    assert hub.fetch_all(CLIP, [[SAFE]], [TOKENS]) == cached.parent
    said = refusal("acme/old", PICKLED)
    assert [w for w in ("acme/old", "HF_HUB_OFFLINE", "unset", "--model mini", "copy ") if w not in said] == []
    assert not hub.answers(CLIP)
    assert server.requests == []


def test_the_hub_answers_for_what_it_has_and_for_nothing_else(server: FakeHub) -> None:
    assert hub.answers(CLIP)
    assert not hub.answers("acme/none")
    for fault in (Fault(status=500), Fault(status=429), Fault(status=401, code="GatedRepo"), Fault(reset=True)):
        server.behave()
        server.misbehave(fault)
        assert not hub.answers(CLIP)


def test_nobody_waits_longer_for_an_answer_than_they_said(server: FakeHub) -> None:
    server.misbehave(Fault(hang=True))
    began = time.monotonic()
    assert not hub.answers(CLIP, within_s=0.5)
    assert time.monotonic() - began < 2.5


def test_a_name_server_that_hangs_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(hub, "_LISTING_TIMEOUT_S", 0.5)
    began = time.monotonic()
    assert not hub.answers(CLIP, within_s=0.5)
    assert "no answer in time" in refusal()
    assert time.monotonic() - began < 5
    released.set()


def test_a_port_that_takes_connections_and_never_reads_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        monkeypatch.setenv("HF_ENDPOINT", f"https://127.0.0.1:{listener.getsockname()[1]}")
        began = time.monotonic()
        assert not hub.answers(CLIP, within_s=0.5)
        assert time.monotonic() - began < 2.5
