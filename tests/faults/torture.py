"""The long run of fault injection: `make torture`, or `python tests/faults/torture.py --parts kills --share 0.1`.

It prints a table of figures and what is wrong, and exits 1 where anything is. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from client import Server, run_all, servers
from fuzz import fuzz
from hostile import twists
from kills import Case, Result, cases, sample
from load import load
from operations import OPERATIONS
from shim import Mode, missing

PARTS = ("kills", "mutants", "hostile", "load", "life")
MUTANTS_EACH = 440
LIFE_QUERIES = 100_000
LOAD_S = 120.0
FLAT_BYTES = 24 * 2**20
"""How much more memory the last three quarters of a life may take than its first quarter: caches grow a little."""


@dataclass(slots=True)
class Report:
    """What a part found: lines of figures, and what is wrong."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, figure: object) -> None:
        """Add a line to the table."""
        self.figures.append((name, f"{figure:,}" if isinstance(figure, int) else str(figure)))


@dataclass(frozen=True, slots=True)
class Run:
    """How a run was asked for: where, in how many processes, and how much of the whole."""

    folder: Path
    jobs: int
    share: float
    operations: tuple[str, ...] = ()

    def some(self, count: int) -> int:
        """Return a share of a count, at least one."""
        return max(1, round(count * self.share))


