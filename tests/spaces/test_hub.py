"""Model files come from the hub whole, once, and of one commit, and a person sees how far they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from support.fake_hub import Asked, FakeHub, Fault
from support.hub_files import CLIP, CONFIG, FILES, PICKLED, SAFE, TOKENS, WEIGHTS
from support.hub_files import home as home
from support.hub_files import server as server

from mmsearch.errors import ModelError
from mmsearch.spaces import hub


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
