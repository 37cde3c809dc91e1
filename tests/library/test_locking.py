"""The lock of a library: who is told what, how long it takes, and what is never written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmsearch import locking
from mmsearch.catalog import opening
from mmsearch.errors import LibraryError, LockedError
from mmsearch.locking import BRIEF, LOCK, holder_of, identity_of, write_lock


@contextmanager
def held(folder: Path, command: str) -> Iterator[int]:
    """Let another process hold the lock; gives its id."""
    code = (
        "import sys, pathlib; from mmsearch.locking import write_lock\n"
        "with write_lock(pathlib.Path(sys.argv[1]), command=sys.argv[2]): print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(folder), command]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate("")


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long the lock has slept: no test waits for it."""
    slept = [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: slept[0])
    return slept


def test_whoever_finds_it_taken_is_told_by_whom_and_at_once(tmp_path: Path, waited: list[float]) -> None:
    with held(tmp_path, "index") as pid:
        with (
            pytest.raises(
                LockedError, match=rf"^PID {pid} \(mmsearch index, since \d\d:\d\d\) is writing to "
            ) as caught,
            write_lock(tmp_path),
        ):
            pass
        assert "\n" not in str(caught.value)
        assert 0 < waited[0] < 1
    with write_lock(tmp_path, 0.0):
        pass


def test_a_query_that_writes_is_waited_for(tmp_path: Path, waited: list[float]) -> None:
    with held(tmp_path, BRIEF), pytest.raises(LockedError), write_lock(tmp_path):
        pass
    assert waited[0] >= 1


def test_a_holder_is_known_while_it_holds_and_not_after(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with write_lock(tmp_path, command="adapt"):
        holder = holder_of(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.command) == (os.getpid(), "adapt")
        with pytest.raises(LockedError, match=f"PID {os.getpid()}"), write_lock(tmp_path, 0.0):
            pass
    assert holder_of(tmp_path) is None
    assert (tmp_path / LOCK).read_bytes() == b""


@pytest.mark.parametrize(
    "content",
    [b"my own notes", b"\n{}", b"\n[[[", b'\n{"pid": 1}', b"\n" + b"[" * 10_000, bytes(3_000)],
)
def test_a_file_of_that_name_that_is_somebody_elses_is_never_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with write_lock(tmp_path, command="index"):
        assert holder_of(tmp_path) is None
        with pytest.raises(LockedError, match=r"^another process is writing"), write_lock(tmp_path, 0.0):
            pass
    assert (tmp_path / LOCK).read_bytes() == content


@pytest.mark.parametrize(
    "said", [{"command": "\x1b[2J"}, {"host": "a\nb"}, {"since": 1e300}, {"pid": "1"}, {"command": None}, {"since": 3}]
)
def test_what_a_lock_file_says_cannot_steer_the_terminal(tmp_path: Path, said: dict[str, object]) -> None:
    record = {"pid": 1, "host": "h", "command": "index", "since": 1.0} | said
    (tmp_path / LOCK).write_text("\n" + json.dumps(record))
    assert holder_of(tmp_path) is None


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_hard_link_to_a_file_of_the_user_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")
    os.link(tmp_path / "mine", tmp_path / LOCK)
    with write_lock(tmp_path, command="index"):
        assert (tmp_path / "mine").read_bytes() == b""


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_linked_lock_is_refused_and_what_it_names_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    for target in (tmp_path / "mine", tmp_path / "missing", Path("/dev/zero")):
        (tmp_path / LOCK).symlink_to(target)
        with pytest.raises(LibraryError, match=r"write\.lock is a link"), write_lock(tmp_path):
            pass
        (tmp_path / LOCK).unlink()
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "missing").exists()


def test_a_file_system_without_locks_is_not_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking, "_lock", refuse)
    said = r"doesn't support locks .*keep the library on another disk"
    with pytest.raises(LibraryError, match=said) as caught, write_lock(tmp_path):
        pass
    assert not isinstance(caught.value, LockedError)


def test_a_folder_that_was_moved_or_replaced_is_not_locked(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    identity = identity_of(folder)
    folder.rename(tmp_path / "moved")
    for _ in range(2):
        said = "was moved or deleted while it was open"
        with pytest.raises(LibraryError, match=said), write_lock(folder, identity=identity):
            pass
        folder.mkdir(exist_ok=True)  # another one of that name
    assert list(folder.iterdir()) == []


def test_the_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from mmsearch.locking import write_lock\n"
        "with write_lock(pathlib.Path(sys.argv[1]), command='index'): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    assert holder_of(tmp_path) is not None  # its word still stands there
    with write_lock(tmp_path, 0.0, command="forget"):
        holder = holder_of(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()


# Which folder is full


@pytest.mark.skipif(os.name == "nt", reason="SQLite finds its temporary folder otherwise there")
def test_a_full_folder_for_temporary_files_is_not_blamed_on_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "temporary"))
    free = {str(tmp_path / "temporary"): 0, str(tmp_path): 2**40}
    monkeypatch.setattr(opening, "_free", lambda folder: free[str(folder)])
    for reason in ("database or disk is full", "disk I/O error"):
        assert opening._remedy(reason, tmp_path / "catalog.sqlite").startswith(
            f"the folder for temporary files, {tmp_path / 'temporary'}, is full"
        )
    free[str(tmp_path)] = 0
    assert opening._remedy("database or disk is full", tmp_path / "catalog.sqlite").startswith("free some space")
