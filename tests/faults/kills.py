"""A kill and an error at every I/O call of every operation: the cases, and what has to hold after each.

After a fault the catalog is whole and holds what it held before; the same command run again ends like a run that
nothing ever happened to; after the next index run no file is left that such a run wouldn't leave; every query is
answered as by that library; media are as they were.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from operations import Operation, Place
from shim import Fault, Mode
from state import CATALOG, State, digest_of, read_state, shapes, unnamed
from victim import Ended, Said, fork

WRITES = "cwfstnudpl"
"""The letters of calls that change something or lock it; the others read."""
ERRORS = {
    **dict.fromkeys("wft", (errno.ENOSPC, errno.EIO)),
    **dict.fromkeys("cnd", (errno.ENOSPC, errno.EACCES)),
    **dict.fromkeys("up", (errno.EIO, errno.EACCES)),
    **dict.fromkeys("sr", (errno.EIO,)),
    "o": (errno.EIO, errno.EACCES),
    "m": (errno.ENOMEM,),
    "l": (errno.ENOLCK,),
}
"""What each kind of call is failed with."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault in one operation; `asked_first` says that a query comes before the command is run again."""

    operation: str
    fault: Fault
    letter: str
    asked_first: bool

    def __str__(self) -> str:
        error = errno.errorcode.get(self.fault.error, "")
        return f"{self.operation}: {self.fault.mode.name} {error} at {self.fault.at} ({self.letter})"


@dataclass(slots=True)
class Result:
    """What a case came to; without problems all is well. `fired` is false where the run never came to that call."""

    case: Case
    fired: bool
    problems: list[str] = field(default_factory=list)


