"""Many threads ask one Library while another process indexes, forgets and changes files.

An answer counts where the library was in the same state before and after it, and its indexes were up to date: it must
then be what a copy of the catalog in that very state answers, whose vectors are compared one by one in NumPy. Where
the library changed meanwhile, the query is asked again. A state is the revision of the vectors, and which file holds
which content.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from writer import WORDS, write

import mmsearch
from mmsearch import Hit, Library, MMSearchError, Settings

THREADS = 24
TERMS = (*WORDS, "red", "green", "blue", "yellow", "a white lantern", "an orange tractor at the harbour")
_KEPT = 16
"""Of how many states the exact answers are kept."""
Answer = list[tuple[str, float]]
State = tuple[int, int]
"""The revision, and a digest of the media."""


@dataclass(slots=True)
class Loaded:
    """What the threads saw: answers that were compared, answers of a library that changed, and what is wrong."""

    compared: int = 0
    changed: int = 0
    states: set[State] = field(default_factory=set)
    runs: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Changed(Exception):
    """The library isn't in the state any more that was asked for."""


class Exact:
    """Answers of copies of a catalog, by state."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = library
        self._folder = folder
        self._guard = threading.Lock()
        self._known: OrderedDict[State, dict[str, Answer]] = OrderedDict()

    def state(self) -> State:
        """Return the state that is committed."""
        with closing(sqlite3.connect(self._library / "catalog.sqlite", timeout=30)) as catalog:
            return _state(catalog)

    def answers(self, state: State) -> dict[str, Answer]:
        """Return every term's answer in a state. Raises `Changed` where it can't be copied any more."""
        with self._guard:
            if state not in self._known:
                self._known[state] = self._copied(state)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return self._known[state]

    def _copied(self, state: State) -> dict[str, Answer]:
        place = self._folder / str(abs(hash(state)))
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        file = self._library / "catalog.sqlite"
        with (
            closing(sqlite3.connect(file, timeout=30)) as source,
            closing(sqlite3.connect(place / "catalog.sqlite")) as copy,
        ):
            source.backup(copy)
            if _state(copy) != state:
                raise Changed
        try:
            with mmsearch.open(place) as library:
                compare_with_numpy(library)
                return {term: shown(library.query(term, k=1000, rerank=False)) for term in TERMS}
        finally:
            shutil.rmtree(place, ignore_errors=True)


def compare_with_numpy(library: Library) -> None:
    """Check that what the indexes of a library find is what comparing with every vector in NumPy finds."""
    seen = library.seen()
    space = seen.profile.spaces[0]
    space_id = seen.catalog.space_id(space.name, space.fingerprint, space.dim)
    assert space_id is not None
    queries = library.embed(list(TERMS))
    for view in space.front_ends:
        ids, vectors = seen.catalog.vectors(seen.catalog.embedding_ids(space_id, view), space.dim)
        scores, found = seen.indexes.get(space, view).search(queries, 1000, None)
        for row, cosines in enumerate(queries @ vectors.T):
            held = found[row] >= 0
            assert sorted(found[row][held].tolist()) == ids.tolist(), view
            expected = cosines[np.searchsorted(ids, found[row][held])]
            np.testing.assert_allclose(scores[row][held], expected, atol=1e-4)


def shown(hits: list[Hit]) -> Answer:
    """Return an answer in a form that can be compared; equal scores may come in any order."""
    return sorted((hit.path.name, round(hit.score, 3)) for hit in hits)


def same(one: Answer, other: Answer) -> bool:
    """Return whether two answers are of the same files, with the same scores but for rounding."""
    return len(one) == len(other) and all(
        a[0] == b[0] and abs(a[1] - b[1]) < 0.005 for a, b in zip(one, other, strict=True)
    )


def load(folder: Path, seconds: float, threads: int = THREADS) -> Loaded:
    """Let threads ask for so long while a process writes; return what they saw."""
    media, chance = folder / "media", Random(1)
    for number in range(40):
        write(media, number, chance)
    with mmsearch.open(folder / "library", model="hashing", settings=Settings(workers=1)) as library:
        library.index(media)
        exact, loaded, guard, stop = (
            Exact(library.folder, folder / "exact"),
            Loaded(),
            threading.Lock(),
            threading.Event(),
        )
        command = [sys.executable, str(Path(__file__).with_name("writer.py")), str(library.folder), str(media)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        began = time.monotonic()
        workers = [
            threading.Thread(target=_ask, args=(library, exact, loaded, guard, stop, number), daemon=True)
            for number in range(threads)
        ]
        for worker in workers:
            worker.start()
        stop.wait(seconds)
        stop.set()
        for worker in workers:
            worker.join(60)
        out, _ = process.communicate(timeout=60)
        loaded.seconds = time.monotonic() - began
        loaded.problems += ["a thread hangs" for worker in workers if worker.is_alive()]
        if process.returncode:
            loaded.problems.append(f"the writer ended with {process.returncode}")
        else:
            loaded.runs = json.loads(out)["runs"]
    return loaded


def _ask(
    library: Library, exact: Exact, loaded: Loaded, guard: threading.Lock, stop: threading.Event, number: int
) -> None:
    chance = Random(number)
    while not stop.is_set():
        term = chance.choice(TERMS)
        try:
            before = _up_to_date(library, exact)
            answer = shown(library.query(term, k=1000, rerank=False))
            strict = before is not None and before == _up_to_date(library, exact)
            expected = exact.answers(before)[term] if strict and before is not None else None
        except Changed:
            expected = None
        except (MMSearchError, AssertionError, OSError, sqlite3.Error) as error:
            with guard:
                loaded.problems.append(f"{term}: {type(error).__name__}: {error}")
            return
        with guard:
            if expected is None or before is None:
                loaded.changed += 1
                continue
            loaded.compared += 1
            loaded.states.add(before)
            if not same(answer, expected):
                loaded.problems.append(
                    f"{term}: {len(answer)} hits, {len(expected)} are right: "
                    f"{[a for a in answer if a not in expected][:2]}"
                )


def _up_to_date(library: Library, exact: Exact) -> State | None:
    """Return the library's state, None where an index is behind it."""
    state = exact.state()
    return None if any(index.stale for index in library.status().indexes) else state


def _state(catalog: sqlite3.Connection) -> State:
    catalog.execute("BEGIN")  # both are read in one transaction
    (token,) = catalog.execute("SELECT token FROM revision ORDER BY id DESC LIMIT 1").fetchone()
    media = catalog.execute("SELECT path, content_id FROM media ORDER BY path").fetchall()
    catalog.rollback()
    return int(token), zlib.crc32(repr(media).encode())
