"""A library from elsewhere has no model loaded and no network used: only what the user named before is opened."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run
from sqlalchemy import create_engine, text
from support.adapted_maker import make_adapted
from support.fake_hub import FakeHub
from support.small_space import make_space, save, tower

import mmsearch
from mmsearch.catalog.checksums import checked
from mmsearch.catalog.schema import profile
from mmsearch.errors import LinkError, ModelError
from mmsearch.folder import CATALOG
from mmsearch.spaces import approval, for_indexing, load_profile, pull_model, trial
from mmsearch.spaces import cache as exports
from mmsearch.spaces.cache import find_export
from mmsearch.spaces.places import approval_file, cache_folder

STATE = "0123456789abcdef"
FOREIGN = (
    "hf-hub:anybody/anything",
    f"hf-hub:anybody/anything#{STATE}",
    "local-dir:/nowhere/model",
    f"local-dir:/nowhere/model#{STATE}",
    f"ViT-B-32:/nowhere/checkpoint.pt#{STATE}",
    "ViT-B-32:/nowhere/checkpoint.pt",
    f"ViT-B-32/openai#{STATE}",
    "ViT-B-32/openai",
    "standard",
    "auto",
    "adapted:../../..",
    f"adapted:{STATE}",
    f"hf-hub:x/$(reboot);\x1b[2J#{STATE}",
    "",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return tmp_path / "cache"


@pytest.fixture
def nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where the network is asked, a process is started, or a path that a library names is looked at."""

    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"{arguments} is asked for")

    for name in ("stat", "lstat", "open", "listdir", "scandir"):
        known = getattr(os, name)

        def watched(path: object = ".", *arguments: object, known=known, **named: object) -> object:  # type: ignore[no-untyped-def]  # noqa: ANN001
            if isinstance(path, str | bytes | os.PathLike) and os.fsencode(path).startswith(b"/nowhere"):
                refuse(path)
            return known(path, *arguments, **named)

        monkeypatch.setattr(os, name, watched)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(exports, "load_towers", refuse)
    yield


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a note and a library of it."""
    folder = tmp_path_factory.mktemp("pattern")
    (folder / "notes").mkdir()
    (folder / "notes" / "note.txt").write_text("a red car")
    with mmsearch.open(folder / "library", model="hashing") as opened:
        opened.index(folder / "notes")
    return folder


@pytest.fixture
def library(pattern: Path, tmp_path: Path) -> Path:
    shutil.copytree(pattern, tmp_path, dirs_exist_ok=True)
    return tmp_path / "library"


def repin(library: Path, *pins: str) -> None:
    """Have a library name other models, as whoever made it might."""
    engine = create_engine(f"sqlite:///{library / CATALOG}")
    with engine.begin() as connection:
        connection.execute(
            text("update profile set name = :name, pins = :pins, checksum = :checksum"),
            checked(profile, {"name": pins[0], "pins": json.dumps(pins), "precision": ""}),
        )
    engine.dispose()
    (library / "catalog.seal").unlink(missing_ok=True)  # it holds a copy of what stood there


def named_by(library: Path, model: str | Path) -> None:
    """Make a library anew with a model that the user names."""
    shutil.rmtree(library)
    with mmsearch.open(library, model=model) as opened:
        opened.index(library.parent / "notes")


# What a library names


@pytest.mark.usefixtures("nothing_is_touched")
@pytest.mark.parametrize("pin", FOREIGN)
def test_a_model_that_a_library_names_is_neither_fetched_nor_looked_at(pin: str, library: Path) -> None:
    repin(library, pin)
    with mmsearch.open(library) as opened:
        for call in (
            lambda: opened.query("red car"),
            lambda: opened.index(library.parent / "notes"),
            lambda: opened.embed("red"),
            opened.outdated,
            opened.adapt,
        ):
            with pytest.raises(ModelError) as caught:
                call()
            assert "\n" not in str(caught.value)
        assert opened.status().segments == 1  # what can be said without the model is said
        assert len(opened.failures()) == 0


@pytest.mark.usefixtures("nothing_is_touched")
@pytest.mark.parametrize("pin", FOREIGN)
def test_nor_is_one_that_its_adapted_space_stands_on(pin: str, library: Path) -> None:
    folder = make_adapted(library / "adapted", "hashing")
    spec = json.loads((folder / "spec.json").read_bytes())
    for base in spec["towers"].values():
        base["pin"] = pin
    (folder / "spec.json").write_text(json.dumps(spec))
    repin(library, f"adapted:{folder.name}")
    with mmsearch.open(library) as opened, pytest.raises(ModelError):
        opened.query("red car")


@pytest.mark.parametrize("pins", [["hashing"] * 1000, ["x" * 100_000], [5], [["hashing"]]])
def test_pins_that_no_library_has_are_refused(pins: list[object]) -> None:
    with pytest.raises(ModelError, match="model has an invalid name"):
        load_profile("x", pins=pins)  # type: ignore[arg-type]


def test_the_message_can_be_copied_into_a_shell(library: Path) -> None:
    repin(library, f"local-dir:/x; touch y #{STATE}")
    with mmsearch.open(library) as opened, pytest.raises(ModelError, match=r"model pull 'local-dir:/x; touch y '"):
        opened.query("red car")


def test_the_command_line_says_it_in_one_line_and_exits_2(library: Path, run: Run) -> None:
    repin(library, f"hf-hub:anybody/any\x1b[2Jthing#{STATE}")
    with FakeHub({}) as hub:
        online = {**hub.environment(library / "hub"), "HF_HUB_OFFLINE": "0"}
        for command in (["query", "red car"], ["index", str(library.parent / "notes")], ["adapt"]):
            done = run(*command, library=library, cwd=None, **online)
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert "mmsearch model pull" in done.stderr
            assert "\x1b" not in done.stderr
        done = run("status", library=library, cwd=None, **online)
        assert done.returncode == 0, done.stderr
        assert "isn't ready on this machine" in done.stderr
        assert hub.requests == []


def test_an_own_space_is_not_reached_through_a_link(library: Path) -> None:
    folder = make_adapted(library.parent / "elsewhere", "hashing")
    (library / "adapted").mkdir()
    (library / "adapted" / folder.name).symlink_to(folder)
    repin(library, f"adapted:{folder.name}")
    with mmsearch.open(library) as opened, pytest.raises((ModelError, LinkError), match=r"is a link|there is no space"):
        opened.query("red car")


# Folders that the user names


def test_a_folder_that_the_user_named_is_opened_for_any_library_then(library: Path, tmp_path: Path) -> None:
    folder = make_space(tmp_path / "model")
    named_by(library, folder)
    with mmsearch.open(library) as opened:
        assert opened.query("red car")[0].path.name == "note.txt"
    shutil.rmtree(cache_folder())
    with mmsearch.open(library) as opened:
        with pytest.raises(ModelError, match=f"run 'mmsearch model pull local-dir:{folder}'"):
            opened.query("red car")
        list(pull_model(str(folder)))
        assert opened.query("red car")[0].path.name == "note.txt"


def test_a_folder_is_tried_once_and_again_only_where_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_space(tmp_path / "model")
    name, tried = f"local-dir:{folder}", list[Path]()

    def note(folder: Path) -> set[Path]:
        tried.append(folder)
        return set()

    monkeypatch.setattr(trial, "try_folder", note)
    load_profile(name)
    load_profile(name)
    load_profile(name, pins=(name,))
    assert tried == [folder]
    os.utime(folder / "text.onnx")  # its time alone
    load_profile(name, pins=(name,))
    load_profile(name)
    assert tried == [folder]
    save(tower("text", dim=4), folder / "image.onnx")
    with pytest.raises(ModelError, match=f"has changed since you last used it.*model pull {folder}"):
        load_profile(name, pins=(name,))
    load_profile(name)
    assert tried == [folder, folder]


@pytest.mark.parametrize("file", ["spec.json", "text.onnx", "tokenizer.json"])
def test_a_file_that_became_another_is_not_loaded_for_a_library(file: str, tmp_path: Path) -> None:
    folder = make_space(tmp_path / "model")
    name = f"local-dir:{folder}"
    profile = load_profile(name)
    content, times = (folder / file).read_bytes(), (folder / file).stat()
    (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(folder / file, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time say nothing
    with pytest.raises(ModelError, match="has changed since you last used it"):
        load_profile(profile.name, pins=profile.pins)
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=r"has changed since|isn't a model's folder any more"):
        load_profile(profile.name, pins=profile.pins)


@pytest.mark.parametrize("record", [b"", b"[]", b"{", b'{"files": 5}', b'{"files": {"../x": {}}}', None])
def test_a_record_that_makes_no_sense_approves_nothing(record: bytes | None, tmp_path: Path) -> None:
    folder = make_space(tmp_path / "model")
    name = f"local-dir:{folder}"
    load_profile(name)
    if record is None:  # that of another folder
        other = make_space(tmp_path / "other")
        load_profile(f"local-dir:{other}")
        shutil.copy(approval_file(f"local-dir:{other}"), approval_file(name))
    else:
        approval_file(name).write_bytes(record)
    with pytest.raises(ModelError, match="isn't ready on this machine"):
        load_profile(name, pins=(name,))


def test_a_cache_that_cannot_be_written_is_said_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: Path, _content: bytes) -> None:
        raise OSError(30, "Read-only file system", str(file))

    monkeypatch.setattr(approval, "write_whole", refuse)
    assert load_profile(make_space(tmp_path / "model")).spaces
    assert "so a query will not use this model; fix that, or set MMSEARCH_CACHE" in caplog.text


def test_a_trial_runs_nothing_from_the_folder_that_the_user_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mmsearch", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("open('trapped', 'w')")
    monkeypatch.chdir(tmp_path)
    assert trial.try_folder(make_space(tmp_path / "model")) == set()
    assert not (tmp_path / "trapped").exists()


def test_a_model_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "CPU_S", 0.001)
    with pytest.raises(ModelError, match="it takes too long"):
        trial.try_folder(make_space(tmp_path / "model"))


# Exports


def test_an_export_that_is_gone_is_not_made_again_for_a_library(library: Path, tmp_path: Path) -> None:
    from support.small_clip import make_clip  # brings torch and open_clip, which no other test needs

    folder = make_clip(tmp_path / "clip")
    named_by(library, folder)
    shutil.rmtree(cache_folder())
    remedy = (
        f"model local-dir:{folder} isn't ready on this machine; if you trust it, run 'mmsearch model pull local-dir"
    )
    with mmsearch.open(library) as opened:
        (library.parent / "notes" / "more.txt").write_text("a green hat")
        for call in (lambda: opened.query("red car"), lambda: opened.index(library.parent / "notes")):
            with pytest.raises(ModelError, match=remedy):
                call()
        assert opened.index(library.parent / "notes", model=folder).added == 1
        assert opened.query("red car")
    profile = load_profile(f"local-dir:{folder}")
    damaged = find_export(profile.name)
    assert damaged is not None
    weights = bytearray((damaged / "text.bin").read_bytes())
    weights[len(weights) // 2] ^= 255
    (damaged / "text.bin").write_bytes(weights)
    with pytest.raises(ModelError, match="are damaged in the cache; run 'mmsearch model pull"):
        for_indexing(load_profile(profile.name, pins=profile.pins), "cpu")
    for_indexing(profile, "cpu")  # the user names it: it's made again
    assert for_indexing(load_profile(profile.name, pins=profile.pins), "cpu").key == profile.key