def say(line: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def kills(run: Run) -> Report:
    """Kill, and fail, at every I/O call of every operation, or at a share of the calls."""
    report, began = Report(), time.monotonic()
    calls, done, unfired = Counter[str](), Counter[str](), 0
    with servers(run.folder / "kills", run.jobs) as started:
        for operation in OPERATIONS:
            if run.operations and not any(name in operation.name for name in run.operations):
                continue
            trace = started[0].trace(operation.name)
            every = cases(operation.name, trace)
            calls[operation.name] = len(trace)
            chosen = sample(every, run.some(len(every)))
            results = run_all(started, Server.run, chosen, _tell)
            fired = [result for result in results if result.fired]
            unfired += len(results) - len(fired)
            kind = Counter("kill" if _kills(result.case) else "error" for result in fired)
            done.update(kind)
            wrong = sum(bool(result.problems) for result in fired)
            report.add(
                operation.name, f"{len(trace)} calls, {kind['kill']} kills, {kind['error']} errors, {wrong} wrong"
            )
            report.problems += [f"{result.case}: {problem}" for result in fired for problem in result.problems]
            minutes = (time.monotonic() - began) / 60
            say(f"  {operation.name}: {len(results):,} faults after {minutes:.1f} min, {wrong} wrong")
    report.add("kill points", done["kill"])
    report.add("injected errors", done["error"])
    report.add("calls that the second run didn't come to", unfired)
    report.add("minutes", round((time.monotonic() - began) / 60, 1))
    return report


def _kills(case: Case) -> bool:
    return case.fault.mode in (Mode.KILL, Mode.TORN)


def _tell(result: Result) -> None:
    for problem in result.problems:
        say(f"  {result.case}: {problem}")


def mutants(run: Run) -> Report:
    """Index mutants of every format."""
    report = Report()
    each = run.some(MUTANTS_EACH)
    fuzzed = fuzz(run.folder / "mutants", each, model="mini", workers=run.jobs, told=lambda line: say(f"  {line}"))
    report.add("mutants", fuzzed.mutants.total())
    report.add("formats, and captions", len(fuzzed.mutants))
    report.add("taken in, the others are recorded failures", fuzzed.kept.total())
    report.add("of these Ogg and Opus, which reach the decoder", fuzzed.kept["ogg"] + fuzzed.kept["opus"])
    report.add("stopped by the limit of time", fuzzed.slow)
    report.add("that ended a decoder's process", fuzzed.crashed)
    report.add("most memory of a run with all its processes, MB", fuzzed.peak_bytes // 10**6)
    report.add("minutes", round(fuzzed.seconds / 60, 1))
    report.problems += fuzzed.problems
    return report


def hostile(run: Run) -> Report:
    """Ask, look at and index hostile libraries."""
    report, began = Report(), time.monotonic()
    names = [twist.name for twist in twists()][:: round(1 / run.share)]
    with servers(run.folder / "hostile", run.jobs) as started:
        fought = run_all(started, lambda server, name: (name, server.fight(name)), names, _tell_fought)
    report.add("hostile libraries", len(fought))
    report.add("commands refused in one line", sum(fields["refused"] for _, fields in fought))
    report.add("commands answered rightly all the same", sum(fields["answered"] for _, fields in fought))
    report.add("most processor time of a command, s", round(max(fields["cpu_s"] for _, fields in fought), 1))
    report.add("most memory of a command, MB", max(fields["peak_bytes"] for _, fields in fought) // 10**6)
    report.add("minutes", round((time.monotonic() - began) / 60, 1))
    report.problems += [f"{name}: {problem}" for name, fields in fought for problem in fields["problems"]]
    return report


def _tell_fought(fought: tuple[str, dict[str, Any]]) -> None:
    for problem in fought[1]["problems"]:
        say(f"  {fought[0]}: {problem}")


def beside(run: Run) -> Report:
    """Ask with many threads while another process writes."""
    report = Report()
    loaded = load(run.folder / "load", LOAD_S * run.share)
    report.add("answers compared with an exact one of the same state", loaded.compared)
    report.add("answers while the library changed, asked again", loaded.changed)
    report.add("states", len(loaded.states))
    report.add("index runs of the other process", loaded.runs)
    report.problems += loaded.problems
    if not loaded.compared:
        report.problems.append("no answer could be compared")
    return report


def life(run: Run) -> Report:
    """Ask one Library very often, in a process of its own."""
    report = Report()
    command = [sys.executable, str(Path(__file__).with_name("life.py")), str(run.folder / "life")]
    done = subprocess.run([*command, str(run.some(LIFE_QUERIES))], capture_output=True, text=True, check=False)
    if done.returncode:
        report.problems.append(f"it ended with {done.returncode}: {done.stderr[-500:]}")
        return report
    lived = json.loads(done.stdout)
    marks = lived["marks"]
    quarter = len(marks) // 4
    first = max(used for _, used, _ in marks[: quarter + 1])
    grown, files = max(used for _, used, _ in marks) - first, [opened for _, _, opened in marks]
    report.add("queries of one Library", lived["queries"])
    report.add("memory after a quarter, MB", first // 10**6)
    report.add("more than that at the most, KB", grown // 1000)
    report.add("open files, fewest and most", f"{min(files)} and {max(files)}")
    report.add("minutes", round(lived["seconds"] / 60, 1))
    if grown > FLAT_BYTES:
        report.problems.append(f"memory grew by {grown:,} bytes")
    if max(files[1:]) > files[0] + 2:
        report.problems.append(f"open files grew from {files[0]} to {max(files)}")
    return report


ALL: dict[str, Callable[[Run], Report]] = {
    "kills": kills,
    "mutants": mutants,
    "hostile": hostile,
    "load": beside,
    "life": life,
}
NEED_SHIM = ("kills", "hostile")


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder in memory where there is one, for a disk would spend the time on syncing; it goes again."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="mmsearch-torture-", dir=memory if os.access(memory, os.W_OK) else None)
    before = dict(os.environ)
    os.environ |= {"HF_HUB_OFFLINE": "1", "MMSEARCH_CACHE": f"{folder}/cache"}
    try:
        yield Path(folder)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--share", type=float, default=1.0, help="of everything that is run, from 0 to 1")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes side by side")
    parser.add_argument("--operations", nargs="+", default=(), metavar="WORDS", help="only those kills")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was written is removed
    wrong = 0
    with workplace() as folder:
        for part in asked.parts:
            if part in NEED_SHIM and (reason := missing()):
                say(f"{part}: left out, for {reason}")
                continue
            say(f"{part}:")
            report = ALL[part](Run(folder, asked.jobs, asked.share, tuple(asked.operations)))
            sys.stdout.write(f"\n{part}\n" + "".join(f"  {name:<54} {figure}\n" for name, figure in report.figures))
            for problem, count in Counter(map(_kind, report.problems)).most_common(40):
                example = next(one for one in report.problems if _kind(one) == problem)
                sys.stdout.write(f"  WRONG, {count} times: {example[:400]}\n")
            sys.stdout.flush()
            wrong += len(report.problems)
    return 1 if wrong else 0


def _kind(problem: str) -> str:
    """Return what many problems have in common: the end, without numbers."""
    return "".join(c for c in problem.partition("): ")[2] or problem if not c.isdigit())[:60]


if __name__ == "__main__":
    sys.exit(main())
