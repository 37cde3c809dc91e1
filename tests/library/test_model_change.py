"""A library that changes its model answers as the old one until the change is whole, then as one made with the new."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Run
from support.model_changes import (
    NEW,
    OLD,
    Answers,
    answered_by,
    answers,
    assert_nothing_stands_twice,
    counts,
    fresh,
    paint,
    stop_after,
)
from support.model_changes import encoded as encoded
from support.model_changes import library as library
from support.model_changes import media as media
from support.model_changes import pattern as pattern
from support.old_catalogs import downgrade

import mmsearch
from mmsearch import Library, ModelError, Progress, UsageError
from mmsearch.folder import CATALOG
from mmsearch.spaces import Profile, load_profile

views_module = importlib.import_module("mmsearch.model_views")


def test_a_changed_library_answers_as_one_made_with_the_new_model(
    library: Library, media: Path, tmp_path: Path
) -> None:
    assert answered_by(library) == {OLD}
    report = library.index(media, model=NEW)
    assert (counts(report), report.switched_to, report.unreached) == ((0, 13, 0, 0, 0), NEW, 0)
    want = fresh(tmp_path / "fresh", NEW, media)
    assert answers(library) == want
    assert (library.profile, library.outdated()) == (NEW, 0)
    with mmsearch.open(library.folder) as again:
        assert answers(again) == want
    with mmsearch.open(library.folder, model=NEW) as again:
        assert counts(again.index(media)) == (0, 0, 0, 0, 0)
    assert_nothing_stands_twice(library.folder)


def test_a_space_that_both_models_have_is_embedded_apart(
    library: Library, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `standard` and `mini` share one. Passages are cut by the first space, so the segments differ."""
    both = Profile("both", tuple(load_profile(name).spaces[0] for name in (NEW, OLD)))

    def load(name: str, device: str = "auto", pins: Sequence[str] = (), own: Path | None = None) -> Profile:
        return both if name == "both" else load_profile(name, device, pins)

    monkeypatch.setattr(views_module, "load_profile", load)
    monkeypatch.setattr(views_module, "resolve_name", lambda name: name)
    before, want = answers(library), fresh(tmp_path / "fresh", "both", media)
    stop = threading.Event()
    library.index(media, model="both", progress=stop_after(2, stop), stop=stop)
    assert answers(library) == before
    assert library.index(media, model="both").switched_to == "both"
    assert answers(library) == want
    with mmsearch.open(tmp_path / "fresh") as made:
        assert library.status().indexes == made.status().indexes
    assert library.index(media, model=OLD, prune=True).switched_to == OLD
    assert answers(library) == before


def test_an_existing_library_is_opened_with_its_own_model_only(library: Library, media: Path) -> None:
    with pytest.raises(ModelError, match=r"change that with 'mmsearch index PATH --model mini --library ") as caught:
        mmsearch.open(library.folder, model=NEW)
    assert "\n" not in str(caught.value)
    library.index(media, model=NEW)
    with pytest.raises(ModelError, match=f"--model {OLD}"):
        mmsearch.open(library.folder, model=OLD)


def test_its_own_model_and_auto_are_an_ordinary_run(
    library: Library, media: Path, encoded: list[tuple[str, int]]
) -> None:
    for model in (OLD, "auto", None):
        report = library.index(media, model=model)
        assert (counts(report), report.switched_to) == ((0, 0, 0, 0, 0), None)
    assert encoded == []
    assert library.status().kept_models == ()


