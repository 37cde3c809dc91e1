"""Lets several servers run cases side by side, each with libraries of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from kills import Case, Result
from shim import build, environment

Item = TypeVar("Item")
Done = TypeVar("Done")


class Server:
    """One process that runs cases, one after the other."""

    def __init__(self, folder: Path, shim: Path) -> None:
        folder.mkdir(parents=True)
        command = [sys.executable, str(Path(__file__).with_name("server.py")), str(folder)]
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment(shim), text=True
        )
        self._log_file = folder / "log"
        self._traces: dict[str, str] = {}

    def trace(self, operation: str) -> str:
        """Return a letter for each call of an operation, which is made ready when it is first asked for."""
        if operation not in self._traces:
            self._traces[operation] = self._ask({"operation": operation})["trace"]
        return self._traces[operation]

    def run(self, case: Case) -> Result:
        """Run a case."""
        self.trace(case.operation)
        fault = case.fault
        told = [case.operation, int(fault.mode), fault.at, fault.error, case.letter, case.asked_first]
        reply = self._ask({"case": told})
        return Result(case, reply["fired"], reply["problems"])

    def fight(self, twist: str) -> dict[str, Any]:
        """Make a hostile library, run the commands on it, and return the fields of what they came to."""
        return self._ask({"twist": twist})

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended: {self._log_file.read_text('utf-8', 'replace')[-2000:]}")
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextmanager
def servers(folder: Path, count: int) -> Iterator[list[Server]]:
    """Start servers below a folder, and end them."""
    folder.mkdir(parents=True, exist_ok=True)
    shim = build(folder)
    started = [Server(folder / f"server-{number}", shim) for number in range(count)]
    try:
        yield started
    finally:
        for server in started:
            server.close()


def run_all(
    started: Sequence[Server], work: Callable[[Server, Item], Done], items: Iterable[Item], told: Callable[[Done], None]
) -> list[Done]:
    """Do work on every item, on whichever server is free; `told` is called with every result."""
    free: SimpleQueue[Server] = SimpleQueue()
    guard = threading.Lock()
    for server in started:
        free.put(server)

    def run(item: Item) -> Done:
        server = free.get()
        try:
            result = work(server, item)
        finally:
            free.put(server)
        with guard:
            told(result)
        return result

    with ThreadPoolExecutor(len(started)) as pool:
        return list(pool.map(run, items))
