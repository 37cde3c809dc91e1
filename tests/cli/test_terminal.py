"""Names and words of strangers on a terminal, and what the exit codes mean."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run
from rich.console import Console
from support.media_maker import encoded, plain, put

import mmsearch
from mmsearch import Failure, Progress, Stage
from mmsearch.cli import hits, program, reports, streams
from mmsearch.cli.progress import progress_bar
from mmsearch.errors import one_line, why
from mmsearch.printable import printable
from mmsearch.types import Answer, Hit, IndexReport, Modality, View

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names and terminals as POSIX systems have them")

HOSTILE = (
    b"\x1b[31mred",
    b"\x1b]0;title\x07",
    b"\x9b31m",
    b"\xc2\x9b31m",
    "\u202egpj.exe".encode(),
    "\u2066a\u2069".encode(),
    "zero\u200bwidth\ufeff".encode(),
    "line\u2028break".encode(),
    "\u3164".encode(),
    b"bell\x07back\x08",
    b"two\nlines",
    b"carriage\rreturn",
    b"[bold red]markup[",
    b"del\x7f",
)


def is_harmless(shown: str) -> bool:
    """Return whether nothing in a text steers a terminal, turns the direction of writing, or can't be seen."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn") for c in shown) and (
        "\u3164" not in shown
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_printed_so_that_it_can_be_seen(name: bytes) -> None:
    shown = printable(os.fsdecode(name))
    assert is_harmless(shown)
    assert len(shown) >= len(os.fsdecode(name))


def test_every_character_that_cannot_be_seen_is_escaped() -> None:
    whole = "".join(map(chr, range(sys.maxunicode + 1)))
    assert is_harmless(printable(whole))
    assert printable("Příliš žluťoučký 猫 🐈") == "Příliš žluťoučký 猫 🐈"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for n, name in enumerate(HOSTILE):
        put(folder, name + b".png", encoded(plain((200, n, n)), "PNG"))
        put(folder, name + b".txt", b"red " + name.replace(b"\n", b" "))
        put(folder, b"broken " + name + b".jpg", b"broken %d" % n)
    with mmsearch.open(folder / "library", model="hashing") as made:
        assert made.index(folder).added == len(HOSTILE)
    return folder / "library"


def on_a_terminal(*arguments: str | Path, code: int = 0) -> str:
    """Run mmsearch on a pseudo-terminal and return all it wrote."""
    ours, theirs = pty.openpty()
    modes = termios.tcgetattr(theirs)
    modes[1] &= ~termios.OPOST  # so that ends of lines arrive as they were written
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "400", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "mmsearch", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == code
    return written.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "red", "-k", "50", "--all", "--paths"),
        ("query", "red", "-k", "50", "--all", "-0"),
        ("query", "red", "-k", "50", "--all"),
        ("query", "red", "-k", "50", "--all", "--explain"),
        ("query", "red", "-k", "50", "--all", "--json"),
        ("status",),
    ],
    ids=" ".join,
)
def test_no_command_lets_a_name_steer_the_terminal(library: Path, arguments: tuple[str, ...]) -> None:
    shown = on_a_terminal(*arguments, "--library", library)
    assert shown.count("[31mred") >= 1
    assert is_harmless(shown.replace("\n", "").replace("\0", ""))


def test_an_index_run_says_failures_without_being_steered(library: Path, tmp_path: Path) -> None:
    shown = on_a_terminal("index", library.parent, "--library", tmp_path / "other", "--model", "hashing")
    assert "failed in" in shown
    drawn = (c for c in shown if c not in "\n\r\x1b")  # the bar moves the cursor
    assert is_harmless("".join(drawn))
    assert "\x1b[31m" not in shown
    assert "\x1b]0" not in shown


def test_into_a_pipe_paths_are_the_bytes_that_the_system_knows(library: Path) -> None:
    command = [sys.executable, "-m", "mmsearch", "query", "red", "-k", "50", "--all", "-0", "--library", str(library)]
    done = subprocess.run(command, capture_output=True, check=True)
    names = {os.path.basename(path) for path in done.stdout.split(b"\0") if path}  # noqa: PTH119  bytes
    assert names == {name + b".png" for name in HOSTILE}
    assert all(os.path.exists(path) for path in done.stdout.split(b"\0") if path)  # noqa: PTH110


@pytest.mark.parametrize("name", ["[red]x.mp4", "[@click=bell]x.mp4", "[link=file:x]y.mp4", "[b] :smile:.mp4"])
def test_the_name_of_a_file_is_no_markup_of_the_progress_bar(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=shown, width=300, force_terminal=True, color_system=None)
    )
    with progress_bar(quiet=False) as progress:
        assert progress is not None
        progress(Progress(1, 2, 0, "decode", Path(name), 3.0))
    assert name in shown.getvalue()


def a_hit(**fields: object) -> Hit:
    values: dict[str, object] = {
        "rank": 1, "score": 1.0, "confidence": None, "path": Path("a.mp4"), "modality": Modality.VIDEO,
        "view": View.VISUAL, "start_s": None, "end_s": None, "text": None, "space": "mini",
    }  # fmt: skip
    return Hit(**{**values, **fields})  # type: ignore[arg-type]


