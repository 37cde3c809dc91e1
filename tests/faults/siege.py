"""Hostile libraries asked, looked at and indexed: what has to hold for each command.

It ends within seconds and within a gigabyte, with exit 2 and one line, or rightly: without asking the network, without
loading a model that the library names, and without touching anything outside.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kills import answer
from operations import Place, prepare_adapted, prepare_indexed, prepare_new
from shim import CONNECTED
from state import digest_of
from support.media_maker import put
from twist import ADAPTED, NEW, PLAIN, Twist
from victim import Ended, fork

MOST_S = 10.0
"""Of processor time: a wall clock would measure what else the machine does."""
MOST_BYTES = 2**30
_ASK = ("query", "--text", "a red note about low sounds", "--json", "--all", "-k", "1000")
COMMANDS = (
    (*_ASK, "--library", "{library}"),
    ("status", "--library", "{library}", "--json"),
    ("index", "{media}/a", "--library", "{library}", "--json"),
    (*_ASK, "--library", "{library}"),
)
_MODEL = "local-dir:{library}/../model"
MODEL_COMMANDS = (
    ("model", "pull", _MODEL),
    ("index", "{media}/a", "--library", "{library}", "--json", "--model", _MODEL),
)


@dataclass(slots=True)
class Fought:
    """What the commands on one hostile library came to."""

    problems: list[str] = field(default_factory=list)
    refused: int = 0
    answered: int = 0
    indexed: bool = False
    cpu_s: float = 0.0
    peak_bytes: int = 0


class Siege:
    """Good libraries below a folder, of which hostile ones are made."""

    def __init__(self, folder: Path) -> None:
        self._places = {base: Place(folder / base) for base in (PLAIN, ADAPTED, NEW)}
        self._answers: dict[str, object] = {}
        self._digests: dict[str, str] = {}
        self._outside = folder / "outside"
        self._connected = folder / "connected"
        for base, prepare in ((PLAIN, prepare_indexed), (ADAPTED, prepare_adapted)):
            place = self._places[base]
            prepare(place)
            place.begin()
            (said,) = fork([place.filled(COMMANDS[0])], cache=place.cache).said
            assert said.code == 0, said
            self._answers[base] = answer(said)
            self._digests[base] = digest_of(place.media)
        prepare_new(self._places[NEW])
        self._digests[NEW] = digest_of(self._places[NEW].media)
        for name in ("canary", "deep/er/canary", "manifest.json", "1/canary", "visual/base-000001-000.faiss"):
            put(self._outside, name, "somebody's own")

    def fight(self, twist: Twist) -> Fought:
        """Make a hostile library, run the commands on it, and return what is wrong."""
        place, fought = self._places[twist.base], Fought()
        place.begin()
        twist.make(place.library, self._outside)
        before = _inventory(self._outside)
        self._connected.unlink(missing_ok=True)
        os.environ[CONNECTED] = str(self._connected)
        for number, command in enumerate(MODEL_COMMANDS if twist.base == NEW else COMMANDS):
            ended = fork([place.filled(command)], cache=place.cache)
            fought.cpu_s = max(fought.cpu_s, ended.cpu_s)
            fought.peak_bytes = max(fought.peak_bytes, ended.peak_bytes)
            for problem in self._problems(twist, command, ended, fought, first=number == 0):
                fought.problems.append(f"{command[0]}{' after index' if number == 3 else ''}: {problem}")
            if self._connected.exists():
                fought.problems.append(f"{command[0]}: the network was asked")
                self._connected.unlink()
            if (now := _inventory(self._outside)) != before:
                fought.problems.append(f"{command[0]}: outside, {sorted(before ^ now)[:3]} changed")
                before = now
            if ended.hung:
                break  # the others would hang as well
        if digest_of(place.media) != self._digests[twist.base]:
            fought.problems.append("a file of the media changed")
        shutil.rmtree(place.root / "case", ignore_errors=True)
        return fought

    def _problems(
        self, twist: Twist, command: tuple[str, ...], ended: Ended, fought: Fought, *, first: bool
    ) -> Iterator[str]:
        if ended.hung or ended.signal or not ended.said:
            yield "it didn't end" if ended.hung else f"it was ended by signal {ended.signal}"
            return
        (said,) = ended.said
        if ended.cpu_s > MOST_S:
            yield f"it took {ended.cpu_s:.0f} s"
        if ended.peak_bytes > MOST_BYTES:
            yield f"it took {ended.peak_bytes / 2**30:.1f} GiB"
        if said.loaded and twist.base != NEW:  # there, the user has named the model
            yield f"it loaded {said.loaded}"
        lines = said.err.splitlines()
        if said.code == 2:
            fought.refused += 1
            if len(lines) != 1 or len(lines[0]) > 600 or not lines[0].isprintable():
                yield f"exit 2 with {len(lines)} lines: {said.err[:300]!r}"
            elif "unexpected " in lines[0] or "Traceback" in lines[0]:
                yield f"exit 2: {lines[0][:300]}"
        elif said.code == 1 and command[0] == "query" and twist.empty and (first or not fought.indexed):
            fought.answered += 1
        elif said.code != 0:
            yield f"exit {said.code}: {said.err[:300]!r} {said.out[:100]!r}"
        else:
            fought.answered += 1
            fought.indexed |= command[0] == "index"
            if len(lines) > 2 or not all(line.isprintable() for line in lines):
                yield f"exit 0 with {len(lines)} lines: {said.err[:300]!r}"
            if command[0] == "query" and (twist.answers or not first):
                yield from self._wrong(twist, answer(said))

    def _wrong(self, twist: Twist, found: object) -> Iterator[str]:
        """Yield what a query answered that it shouldn't have."""
        right = self._answers[twist.base]
        assert isinstance(right, list) and isinstance(found, list)
        if twist.answers and found != right:
            yield f"{len(found)} hits where {len(right)} are right, or others"
        elif not {hit[0] for hit in found} & {hit[0] for hit in right}:
            yield "none of the right hits"


def _inventory(folder: Path) -> set[str]:
    return {f"{file.relative_to(folder)} {file.stat().st_size}" for file in folder.rglob("*")}