def test_a_model_that_cannot_be_loaded_any_more_can_be_changed(
    library: Library, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def forgotten(name: str, device: str = "auto", pins: Sequence[str] = (), own: Path | None = None) -> Profile:
        if name == OLD:
            raise ModelError("its weights are gone; choose another")
        return load_profile(name, device, pins)

    monkeypatch.setattr(views_module, "load_profile", forgotten)
    with mmsearch.open(library.folder) as later:
        with pytest.raises(ModelError, match="weights are gone"):
            later.query("red")
        assert later.index(media, model=NEW).switched_to == NEW
        assert answers(later) == fresh(tmp_path / "fresh", NEW, media)


def test_a_change_that_cannot_begin_changes_nothing(library: Library, media: Path) -> None:
    with pytest.raises(ModelError, match="gigantic"):
        library.index(media, model="gigantic")
    with pytest.raises(UsageError, match="doesn't exist"):
        library.index(media / "nope", model=NEW)
    assert (library.status().changing_to, library.profile) == (None, OLD)


def test_queries_are_answered_by_the_old_model_until_the_change_is_complete(library: Library, media: Path) -> None:
    before = answers(library)
    seen: list[Answers] = []
    with mmsearch.open(library.folder) as reader:

        def ask(_state: Progress) -> None:
            with mmsearch.open(library.folder) as cold:
                seen.extend([answers(library), answers(reader), answers(cold)])

        library.index(media, model=NEW, progress=ask)
        assert len(seen) >= 3 * 4
        assert all(answer == before for answer in seen)
        after = answers(library)
        assert answered_by(library) == {NEW}
        assert answers(reader) == after  # it was open all the time


def test_a_stopped_change_is_gone_on_with_and_embeds_nothing_twice(
    library: Library, media: Path, encoded: list[tuple[str, int]], tmp_path: Path
) -> None:
    before = answers(library)
    stopped = 0
    while True:
        stop = threading.Event()
        report = library.index(media, model=NEW, progress=stop_after(1, stop), stop=stop)
        if report.switched_to:
            break
        assert report.interrupted
        assert answers(library) == before
        status = library.status()
        assert (status.profile, status.changing_to) == (OLD, NEW)
        assert status.changed > 0
        if status.changed < 13:
            stopped += 1
            report = library.index(media)  # an ordinary run goes on with the old model, and leaves the change as it is
            assert (counts(report), report.switched_to) == ((0, 0, 0, 0, 0), None)
            assert library.status().changed == status.changed
    assert stopped > 0
    assert {name for name, _ in encoded} == {NEW}
    assert sum(number for _, number in encoded) == 13
    assert answers(library) == fresh(tmp_path / "fresh", NEW, media)
    assert_nothing_stands_twice(library.folder)


def test_a_library_of_an_older_version_keeps_its_answers_and_may_change(
    library: Library, media: Path, tmp_path: Path
) -> None:
    before = answers(library)
    library.close()
    downgrade(library.folder / CATALOG, 2)
    (library.folder / "indexes" / "1").rename(library.folder / "indexes" / "hashing-1")
    with mmsearch.open(library.folder) as later:
        assert answers(later) == before
        assert counts(later.index(media)) == (0, 0, 0, 0, 0)
        assert {entry.name for entry in (later.folder / "indexes").iterdir() if entry.is_dir()} == {"1"}
        assert later.index(media, model=NEW).switched_to == NEW
        assert answers(later) == fresh(tmp_path / "fresh", NEW, media)


def test_the_command_line_changes_the_model_and_says_how_far_it_is(
    run: Run, library: Library, media: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    paint(disk / "white.png", "white")
    library.index(disk)
    disk.rename(tmp_path / "unmounted")
    done = run("index", media, "--model", NEW, library=library.folder)
    assert done.returncode == 0
    assert f"1 file can't be reached or embedded, {disk / 'white.png'} for one" in done.stderr
    status = run("status", library=library.folder).stdout
    assert f"model     {OLD}\n" in status
    assert f"change    to {NEW}: 13 of 14 files; run 'mmsearch index PATH --model {NEW}' again\n" in status
    assert json.loads(run("status", "--json", library=library.folder).stdout)["model"] == OLD
    assert library.forget(disk) == 1
    done = run("index", media, "--model", NEW, "--json", library=library.folder)
    assert f"now uses the model '{NEW}'" in done.stderr
    assert list(json.loads(done.stdout)) == ["added", "updated", "reused", "removed", "failed", "seconds", "failures"]
    status = run("status", library=library.folder).stdout
    assert f"model     {NEW}\n" in status
    assert f"kept      vectors of {OLD}; drop them with 'mmsearch index PATH --prune'\n" in status
    assert "change " not in status
    run("index", media, "--prune", library=library.folder)
    assert "kept " not in run("status", library=library.folder).stdout


def test_the_precision_of_a_model_is_its_own_and_is_shown(run: Run, library: Library, media: Path) -> None:
    library.seen().catalog.set_precision("int8")
    assert library.status().precision == "int8"
    assert "\nprecision int8\n" in run("status", library=library.folder).stdout
    library.index(media, model=NEW)
    assert library.status().precision == ""
    assert "\nprecision" not in run("status", library=library.folder).stdout
