"""Adaptation that is killed, stopped or watched: the old space answers until the new one is whole."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from support.adaptations import COUNT, answers, assert_as_it_was, matrix, vectors
from support.adaptations import learnt as learnt
from support.adaptations import library as library
from support.adaptations import photos as photos
from support.adaptations import quick as quick
from support.adapted_maker import MODEL, make_photos

import mmsearch
from mmsearch import Progress, View
from mmsearch.adaptation import fit as training
from mmsearch.adaptation.fit import Outcome
from mmsearch.folder import CATALOG

LEARNT = f"""
import sys, types
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.adapted_maker import outcome
sys.modules["mmsearch.adaptation.fit"] = fake = types.ModuleType("adapt")
fake.adapt = lambda *_, **__: outcome()
"""
"""For other processes: what is learnt is there at once, without torch, which takes seconds to load."""


@pytest.mark.parametrize("moment", ["Adapted.write", "Catalog.copy_in", "Catalog.switch"])
def test_killed_at_any_moment_the_old_space_answers_and_the_next_call_succeeds(
    photos: Path, library: Path, learnt: Outcome, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answers(library)
    script = f"""
import os, signal, mmsearch
from mmsearch.catalog import Catalog, copying
from mmsearch.spaces import Adapted
{LEARNT}
copying._PAGE = 30
call, calls = {moment}, []
def die(*arguments, **named):
    calls.append(1)
    if {moment == "Catalog.switch"}:
        os.kill(os.getpid(), signal.SIGKILL)
    done = call(*arguments, **named)
    if len(calls) == {3 if moment == "Catalog.copy_in" else 1}:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
{moment} = die
mmsearch.open({str(library)!r}).adapt()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert answers(library) == before
    monkeypatch.setattr(training, "adapt", lambda *_, **__: learnt)
    with mmsearch.open(library) as opened:
        assert opened.profile == MODEL
        report = opened.adapt()
        assert (report.adapted, opened.profile) == (True, report.model)
        assert (opened.status().changing_to, opened.status().kept_models) == (None, (MODEL,))
    assert [entry.name for entry in (library / "adapted").iterdir() if entry.is_dir()] == [
        report.model.partition(":")[2]
    ]
    assert learnt.heads is not None
    for view in (View.TEXT, View.VISUAL):
        old, new = vectors(photos, view), vectors(library, view)
        assert old.keys() == new.keys()
        np.testing.assert_allclose(matrix(new), learnt.heads[view](matrix(old)), atol=2e-3)
    with closing(sqlite3.connect(library / CATALOG)) as connection:
        counts = connection.execute("SELECT count(*) FROM segment GROUP BY profile_id").fetchall()
    assert counts == [(COUNT,), (COUNT,)]


@pytest.mark.parametrize("at", [COUNT, 60])
def test_stopped_while_it_learns_or_converts_it_leaves_the_library_as_it_was(library: Path, at: int) -> None:
    before = answers(library)

    def stop(state: Progress) -> None:
        if state.total == (COUNT if at == COUNT else training.STEPS) and state.done >= at:
            raise KeyboardInterrupt

    with mmsearch.open(library) as opened, pytest.raises(KeyboardInterrupt):
        opened.adapt(stop)
    assert_as_it_was(library, before)


def test_the_command_shows_what_was_gained_and_ctrl_c_is_exit_code_130(library: Path) -> None:
    before = answers(library)

    def command(*arguments: str, meanwhile: str = "") -> subprocess.CompletedProcess[str]:
        # A test run in the background of a shell hands on that Ctrl-C is ignored.
        heeded = "signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"import os, signal, sys, time\n{heeded}\n{LEARNT}\n{meanwhile}\nfrom mmsearch import cli\ncli.main()"
        line = [sys.executable, "-c", code, "adapt", "--library", str(library), *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    # The signal may reach another thread first, and the main one a moment later.
    stopped = command(meanwhile="fake.adapt = lambda *_, **__: (os.kill(os.getpid(), signal.SIGINT), time.sleep(20))")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", "")
    assert_as_it_was(library, before)
    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    header, gain, verdict = done.stdout.splitlines()
    assert header.split() == ["held", "out", "queries", "before", "after", "difference", "[95", "%]"]
    assert gain.split() == ["text→visual", "1,500", "recall@10", "0.250", "0.750", "+0.500", "[+0.400,", "+0.600]"]
    assert verdict.startswith(f"adapted: +0.500 [+0.400, +0.600] over all of {COUNT} pairs, ")
    assert "; the library now uses adapted:" in verdict
    again = command("--json")
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (2, "", 1)


def test_the_command_says_when_nothing_was_gained(tmp_path: Path, run: Run) -> None:
    make_photos(tmp_path / "library", 60, shuffled=True)
    done = run("adapt", "--json", library=tmp_path / "library")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert list(report) == ["adapted", "model", "pairs", "seconds", "overall", "gains"]
    assert (report["adapted"], report["model"], report["pairs"]) == (False, MODEL, 60)
    assert list(report["gains"][0]) == ["direction", "queries", "metric", "before", "after", "difference"]


def test_one_writes_at_a_time(library: Path) -> None:
    with (
        mmsearch.open(library) as opened,
        mmsearch.open(library) as other,
        other._place.lock("adapt"),
        pytest.raises(mmsearch.LockedError),
    ):
        opened.adapt()
