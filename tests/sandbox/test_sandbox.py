"""The sandbox: files that ask or are indexed take no more than their share of memory and time, and end with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, children
from support.media_maker import encoded, noise, png_chunk, put
from support.processes import has_begun
from support.traps import TrapSpace

import mmsearch
from indexer.changes import look_at
from indexer.executors.decoding import decode_all
from indexer.plan import Task
from mmsearch import Limits, MediaError, Settings
from mmsearch.memory import is_short
from mmsearch.sandbox.budget import Budget
from mmsearch.sandbox.channel import Model, Ready
from mmsearch.sandbox.channel import Task as WorkerTask
from mmsearch.sandbox.keeper import Job, Needs
from mmsearch.sandbox.pool import Sandbox
from mmsearch.sandbox.process import WorkerProcess
from mmsearch.sandbox.work import PreparedContent, Request
from mmsearch.search.items import read_items
from mmsearch.spaces import Profile
from mmsearch.types import Failure, View

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")

TRAP = Profile("trap", (TrapSpace(),))
ENDS = {("trap", View.TEXT): TRAP.spaces[0].front_ends[View.TEXT]}


def ask(folder: Path, words: str, limits: Limits) -> None:
    """Ask with a file that holds these words."""
    read_items([put(folder, "asked.txt", words)], TRAP, limits, limits.query_s)


def decoded(folder: Path, texts: list[str], settings: Settings) -> list[PreparedContent | Failure]:
    """Decode texts in an index run's way."""
    entries = [look_at(os.fsencode(put(folder, f"{n}.txt", text)), ()) for n, text in enumerate(texts)]
    tasks = [Task(entry, str(n).encode(), known_path=False) for n, entry in enumerate(entries) if entry is not None]
    return [outcome for _, outcome in decode_all(tasks, ENDS, settings, lambda: False)]


def reasons(outcomes: list[PreparedContent | Failure]) -> list[str]:
    return [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Watch what all child processes hold together, in bytes: what is shared counts in parts."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], float(sum(map(proportional_bytes, children()))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def proportional_bytes(process_id: int) -> int:
    if not has_begun(process_id):
        return 0
    try:
        rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 15
    while any(is_alive(process) for process in processes):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.02)


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Files that ask


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("spin", "more than 2 s"),
        ("block", "more than 2 s"),
        ("leave", "crashed"),
        ("segfault", "crashed .SIGSEGV."),
        ("die", "was killed, most likely because memory ran out"),
        ("swallow", "more than 0.2 GB of memory"),
    ],
)
def test_a_hostile_file_that_asks_ends_in_one_line(tmp_path: Path, words: str, reason: str) -> None:
    limits = Limits(run_bytes=200_000_000, query_s=2)
    with pytest.raises(MediaError, match=reason) as raised:
        ask(tmp_path, words, limits)
    assert str(raised.value).startswith(f"{tmp_path / 'asked.txt'}: ")
    assert "\n" not in str(raised.value)
    ask(tmp_path, "a harmless note", limits)