def test_words_that_hits_carry_are_shown_without_their_steering(capsys: pytest.CaptureFixture[str]) -> None:
    hits.show_hits(Answer([a_hit(text="caption \u202e\x1b[31m \u2067x")], hidden=0, weak=0))
    assert is_harmless(capsys.readouterr().out.replace("\n", "").replace("\t", ""))


@pytest.mark.parametrize("end_s", [float("inf"), float("nan")])
def test_times_that_are_no_numbers_break_no_table(end_s: float, capsys: pytest.CaptureFixture[str]) -> None:
    hits.show_hits(Answer([a_hit(start_s=1.0, end_s=end_s)], hidden=0, weak=0))
    assert "00:01-?" in capsys.readouterr().out


def test_json_is_ascii_whatever_a_failure_says(capsys: pytest.CaptureFixture[str]) -> None:
    failures = tuple(Failure(Path(os.fsdecode(name)), Stage.DECODE, os.fsdecode(name)) for name in HOSTILE)
    reports.show_report(IndexReport(failures=failures), 0, as_json=True)
    said = capsys.readouterr().out
    assert said.isascii()
    assert is_harmless(said.strip())
    assert [failure["path"] for failure in json.loads(said)["failures"]] == [os.fsdecode(name) for name in HOSTILE]


def test_what_libraries_log_can_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    streams.prepare_streams()
    logging.getLogger("a.library").error("can't read %s", "\x1b[31mred\u202e")
    logging.getLogger("mmsearch").info("loading %s", "\x1b[31mred")
    assert is_harmless(capsys.readouterr().err.replace("\n", ""))


def test_words_of_a_decoder_are_one_line_that_can_be_seen() -> None:
    assert is_harmless(one_line(ValueError("bad\n\x1b[31m tag \u202e")))


# Exit codes


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException | int]]:
    """What the command line does instead of a command: raise this, or return that."""
    told: list[BaseException | int] = []

    def app(**_: object) -> int:
        if isinstance(told[0], BaseException):
            raise told[0]
        return told[0]

    monkeypatch.setattr(program, "app", app)
    yield told


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (SystemExit("no such device"), 2, "no such device"),
        (SystemExit(1), 2, "exit code 1"),
        (SystemExit(77), 2, "exit code 77"),
        (SystemExit(None), 0, ""),
        (SystemExit(0), 0, ""),
        (MemoryError(), 2, "memory is used up"),
        (OSError(28, "No space left on device", "x"), 2, "x: no space left on device; make room"),
        (OSError(24, "Too many open files", b"\xff"), 2, "open files (ulimit -n)"),
        (PermissionError(13, "Permission denied", "x"), 2, "check its permissions"),
        (KeyError("x"), 2, "unexpected KeyError"),
        (KeyboardInterrupt(), 130, ""),
        (1, 1, ""),
        (0, 0, ""),
    ],
    ids=repr,
)
def test_one_means_that_nothing_was_found_and_two_any_failure(
    command: list[BaseException | int],
    raised: BaseException | int,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command.append(raised)
    assert program._run() == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == (1 if said else 0)


def test_a_traceback_is_shown_escaped_and_the_code_stays_two(
    command: list[BaseException | int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMSEARCH_DEBUG", "1")
    command.append(KeyError("\x1b[31m"))
    assert program._run() == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert is_harmless(err.replace("\n", ""))


def test_a_failure_that_nobody_can_read_still_ends_with_two(tmp_path: Path) -> None:
    command = f"{sys.executable} -m mmsearch status --library {tmp_path / 'none'}"
    done = subprocess.run(["bash", "-c", f"{command} 2>&1 >/dev/null | true; exit ${{PIPESTATUS[0]}}"], check=False)
    assert done.returncode == 2


def test_a_full_disk_behind_stdout_is_a_failure(run: Run, library: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    line = f"{sys.executable} -m mmsearch status --library {library} > /dev/full"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, "make room" in done.stderr) == (2, True)


def test_the_remedy_is_for_what_is_wrong() -> None:
    assert why(OSError(24, "Too many open files")) == "too many open files; raise the limit of open files (ulimit -n)"
    assert why(OSError(5, "Input/output error")) == "input/output error; check the disk"
    assert why(OSError(2, "No such file or directory"), "look elsewhere").endswith("; look elsewhere")


def test_what_libtiff_says_of_a_broken_file_reaches_no_terminal(tmp_path: Path) -> None:
    broken = encoded(plain((9, 9, 9)), "TIFF", compression="tiff_lzw")
    put(tmp_path, "media/a.tiff", broken[:8] + bytes(len(broken) // 2) + broken[8 + len(broken) // 2 :])
    put(tmp_path, "media/b.tiff", broken[: len(broken) // 2])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mmsearch",
            "index",
            tmp_path / "media",
            "--library",
            tmp_path / "l",
            "--model",
            "hashing",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.startswith("mmsearch: ") for line in done.stderr.splitlines())
