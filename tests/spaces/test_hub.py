"""Model files come from the hub whole, once, and of one commit; what can't come says why and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
import pytest
from conftest import REPOSITORY
from huggingface_hub import constants
from support.fake_hub import Asked, FakeHub, Fault

from mmsearch.errors import ModelError
from mmsearch.spaces import hub

CLIP = "acme/clip-b32"
CONFIG, SAFE, PICKLED, TOKENS = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "tokenizer.json",
)
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
FILES = {CONFIG: b'{"dim": 512}', SAFE: WEIGHTS, PICKLED: WEIGHTS[::-1], TOKENS: b'{"version": "1.0"}'}


@pytest.fixture
def server() -> Iterator[FakeHub]:
    with FakeHub({CLIP: FILES, "acme/old": {PICKLED: WEIGHTS}}) as server:
        yield server


@pytest.fixture(autouse=True)
def home(server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache's home; this process uses the server, waits for nothing between tries, and knows no token."""
    home = tmp_path / "hf"
    for name in os.environ:
        if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")):
            monkeypatch.delenv(name)
    for name, value in server.environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # what the library read when it was imported
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "harnesses.json"), raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield home
    huggingface_hub.close_session()


def python(code: str, **environment: str) -> str:
    """Run code in a process of its own, with this one's hub and cache, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refusal(repository: str = CLIP, *names: str) -> str:
    """Return the one line that a fetch fails with."""
    with pytest.raises(ModelError) as caught:
        hub.fetch(repository, names or [SAFE])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def blobs(home: Path) -> list[Path]:
    return sorted((home / "hub" / "models--acme--clip-b32" / "blobs").glob("*"))


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# the cache


def test_a_fetched_file_is_whole_and_then_found_without_a_request(server: FakeHub) -> None:
    assert hub.find(CLIP, [SAFE]) is None
    file = hub.fetch(CLIP, [SAFE])
    assert (file.name, file.read_bytes()) == (SAFE, WEIGHTS)
    server.requests.clear()
    assert hub.find(CLIP, [SAFE, PICKLED]) == hub.fetch(CLIP, [SAFE]) == file
    assert server.requests == []


def test_the_first_file_that_the_repository_has_is_taken(server: FakeHub) -> None:
    assert hub.fetch(CLIP, [SAFE, PICKLED]).name == SAFE
    assert hub.fetch("acme/old", [SAFE, PICKLED]).name == PICKLED
    fetched = {asked.path.rpartition("/")[2] for asked in server.asked("GET") if "/resolve/" in asked.path}
    assert fetched == {SAFE, PICKLED}
    assert [asked for asked in server.asked("GET", PICKLED) if CLIP in asked.path] == []


def test_a_snapshot_has_what_is_needed_and_the_optional_files_that_exist(server: FakeHub) -> None:
    needed, optional = [[CONFIG], [SAFE, PICKLED]], [TOKENS, "merges.txt"]
    folder = hub.fetch_all(CLIP, needed, optional)
    assert folder.name == server.commit(CLIP)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {n: FILES[n] for n in (CONFIG, SAFE, TOKENS)}
    server.requests.clear()
    assert hub.fetch_all(CLIP, needed, optional) == folder
    assert server.requests == [], "what the repository lacks was asked for again"


def test_an_optional_file_is_added_to_what_is_there_without_fetching_that_again(server: FakeHub) -> None:
    hub.fetch_all(CLIP, [[SAFE]])
    old = server.commit(CLIP)
    server.repositories[CLIP] = {**FILES, TOKENS: b"of a later commit"}
    server.requests.clear()
    folder = hub.fetch_all(CLIP, [[SAFE]], [TOKENS])
    assert (folder.name, (folder / TOKENS).read_bytes()) == (old, FILES[TOKENS])
    assert server.asked("GET", SAFE) == []


def test_all_files_are_of_the_commit_that_the_first_answer_named(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server.commit(CLIP)
    record = FakeHub.record

    def moved(self: FakeHub, asked: Asked) -> Fault:
        fault = record(self, asked)
        if "/resolve/" in asked.path:
            self.repositories[CLIP] = {CONFIG: b"new", SAFE: b"new"}
        return fault

    monkeypatch.setattr(FakeHub, "record", moved)
    folder = hub.fetch_all(CLIP, [[CONFIG], [SAFE]], [TOKENS])
    assert server.commit(CLIP) != first == folder.name
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {n: FILES[n] for n in (CONFIG, SAFE, TOKENS)}


def test_until_all_of_a_commit_has_come_the_cache_shows_the_one_before(server: FakeHub) -> None:
    old = hub.fetch(CLIP, [PICKLED])
    server.repositories[CLIP] = {**FILES, PICKLED: b"new", "new.json": b"{}"}
    server.misbehave(Fault(status=403), name=SAFE)
    with pytest.raises(ModelError):
        hub.fetch_all(CLIP, [["new.json"], [PICKLED], [SAFE]])
    assert hub.find(CLIP, [PICKLED]) == old
    server.behave()
    folder = hub.fetch_all(CLIP, [["new.json"], [PICKLED], [SAFE]])
    assert hub.find(CLIP, [PICKLED]) == folder / PICKLED != old


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HF_HUB_CACHE": "{}/a"}, "a"),
        ({"HUGGINGFACE_HUB_CACHE": "{}/b"}, "b"),
        ({"HF_HOME": "{}/c"}, "c/hub"),
        ({"XDG_CACHE_HOME": "{}/d"}, "d/huggingface/hub"),
        ({"HOME": "{}/e"}, "e/.cache/huggingface/hub"),
        ({"HF_HOME": "$PLACE/f", "PLACE": "{}"}, "f/hub"),
    ],
)
def test_the_cache_lies_where_the_hubs_own_library_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cache: str
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert hub.fetch(CLIP, [CONFIG]).is_relative_to(tmp_path / cache)
    theirs = python("import huggingface_hub.constants as c; print(c.HF_HUB_CACHE)")
    assert Path(theirs) == tmp_path / cache


def test_other_programs_find_what_was_fetched_and_the_other_way_round(server: FakeHub) -> None:
    ours = hub.fetch(CLIP, [SAFE])
    code = f"import huggingface_hub as h; print(h.hf_hub_download({CLIP!r}, {SAFE!r}))"
    assert Path(python(code, HF_HUB_OFFLINE="1")) == ours
    theirs = python(f"import huggingface_hub as h; print(h.hf_hub_download({CLIP!r}, {CONFIG!r}))")
    assert hub.find(CLIP, [CONFIG]) == Path(theirs)


def test_what_a_query_asks_loads_no_library() -> None:
    code = f"import sys; from mmsearch.spaces import hub; hub.find({CLIP!r}, [{SAFE!r}]); print(*sys.modules)"
    assert not {"huggingface_hub", "urllib.request", "http.client", "ssl"} & set(python(code).split())
    code = f"import sys; from mmsearch.spaces import hub; print(hub.answers({CLIP!r}), *sys.modules)"
    answered, *modules = python(code).split()
    assert (answered, "huggingface_hub" in modules) == ("True", False)


def test_a_cache_that_makes_no_sense_holds_nothing(home: Path) -> None:
    ref = home / "hub" / "models--acme--clip-b32" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    for content in (b"", b"\xff\xfe", b"../../../..", b"a" * 40):
        ref.write_bytes(content)
        assert hub.find(CLIP, [SAFE]) is None
    assert hub.fetch(CLIP, [SAFE]).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/../b", "a/b/c", "/etc", "a--b", "a/b.git", "http://x/y", "a/b?c", "a b", "é/x", "a/b\n"],
)
def test_a_name_that_can_be_no_repository_is_refused_before_any_request(server: FakeHub, name: str) -> None:
    for call in (hub.check_name, lambda name: hub.find(name, [SAFE]), lambda name: hub.fetch(name, [SAFE])):
        with pytest.raises(ModelError, match="can't be the name of a model on the hub"):
            call(name)
    assert not hub.answers(name)
    assert server.requests == []


# what is refused


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


# no network


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
    monkeypatch.setattr(hub, "_PATIENCE_S", 0.5)
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


# does the hub answer?


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
    monkeypatch.setattr(hub, "_PATIENCE_S", 0.5)
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


# the disk


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


# what a person sees

SHOWING = f"from mmsearch.spaces import hub; hub.fetch({CLIP!r}, [{SAFE!r}])"


def test_a_download_writes_nothing_where_no_person_looks(server: FakeHub) -> None:
    server.misbehave(Fault(status=503, times=1), name=SAFE, method="HEAD")  # the library would tell of it
    done = subprocess.run([sys.executable, "-c", SHOWING], capture_output=True, cwd=REPOSITORY, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of its own")
@pytest.mark.parametrize("off", [False, True])
def test_a_download_shows_how_far_it_is_on_a_terminal_unless_that_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, off: bool
) -> None:
    import pty
    import termios

    if off:
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 120))
    try:
        done = subprocess.run(
            [sys.executable, "-c", SHOWING],
            stdout=subprocess.PIPE,
            stderr=theirs,
            cwd=REPOSITORY,
            check=True,
            timeout=60,
        )
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 100_000).decode()
        except BlockingIOError:
            shown = ""
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == b""
    assert (SAFE[-20:] in shown, "100%" in shown) == (not off, not off), shown
