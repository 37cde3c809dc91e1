"""A worker that hangs, dies or is killed costs the file that it read, and no other."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest
from conftest import children
from support.media_maker import put
from support.traps import Trap, TrapSpace

from indexer import IndexOptions, named_scope, run
from mmsearch import Limits, MMSearchError, Progress, Settings, Stage, View
from mmsearch.catalog import Catalog
from mmsearch.spaces import Profile


def test_a_decoder_that_hangs_dies_or_swallows_memory_costs_only_its_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    traps = ("hang", "spin", "die", "leave", "swallow", "raise")
    for trap in traps:
        put(folder, f"{trap}.txt", trap)
    for i in range(30):
        put(folder, f"good-{i}.txt", f"note {i}")
    settings = Settings(workers=2, limits=Limits(decode_s=2))
    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as catalog:
        report = run(catalog, Profile("trap", (TrapSpace(),)), named_scope(catalog, [folder]), settings, IndexOptions())
        held = {os.fsdecode(row.path) for row in catalog.media_under(os.fsencode(folder))}
    assert held == {str(folder / f"good-{i}.txt") for i in range(30)}
    assert report.added == 30
    reasons = {failure.path.stem: failure.reason for failure in report.failures}
    assert set(reasons) == set(traps)
    assert {failure.stage for failure in report.failures} == {Stage.DECODE}
    assert "more than 2 s" in reasons["hang"]
    assert "more than 2 s" in reasons["spin"]
    assert "was killed, most likely because memory ran out" in reasons["die"]
    assert "crashed" in reasons["leave"]
    assert "more than 1.5 GB" in reasons["swallow"]
    assert "KeyError" in reasons["raise"]
    assert all("\n" not in reason for reason in reasons.values())


class Stillborn(Trap):
    """A front end that no worker survives receiving."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _die_unless, (os.getpid(),)


def _die_unless(parent: int) -> Stillborn:
    if os.getpid() != parent:
        os._exit(7)
    return Stillborn()


def test_workers_that_cannot_live_are_no_files_fault(tmp_path: Path) -> None:
    for i in range(40):
        put(tmp_path / "folder", f"good-{i}.txt", f"note {i}")
    space = TrapSpace()
    space.front_ends = {View.TEXT: Stillborn()}
    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as catalog:
        scope = named_scope(catalog, [tmp_path / "folder"])
        with pytest.raises(MMSearchError, match="can't be kept alive"):
            run(catalog, Profile("trap", (space,)), scope, Settings(workers=2), IndexOptions())
        assert catalog.failures_under() == []
        report = run(catalog, Profile("trap", (TrapSpace(),)), scope, Settings(), IndexOptions())
    assert (report.added, report.failed) == (40, 0)


def test_a_worker_killed_from_outside_costs_no_file(tmp_path: Path) -> None:
    for i in range(60):
        put(tmp_path / "folder", f"good-{i}.txt", f"note {i}")
    killed: list[int] = []

    def kill_one(_state: Progress) -> None:
        workers = [child for child in children() if child not in killed]
        if workers and len(killed) < 3:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    with closing(Catalog(tmp_path / "catalog.sqlite", create=True)) as catalog:
        profile = Profile("trap", (TrapSpace(),))
        settings = Settings(workers=2, batch=4)
        report = run(
            catalog, profile, named_scope(catalog, [tmp_path / "folder"]), settings, IndexOptions(), progress=kill_one
        )
    assert killed
    assert (report.added, report.failed) == (60, 0)
