"""Runs the command line in a forked copy of this process, with a fault or without.

Everything is imported once, in the process that forks: so a case costs a tenth of a second instead of two. Files are
decoded in the process itself and not in workers, so that all of a run's writing happens where the fault is.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import typer
from shim import Fault, arm, disarm
from sqlalchemy import Engine
from support.clip_maker import LOW, sound_bytes
from support.media_maker import RED, encoded, plain, put

from indexer import executors
from indexer.executors.inline import InlineExecutor
from mmsearch.cli import program
from mmsearch.cli.app import app

TIMEOUT_S = 60.0
HEAVY = ("torch", "open_clip", "transformers", "huggingface_hub")
MOST_BYTES = 6 * 2**30
"""The address space of a fork, so that one that takes memory without end doesn't take the machine's."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one command came to."""

    code: int
    out: str
    err: str
    loaded: str
    """Which of the libraries that no query needs were imported."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a forked process: its commands so far, the signal that ended it, and what the shim saw."""

    said: tuple[Said, ...]
    signal: int
    trace: str
    fired: bool
    hung: bool
    cpu_s: float
    peak_bytes: int


class _Left(BaseException):
    """Stands for `os._exit`, so that several commands may run in one process."""


def decode_inline() -> None:
    """Let index runs of this process and its forks decode by themselves."""
    vars(executors)["make_executor"] = InlineExecutor


def build_once() -> None:
    """Let the command line be built once, and not by every fork."""
    command = typer.main.get_command(app)
    vars(program)["app"] = lambda **options: command.main(**options)


def warm_up(folder: Path) -> None:
    """Run the commands once in this very process, so that its forks find everything imported."""
    put(folder, "media/red.png", encoded(plain(RED), "PNG"))
    put(folder, "media/low.wav", sound_bytes([(LOW, 0.2)], 8_000))
    put(folder, "media/many.txt", "\n\n".join(f"Note {number}." for number in range(120)))
    os.environ["MMSEARCH_CACHE"] = str(folder / "cache")
    library = ("--library", str(folder / "library"), "--json")
    kept = [(standard, os.dup(standard)) for standard in (1, 2)]
    for arguments in (
        ("index", str(folder / "media"), "--model", "hashing", *library),
        ("query", "red", *library),
        ("status", *library),
        ("forget", str(folder / "media"), *library[:2]),
        ("model", "list"),
    ):
        said, _, _ = _command(arguments, None, ())
        assert said.code == 0, (arguments, said)
    for standard, saved in kept:
        os.dup2(saved, standard)
        os.close(saved)
    gc.collect()
    gc.freeze()  # a fork that collects garbage would copy every page that it looks at


def share_statements() -> None:
    """Let every engine use the statements that another has compiled: half of what a small command takes."""
    shared: list[Engine] = []
    make = Engine.__init__

    def begin(self: Engine, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  SQLAlchemy's own signature
        make(self, *arguments, **options)
        if shared:
            self.dialect, self._compiled_cache = shared[0].dialect, shared[0]._compiled_cache
        else:
            shared.append(self)

    Engine.__init__ = begin  # type: ignore[method-assign]


def fork(
    commands: Sequence[Sequence[str]], *, fault: Fault | None = None, roots: Sequence[Path] = (), cache: Path
) -> Ended:
    """Run commands one after the other in a forked process and return what became of it; a fault meets the first."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(commands, fault, roots, cache, writing)
    os.close(writing)
    raw, hung = _read(reading, child)
    _, status, usage = os.wait4(child, 0)
    lines = [json.loads(line) for line in raw.splitlines() if line.endswith(b"}")]
    said = tuple(Said(*line["said"]) for line in lines)
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    shown: dict[str, Any] = lines[0] if lines else {"trace": "", "fired": ended_by == signal.SIGKILL}
    cpu_s, peak_bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    return Ended(said, ended_by, shown["trace"], shown["fired"], hung, cpu_s, peak_bytes)


def _read(reading: int, child: int) -> tuple[bytes, bool]:
    """Read what the child writes until it ends; it is killed where that takes too long."""
    deadline, raw, hung = time.monotonic() + TIMEOUT_S, b"", False
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 and not hung:
                os.kill(child, signal.SIGKILL)
                hung = True
            if select.select([pipe], [], [], max(0.0, left) if not hung else 1.0)[0]:
                block = pipe.read(2**16)
                if not block:
                    return raw, hung
                raw += block


def _run(
    commands: Sequence[Sequence[str]], fault: Fault | None, roots: Sequence[Path], cache: Path, writing: int
) -> NoReturn:
    import resource  # Windows has none, and no fork

    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        os.environ["MMSEARCH_CACHE"] = str(cache)
        for number, command in enumerate(commands):
            met = fault if number == 0 else None
            said, trace, fired = _command(command, met, roots)
            shown = {"said": [said.code, said.out, said.err, said.loaded], "trace": trace, "fired": fired}
            os.write(writing, json.dumps(shown).encode() + b"\n")
        code = 0
    finally:
        _exit(code)


_exit = os._exit


def _leave(code: int) -> NoReturn:
    raise _Left(code)


def _command(arguments: Sequence[str], fault: Fault | None, roots: Sequence[Path]) -> tuple[Said, str, bool]:
    logging.getLogger("mmsearch").handlers.clear()
    files = [os.memfd_create("said") for _ in range(2)]
    for file, standard in zip(files, (1, 2), strict=True):
        os.dup2(file, standard)
    sys.stdout, sys.stderr = (os.fdopen(standard, "w", closefd=False) for standard in (1, 2))
    sys.argv = ["mmsearch", *arguments]
    trace, fired, code = "", False, 0
    os._exit = _leave  # type: ignore[assignment]
    try:
        if fault is not None:
            arm(fault, roots)
        program.main()
    except _Left as left:
        code = int(left.args[0])
    except BaseException as error:
        code = 71
        sys.stderr.write(f"escaped: {error!r}\n")
    finally:
        if fault is not None:
            trace, fired = disarm()
        os._exit = _exit
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    out, err = (_content(file) for file in files)
    return Said(code, out, err, " ".join(name for name in HEAVY if name in sys.modules)), trace, fired


def _content(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb") as file:
        return file.read().decode("utf-8", "backslashreplace")


def pretend(module: str, **names: Callable[..., Any]) -> None:
    """Put a module that holds these functions in the place of one that would bring torch."""
    sys.modules[module] = SimpleNamespace(**names)  # type: ignore[assignment]