def test_a_bomb_on_the_command_line_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    put(tmp_path, "note.txt", "a note")
    assert run("index", tmp_path / "note.txt", "--model", "mini", library=tmp_path / "lib").returncode == 0
    side = 16_000
    row = bytes(2 * side + 1)
    header = side.to_bytes(4, "big") * 2 + bytes([16, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    body = b"".join([*(packer.compress(row * 100) for _ in range(side // 100)), packer.flush()])
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    asked = run("query", str(put(tmp_path, "bomb.png", bomb)), library=tmp_path / "lib")
    assert asked.returncode == 2
    assert asked.stdout == ""
    (line,) = asked.stderr.splitlines()
    assert "bomb.png: " in line
    assert "16000 x 16000 pixels are more than 250 million" in line


def test_a_file_asks_from_any_thread_and_several_at_a_time(tmp_path: Path) -> None:
    photos = [put(tmp_path, f"{n}.png", encoded(noise(n), "PNG")) for n in range(4)]
    with mmsearch.open(tmp_path / "lib", model="hashing") as library:
        library.index(*photos)
        first: dict[Path, Path] = {}
        threads = [
            threading.Thread(target=lambda photo=photo: first.update({photo: library.query(photo, k=1)[0].path}))
            for photo in photos
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert first == {photo: photo for photo in photos}


def test_a_script_without_a_main_guard_asks_indexes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    photo = put(tmp_path, "photo.png", encoded(noise(1), "PNG"))
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        import mmsearch
        before, main = dict(os.environ), sys.modules["__main__"]
        library = mmsearch.open({str(tmp_path / "lib")!r}, model="hashing")
        print(library.index({str(photo)!r}).added)
        print(library.query(Path({str(photo)!r}))[0].path)
        print(mmsearch.embed(Path({str(photo)!r}), model="hashing").shape)
        assert (before, main) == (dict(os.environ), sys.modules["__main__"])
        """)
    )
    process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert process.stdout.splitlines()[:2] == ["1", str(photo)]
    assert process.stderr == ""


def test_a_program_that_forks_asks_with_files_on_both_sides(tmp_path: Path) -> None:
    photo = put(tmp_path, "photo.png", encoded(noise(1), "PNG"))
    code = textwrap.dedent(f"""
        import os
        from pathlib import Path
        import mmsearch
        photo = Path({str(photo)!r})
        mmsearch.embed(photo, model="hashing")
        child = os.fork()
        mmsearch.embed(photo, model="hashing")
        if child:
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """)
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# Memory


def test_eight_workers_stay_within_the_memory_of_a_run(tmp_path: Path) -> None:
    settings = Settings(workers=8, limits=Limits(run_bytes=200_000_000))
    with peak_memory() as idle:
        decoded(tmp_path / "idle", [f"need 1 {n}" for n in range(16)], settings)
    with peak_memory() as peak:
        outcomes = decoded(tmp_path / "busy", [f"need 150 {n}" for n in range(8)], settings)
    assert reasons(outcomes) == []
    assert len(outcomes) == 8
    assert peak[0] < idle[0] + 250_000_000


def test_pictures_that_need_more_than_an_equal_share_wait_for_it(tmp_path: Path) -> None:
    photos = [put(tmp_path, f"{n}.png", encoded(noise(n).resize((2000, 2000)), "PNG")) for n in range(3)]
    settings = Settings(workers=4, limits=Limits(run_bytes=60_000_000))
    with mmsearch.open(tmp_path / "lib", model="hashing", settings=settings) as library:
        report = library.index(*photos)
    assert (report.added, report.failures) == (3, ())


def test_a_decoder_that_crashes_for_want_of_memory_is_tried_again_with_all_there_is(tmp_path: Path) -> None:
    settings = Settings(workers=4, limits=Limits(run_bytes=200_000_000))
    outcomes = decoded(tmp_path, ["abort 100", "abort 1000"], settings)
    assert isinstance(outcomes[0], PreparedContent)
    assert len(reasons(outcomes)) == 1


def test_want_of_memory_is_never_called_damage(tmp_path: Path) -> None:
    (reason,) = reasons(decoded(tmp_path, ["swallow"], Settings(workers=2)))
    assert "needs more than 1.5 GB of memory" in reason
    assert "damaged" not in reason


def test_results_that_nobody_takes_hold_up_further_files(tmp_path: Path) -> None:
    sandbox = Sandbox(2, Limits())
    needs = Needs.of(ENDS, Limits())
    files = [put(tmp_path, f"{n}.txt", f"give 30 {n}") for n in range(8)]
    futures = [sandbox.submit(Job(Request(os.fsencode(file)), needs, 60.0)) for file in files]
    for future in futures[:3]:
        future.exception()
    time.sleep(0.5)
    assert sum(future.done() for future in futures) <= 4
    assert [sandbox.take(future).bytes for future in futures] == [30_000_000] * 8
    sandbox.close()


def test_who_asks_for_much_is_not_passed_by_those_who_ask_for_little() -> None:
    budget, order = Budget(100), list[str]()
    first = budget.part(60)
    first.__enter__()

    def take(name: str, wanted: int) -> None:
        with budget.part(wanted):
            order.append(name)

    threads = []
    for name, wanted in (("much", 90), ("little", 20)):
        threads.append(threading.Thread(target=take, args=(name, wanted)))
        threads[-1].start()
        time.sleep(0.1)
    assert order == []
    first.__exit__(None, None, None)
    for thread in threads:
        thread.join()
    assert order == ["much", "little"]


def test_outside_of_a_sandbox_nothing_is_short_of_memory() -> None:
    assert not is_short(MemoryError())


# The end of workers


def test_a_worker_killed_once_costs_no_file(tmp_path: Path) -> None:
    (outcome,) = decoded(tmp_path, [f"die once {tmp_path / 'mark'}"], Settings(workers=2))
    assert isinstance(outcome, PreparedContent)


def test_a_worker_that_is_always_killed_is_not_called_damage(tmp_path: Path) -> None:
    (reason,) = reasons(decoded(tmp_path, ["die"], Settings(workers=2)))
    assert "was killed, most likely because memory ran out" in reason
    assert "damaged" not in reason


@pytest.mark.parametrize("words", ["hang", "block"])
def test_workers_end_with_a_killed_parent_whatever_they_do(tmp_path: Path, words: str) -> None:
    note = put(tmp_path, "note.txt", words)
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from pathlib import Path
        from mmsearch import Limits
        from mmsearch.spaces import Profile
        from mmsearch.search.items import read_items
        from support.traps import TrapSpace
        print("asking", flush=True)
        read_items([Path({str(note)!r})], Profile("trap", (TrapSpace(),)), Limits())
        """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        while not (workers := children(parent.pid)) or busy_s(workers[0]) < 0.1:
            time.sleep(0.05)
        time.sleep(0.5)
        parent.kill()
    wait_until_gone(workers)


def busy_s(process_id: int) -> float:
    ticks = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[11]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def test_a_worker_ends_with_its_channel_where_the_system_has_no_other_way(tmp_path: Path) -> None:
    worker = WorkerProcess()
    worker.channel.send(Model(Needs.of(ENDS, Limits()).pickled))
    worker.channel.receive()
    request = Request(os.fsencode(put(tmp_path, "note.txt", "hang")))
    worker.channel.send(WorkerTask(request, 10**9, 10**9))
    worker.channel.close()
    wait_until_gone([worker.id])
    assert worker.end() == 0


def test_no_process_is_left_when_a_run_is_given_up(tmp_path: Path) -> None:
    files = [put(tmp_path, f"{n}.txt", "hang") for n in range(3)]
    sandbox = Sandbox(2, Limits())
    for file in files:
        sandbox.submit(Job(Request(os.fsencode(file)), Needs.of(ENDS, Limits()), 60.0))
    while len(sandbox.process_ids) < 2:
        time.sleep(0.02)
    workers = sandbox.process_ids
    sandbox.close()
    assert not any(is_alive(worker) for worker in workers)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_ctrl_c_is_not_for_workers(tmp_path: Path) -> None:
    sandbox = Sandbox(1, Limits())
    needs = Needs.of(ENDS, Limits())
    job = Job(Request(os.fsencode(put(tmp_path, "a.txt", "need 1 0"))), needs, 60.0)
    sandbox.take(sandbox.submit(job))
    (worker,) = sandbox.process_ids
    os.kill(worker, signal.SIGINT)
    sandbox.take(sandbox.submit(job))
    assert sandbox.process_ids == [worker]
    sandbox.close()


def test_starting_workers_changes_nothing_of_a_process_with_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, environment = sys.modules["__main__"], dict(os.environ)
    seen: set[bool] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.add(sys.modules["__main__"] is main and dict(os.environ) == environment)

    def refuse(*_: object) -> None:
        raise AssertionError("a worker is started by a change of the whole process")

    watcher = threading.Thread(target=watch)
    with monkeypatch.context() as patch:
        patch.setattr(type(os.environ), "__setitem__", refuse)
        patch.setattr(type(os.environ), "__delitem__", refuse)
        watcher.start()
        outcomes = decoded(tmp_path, ["a note", "another one"], Settings(workers=2))
        done.set()
        watcher.join()
    assert reasons(outcomes) == []
    assert seen == {True}


def test_a_variable_that_vanishes_while_a_worker_starts_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanishing(dict[str, str]):
        """Loses a variable as soon as its name was read, as another thread may do."""

        def __iter__(self) -> Iterator[str]:
            names = list(super().__iter__())
            self.pop("GONE", None)
            return iter(names)

    monkeypatch.setattr("mmsearch.sandbox.process.os.environ", Vanishing(os.environ, GONE="soon"))
    process = WorkerProcess()
    try:
        process.channel.send(Model(Needs.of(ENDS, Limits()).pickled))
        assert isinstance(process.channel.receive(), Ready)
    finally:
        process.end()


def test_asking_with_the_same_file_gives_the_same_vector(tmp_path: Path) -> None:
    photo = put(tmp_path, "photo.png", encoded(noise(1), "PNG"))
    first, again = mmsearch.embed([photo, photo], model="hashing")
    assert np.array_equal(first, again)
