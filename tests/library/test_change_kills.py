"""A change of model that is killed at any step leaves a library that answers in the old model or in the new."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Run
from sqlalchemy import Connection
from support.model_changes import NEW, OLD, answered_by, answers, assert_nothing_stands_twice, counted, fresh, paint
from support.model_changes import encoded as encoded
from support.model_changes import library as library
from support.model_changes import media as media
from support.model_changes import pattern as pattern

import mmsearch
from mmsearch import Library, Settings
from mmsearch.catalog import Catalog, profiles
from mmsearch.catalog.database import Database
from mmsearch.vectors import IndexStore
from mmsearch.vectors.faiss_index import FaissIndex
from mmsearch.vectors.manifest import Manifest


class Killed(BaseException):
    """What a process that is killed at this step would not live to see."""


@dataclass
class Fuse:
    """Ends a run at its n-th step that another process can see: a write to the catalog, or an index's publishing."""

    left: int

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def lay(self, patch: pytest.MonkeyPatch) -> None:
        write, publish = Database.write, IndexStore._publish

        def writing(database: Database, *, at_once: bool = False) -> AbstractContextManager[Connection]:
            self.burn()
            return write(database, at_once=at_once)

        def publishing(store: IndexStore, manifest: Manifest) -> FaissIndex:
            self.burn()
            return publish(store, manifest)

        patch.setattr(Database, "write", writing)
        patch.setattr(IndexStore, "_publish", publishing)


def embed_all_but_switch(library: Library, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_catalog: Catalog, _embedded_by: str, *, drop: bool) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "switch", die)
        with pytest.raises(Killed):
            library.index(media, model=NEW)


def test_a_kill_at_any_step_leaves_the_old_model_or_the_new(
    library: Library, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where nothing is left to embed: what a kill before that leaves is seen by the tests above and below."""
    monkeypatch.setattr(profiles, "PART", 5)
    old, new = answers(library), fresh(tmp_path / "fresh", NEW, media)
    embed_all_but_switch(library, media, monkeypatch)
    library.close()
    seen: list[str] = []
    for step in itertools.count(1):
        folder = Path(shutil.copytree(library.folder, tmp_path / f"killed {step}"))
        fuse = Fuse(step)
        with monkeypatch.context() as patch, suppress(Killed):
            fuse.lay(patch)
            with mmsearch.open(folder, settings=Settings(workers=1)) as killed:
                killed.index(media, model=NEW, prune=True)
        with mmsearch.open(folder) as after:
            assert answers(after) == {OLD: old, NEW: new}[after.profile], f"killed at step {step}"
            seen.append(after.profile)
            assert after.index(media, model=NEW, prune=True).failed == 0
            assert (answers(after), after.profile, after.status().kept_models) == (new, NEW, ())
        assert_nothing_stands_twice(folder)
        assert counted(folder, "SELECT count(*) FROM profile") == 1
        shutil.rmtree(folder)
        if fuse.left > 0:
            break
    assert seen == sorted(seen)  # first some kills that leave the old one, then some that leave the new
    assert min(seen.count(OLD), seen.count(NEW)) > 5


def test_a_change_that_lacks_nothing_but_the_switch_is_finished_by_any_run(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[tuple[str, int]]
) -> None:
    embed_all_but_switch(library, media, monkeypatch)
    assert answered_by(library) == {OLD}
    encoded.clear()
    paint(media / "added.png", "brown")
    report = library.index(media / "added.png")
    assert (report.switched_to, report.added) == (NEW, 1)
    assert encoded == [(NEW, 1)]
    assert answered_by(library) == {NEW}


def test_kills_at_random_moments_leave_the_old_model_or_the_new(
    run: Run, library: Library, media: Path, tmp_path: Path
) -> None:
    for number in range(120):
        paint(media / "many" / f"{number:03d}.png", f"#{number * 70_001 % 0xFFFFFF:06x}", number % 60)
    library.index(media)
    old, new = answers(library), fresh(tmp_path / "fresh", NEW, media)
    arguments = ["index", str(media), "--batch", "4", "--workers", "1", "--prune"]
    chance = random.Random(11)
    killed, longest = {OLD: 0, NEW: 0}, 2.2
    for _ in range(20):
        model = OLD if killed[NEW] > 2 else NEW
        command = [sys.executable, "-m", "mmsearch", *arguments, "--model", model, "--library", str(library.folder)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):  # that's the moment
            process.wait(timeout=chance.uniform(0.2, 1) * longest)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            killed[model] += 1
        else:  # this machine is a fast one
            longest *= 0.8
        with mmsearch.open(library.folder) as reader:
            assert answers(reader) == {OLD: old, NEW: new}[reader.profile]
        assert answers(library) == {OLD: old, NEW: new}[library.profile]
        assert_nothing_stands_twice(library.folder)
        if min(killed.values()) > 2:
            break
    assert min(killed.values()) > 2
    for model, want in ((OLD, old), (NEW, new)):
        assert run(*arguments, "--model", model, library=library.folder).returncode == 0
        assert answers(library) == want
        assert library.status().kept_models == ()