def cases(operation: str, trace: str, *, every: bool = False) -> list[Case]:
    """Return a kill before or amid each call that changes something, and an error at each call, reads included.

    With `every`, each call meets every fault that it can meet, and not one of them in turn.
    """
    found = []
    for at, letter in enumerate(trace, 1):
        kills = [Fault(Mode.KILL, at)] if letter in WRITES else []
        errors = [Fault(Mode.FAIL, at, error) for error in ERRORS[letter]]
        if letter == "w":
            kills.append(Fault(Mode.TORN, at))
            errors.append(Fault(Mode.SHORT, at))
        if letter in "wcd":
            errors.append(Fault(Mode.FULL, at, errno.ENOSPC))
        if not every:
            kills, errors = ([some[at % len(some)]] if some else [] for some in (kills, errors))
        found += [
            Case(operation, fault, letter, (at // 2 + number) % 2 == 0) for number, fault in enumerate(kills + errors)
        ]
    return found


def sample(some: Sequence[Case], count: int) -> list[Case]:
    """Return so many cases, the same ones each time, in their order."""
    drawn = sorted(some, key=lambda case: zlib.crc32(str(case).encode()))[:count]
    return sorted(drawn, key=lambda case: case.fault.at)


@dataclass(slots=True)
class Bench:
    """An operation made ready: what it starts from, what an undisturbed run makes of it, and its calls."""

    operation: Operation
    place: Place
    trace: str = ""
    before: State | None = None
    after: State | None = None
    files: set[str] = field(default_factory=set)
    answers: list[object] = field(default_factory=list)
    media: str = ""

    def prepare(self) -> None:
        """Make the library, and run the operation once undisturbed; its calls are counted."""
        self.place.root.mkdir(parents=True)
        self.operation.prepare(self.place)
        self.media = digest_of(self.place.media)
        self.place.begin()
        self.before = read_state(self.place.library)
        self.files = set(shapes(self.place.root / "case"))
        command = self.place.filled(self.operation.arguments)
        ended = fork([command], fault=Fault(Mode.COUNT), roots=self._roots, cache=self.place.cache)
        assert ended.said and ended.said[0].code == 0, (self.operation.name, ended)
        self.trace = ended.trace
        self.files |= set(shapes(self.place.root / "case"))
        settled = self._settle()
        self.after = read_state(self.place.library)
        self.files |= set(shapes(self.place.root / "case"))
        for known in [name for name in self.files if "base-N-N" in name]:
            self.files |= {known.replace("base", "delta"), known.replace("base-N-N.faiss", "deleted-N.npy")}
        self.files |= {f"library/{CATALOG}-wal", f"library/{CATALOG}-shm"}
        runs = len(self.operation.next_runs)
        self.answers = [answer(said) for said in settled.said[runs:]]
        assert all(said.code == 0 for said in settled.said[1:]), (self.operation.name, settled.said)

    @property
    def _roots(self) -> list[Path]:
        return [self.place.root / "case"]

    def _settle(self) -> Ended:
        """Run the command again, then the next run, then the query."""
        ask = ("query", "--text", self.operation.query, "--library", "{library}", "--json", "--all", "-k", "1000")
        commands = [*self.operation.next_runs, *([ask] if self.operation.query else [])]
        return fork([self.place.filled(command) for command in commands], cache=self.place.cache)

    def run(self, case: Case) -> Result:
        """Run one case and return what is wrong after it."""
        self.place.begin()
        command = self.place.filled(self.operation.arguments)
        ended = fork([command], fault=case.fault, roots=self._roots, cache=self.place.cache)
        result = Result(case, ended.fired)
        if ended.fired:
            result.problems = list(self._problems(case, ended))
        return result

    def _problems(self, case: Case, ended: Ended) -> Iterator[str]:
        killing = case.fault.mode in (Mode.KILL, Mode.TORN)
        if ended.hung:
            yield "hang: the command didn't end"
        elif ended.signal and not (killing and ended.signal == signal.SIGKILL):
            yield f"crash: it ended by {signal.Signals(ended.signal).name}"
        elif not killing:
            yield from unkind(ended.said[0], self.operation.notices) if ended.said else ["crash: it ended by itself"]
        try:
            yield from self._lost(read_state(self.place.library))
        except sqlite3.Error as error:
            yield f"lost: the catalog can't be read: {error}"
        if case.asked_first and self.operation.query and (self.place.library / CATALOG).is_file():
            (said,) = fork(
                [self.place.filled(["query", "red", "--library", "{library}", "--json"])], cache=self.place.cache
            ).said or (Said(-1, "", "it crashed", ""),)
            if said.code not in (0, 1) and self.before is not None and self.before.media:
                yield f"query: exit {said.code}: {said.err.strip()}"
        settled = self._settle()
        runs = len(self.operation.next_runs)
        if settled.hung or settled.signal or len(settled.said) < runs:
            yield f"rerun: {'hung' if settled.hung else 'crashed'} after {len(settled.said)} commands"
            return
        again, last, asked = settled.said[0], settled.said[runs - 1], settled.said[runs:]
        if again.code not in (0, 1) and not any(words in again.err for words in self.operation.refusals):
            yield f"rerun: exit {again.code}: {again.err.strip()}"
        if runs > 1 and last.code != 0:
            yield f"next run: exit {last.code}: {last.err.strip()}"
        yield from self._unlike([answer(said) for said in asked])

    def _lost(self, now: State) -> Iterator[str]:
        assert self.before is not None and self.after is not None
        kept = self.before.media & self.after.media
        for entry in sorted(kept - now.media, key=repr)[:2]:
            yield f"lost: {entry[1]!r}"
        names = {(entry[0], entry[1]) for entry in self.before.media | self.after.media}
        for entry in sorted((e for e in now.media if e[0] is not None and (e[0], e[1]) not in names), key=repr)[:2]:
            yield f"made up: {entry[:2]!r}"

    def _unlike(self, answers: list[object]) -> Iterator[str]:
        assert self.after is not None
        try:
            state = read_state(self.place.library)
        except sqlite3.Error as error:
            yield f"content: the catalog can't be read: {error}"
            return
        yield from (f"content: {difference}" for difference in self.after.differences(state))
        if answers != self.answers:
            yield f"answers: {first_difference(self.answers, answers)}"
        strays = sorted(set(shapes(self.place.root / "case")) - self.files)
        yield from (f"stray: {name}" for name in strays)
        if (self.place.library / CATALOG).is_file():
            yield from (f"stray: {name}" for name in unnamed(self.place.library))
        if digest_of(self.place.media) != self.media:
            yield "media: a file was changed"


def unkind(said: Said, notices: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is wrong with the end of a command that met an error: it succeeds, or exits 2 with one clear line.

    Lines before it that hold one of the notices aren't counted.
    """
    *before, last = said.err.splitlines() or [""]
    lines = [line for line in before if not any(notice in line for notice in notices)] + [last] * bool(last)
    if said.code not in (0, 2):
        yield f"message: exit {said.code}: {said.err.strip()[:200]}"
    elif said.code == 2 and len(lines) != 1:
        yield f"message: {len(lines)} lines: {said.err.strip()[:300]}"
    elif "unexpected " in said.err or "Traceback" in said.err:
        yield f"message: {said.err.strip()[:200]}"


def answer(said: Said) -> object:
    """Return the hits of a query: what they are of, and their scores to four places."""
    if said.code not in (0, 1):
        return said.err.strip()
    hits = [json.loads(line) for line in said.out.splitlines()]
    return sorted((os.fspath(hit["path"]), hit["start_s"] or 0.0, round(hit["score"], 4)) for hit in hits)


def first_difference(expected: list[object], found: list[object]) -> str:
    """Return where two lists of answers part."""
    for one, other in zip(expected, found, strict=False):
        if one != other:
            if isinstance(one, list) and isinstance(other, list):
                pairs = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
                return f"{len(one)} and {len(other)} hits, {pairs[:1]}"
            return f"{one} and {other}"[:300]
    return f"{len(expected)} answers and {len(found)}"
