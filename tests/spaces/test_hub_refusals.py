"""Files that the hub refuses, breaks off or changes, or that the disk can't take: one line with the remedy."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
import pytest
from support.fake_hub import FakeHub, Fault
from support.hub_files import CLIP, CONFIG, FILES, SAFE, WEIGHTS, refusal
from support.hub_files import home as home
from support.hub_files import server as server

from mmsearch.spaces import hub


def blobs(home: Path) -> list[Path]:
    return sorted((home / "hub" / "models--acme--clip-b32" / "blobs").glob("*"))


class Case(NamedTuple):
    fault: Fault
    words: tuple[str, ...]


@pytest.mark.parametrize(
    "case",
    [
        Case(Fault(status=401, code="GatedRepo"), (f"{CLIP} is gated", "accept its terms on http", "hf auth login")),
        Case(Fault(status=403, code="GatedRepo"), (f"{CLIP} is gated", f"/{CLIP},", "HF_TOKEN")),
        Case(Fault(status=401, code="RepoNotFound"), (f"no model {CLIP}, or it is private", "check the name")),
        Case(Fault(status=404, code="RepoNotFound"), (f"no model {CLIP}, or it is private", "log in")),
        Case(
            Fault(status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"}),
            ("doesn't accept your token", CLIP, "hf auth login"),
        ),
        Case(Fault(status=403), ("refuses", CLIP, "(HTTP 403)", "log in")),
        Case(Fault(status=429), ("no more requests", CLIP, "HTTP 429", "wait some minutes", "log in")),
        Case(Fault(status=500), ("has a fault (HTTP 500", CLIP, "try again later", "--model mini")),
        Case(Fault(status=503), ("HTTP 503", CLIP)),
        Case(Fault(status=200), (CLIP, "doesn't answer as the hub does", "HF_ENDPOINT", "proxy")),
        Case(Fault(reset=True), (CLIP, "reset", "check the network", "run it again", "--model mini", "copy ")),
    ],
    ids=str,
)
@pytest.mark.parametrize("asked", [("GET", "/revision/main"), ("HEAD", SAFE), ("GET", SAFE)], ids=" ".join)
def test_a_refusal_names_the_model_and_the_remedy(server: FakeHub, case: Case, asked: tuple[str, str]) -> None:
    method, name = asked
    if (method, name, case.fault.status) == ("GET", SAFE, 200):
        pytest.skip("an empty body is one that broke off")
    server.misbehave(case.fault, method=method, name=name)
    said = refusal()
    assert [word for word in case.words if word not in said] == [], said
    if name == SAFE and not case.fault.code and not case.fault.headers:
        assert f"{SAFE} of {CLIP}" in said
    server.behave()
    assert hub.fetch(CLIP, [SAFE]).read_bytes() == WEIGHTS, "a refusal left something behind"


def test_a_repository_without_the_file_says_which() -> None:
    assert refusal(CLIP, "model.onnx", "x.bin") == (
        f"{CLIP} on the hub has no model.onnx or x.bin; choose another model"
    )
    assert "no model acme/none" in refusal("acme/none")


def test_a_download_that_breaks_off_leaves_nothing_and_can_be_repeated(server: FakeHub, home: Path) -> None:
    server.misbehave(Fault(break_after=700_000, times=1), name=SAFE, method="GET")
    server.misbehave(Fault(reset=True), repository=f"content/{CLIP}", method="GET")
    said = refusal()
    assert f"{SAFE} of {CLIP} can't be fetched" in said
    assert "run it again" in said
    assert (blobs(home), hub.find(CLIP, [SAFE])) == ([], None)
    server.behave()
    assert hub.fetch(CLIP, [SAFE]).read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", [SAFE, CONFIG])
@pytest.mark.parametrize("change", [-5, 5])
def test_content_of_another_size_than_promised_is_never_kept(
    server: FakeHub, home: Path, name: str, change: int
) -> None:
    server.misbehave(Fault(content=bytes(len(FILES[name]) + change)), name=name, method="GET")
    said = refusal(CLIP, name)
    assert f"{name} of {CLIP} can't be fetched" in said
    assert f"should be of size {len(FILES[name])}" in said
    assert (blobs(home), hub.find(CLIP, [name])) == ([], None)


def test_the_token_goes_to_the_hub_and_to_no_other_host(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_named")
    hub.fetch(CLIP, [SAFE])
    kept = {asked.path.startswith("/content/"): asked.token for asked in server.requests if CLIP in asked.path}
    assert kept == {False: "Bearer hf_named", True: None}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_told_before_the_download(
    server: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 400_000))
    said = refusal()
    assert f"{CLIP} needs 1.0 MB more in {home / 'hub'}, where 0.4 MB are free" in said
    assert "HF_HOME" in said
    assert server.asked("GET", SAFE) == []


def test_content_that_is_at_hand_already_needs_no_more_room(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fetch(CLIP, [SAFE])
    server.repositories[CLIP] = {**FILES, "README.md": b"new"}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 400_000))
    assert hub.fetch_all(CLIP, [[SAFE], ["README.md"]]).name == server.commit(CLIP)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room there"), (errno.EACCES, "make that folder writable")],
)
def test_a_disk_that_takes_no_more_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    said = refusal()
    assert f"{SAFE} of {CLIP} can't be kept in {home / 'hub'}: {os.strerror(number)}; {remedy}, or set HF_HOME" in said


def test_a_cache_that_can_not_be_written_is_named(home: Path) -> None:
    home.write_bytes(b"a file, where a folder should be")
    said = refusal()
    assert f"{CLIP} can't be kept in {home / 'hub'}: Not a directory; make that folder writable" in said
    assert "HF_HOME" in said
