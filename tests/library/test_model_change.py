"""A library changes its model beside the old one: whatever happens meanwhile, it answers as one of the two would."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile
from conftest import Run
from PIL import Image, ImageDraw
from sqlalchemy import Connection
from support.clip_maker import wave
from support.old_catalogs import downgrade

import mmsearch
from indexer import planner
from indexer.executors.base import Outcome
from indexer.executors.encode import Decoded, encode
from mmsearch import IndexReport, Library, ModelError, Progress, Settings, UsageError, View
from mmsearch.catalog import Catalog, profiles
from mmsearch.catalog.database import Database
from mmsearch.folder import CATALOG
from mmsearch.media import content_digest
from mmsearch.search.retrieve import Retriever
from mmsearch.spaces import Profile, load_profile
from mmsearch.types import Failure, Stage
from mmsearch.vectors import IndexStore
from mmsearch.vectors.faiss_index import FaissIndex
from mmsearch.vectors.manifest import Manifest

COLOURS = ["red", "green", "blue", "yellow", "orange", "purple"]
views_module = importlib.import_module("mmsearch.model_views")
ENCODE = "indexer.executors.local.encode"
OLD, NEW = "hashing", "mini"
BATCHES = Settings(workers=1, batch=4)
Answers = list[list[tuple[float, Path, View, float | None, float | None, str | None, str]]]


def paint(file: Path, colour: str, mark: int = 0) -> Path:
    picture = Image.new("RGB", (64, 48), colour)
    ImageDraw.Draw(picture).rectangle((mark, 0, mark + 4, 6), fill="white")
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    return file


def fill(folder: Path) -> Path:
    """Make photos, some with captions, notes that both models cut differently, and a sound in two windows."""
    for number, colour in enumerate(COLOURS):
        paint(folder / "photos" / f"{colour}.png", colour)
        (folder / "notes").mkdir(parents=True, exist_ok=True)
        sentences = [f"The {colour} balloon number {at} flies over mountain and river." for at in range(4 * number)]
        (folder / "notes" / f"{colour}.txt").write_text(f"A note about {colour}.\n\n{' '.join(sentences)}")
    (folder / "photos" / "blue.txt").write_text("a lighthouse by the sea")
    soundfile.write(folder / "tone.wav", wave([(120.0, 8.0), (3000.0, 8.0)], 8_000), 8_000)
    return folder


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("pattern") / "media")


@pytest.fixture
def media(pattern: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pattern, tmp_path / "media"))


@pytest.fixture
def library(tmp_path: Path, media: Path) -> Iterator[Library]:
    """Holds everything in the old model, in small batches."""
    with mmsearch.open(tmp_path / "library", model=OLD, settings=BATCHES) as made:
        made.index(media)
        yield made


def answers(library: Library) -> Answers:
    """Return everything that hits say, for questions that reach every file of the library."""
    found = []
    for question in ("red", "a balloon over the river", "lighthouse", "low", "note about purple"):
        hits = library.query(question, k=100)
        found.append([(round(h.score, 3), h.path, h.view, h.start_s, h.end_s, h.text, h.space) for h in hits])
    return found


def answered_by(library: Library) -> set[str]:
    return {hit[-1] for hits in answers(library) for hit in hits}


def fresh(folder: Path, model: str, *paths: Path) -> Answers:
    """Return what a library answers that was made with a model from the beginning."""
    with mmsearch.open(folder, model=model) as made:
        made.index(*paths)
        return answers(made)


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    return report.added, report.updated, report.reused, report.removed, report.failed


def counted(folder: Path, statement: str) -> int:
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        return int(connection.execute(statement).fetchone()[0])


def assert_nothing_stands_twice(folder: Path) -> None:
    """Every (profile, content, moment, text) has one segment, of a profile and a space that there are."""
    said = "(SELECT group_concat(words) FROM text WHERE segment_id = segment.id)"
    twice = f"profile_id || ' ' || content_id || ' ' || coalesce(start_s, '') || ' ' || coalesce({said}, '')"
    assert counted(folder, f"SELECT count(*) - count(DISTINCT {twice}) FROM segment") == 0
    mixed = "SELECT count(*) FROM embedding JOIN segment ON segment.id = segment_id JOIN space ON space.id = space_id "
    assert counted(folder, mixed + "WHERE segment.profile_id != space.profile_id") == 0
    lost = "SELECT count(*) FROM segment WHERE profile_id NOT IN (SELECT id FROM profile)"
    assert counted(folder, lost) == 0


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The model and the number of contents of every batch that is encoded."""
    seen: list[tuple[str, int]] = []

    def watch(profile: Profile, decoded: Sequence[Decoded]) -> list[Outcome]:
        if decoded:
            seen.append((profile.name, len(decoded)))
        return encode(profile, decoded)

    monkeypatch.setattr(ENCODE, watch)
    return seen


def stop_after(batches: int, stop: threading.Event) -> Callable[[Progress], None]:
    calls: list[int] = []

    def note(state: Progress) -> None:
        calls.append(1)
        if len(calls) > batches and state.done < state.total:  # the first call is before any batch
            stop.set()

    return note


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


def test_media_outside_the_paths_are_embedded_too(library: Library, media: Path, tmp_path: Path) -> None:
    elsewhere = paint(tmp_path / "elsewhere" / "white.png", "white")
    shutil.copy(media / "photos" / "red.png", tmp_path / "elsewhere" / "copy.png")  # its content is met under PATHS
    for name in ("a.png", "b.png"):  # and theirs isn't
        paint(tmp_path / "elsewhere" / name, "black")
    library.index(tmp_path / "elsewhere")
    states: list[Progress] = []
    report = library.index(media / "notes", model=NEW, progress=states.append)
    assert report.switched_to == NEW
    assert counts(report) == (0, 15, 0, 0, 0)  # two are copies
    assert max(state.done for state in states) == states[-1].total == 17
    assert elsewhere in [hit[1] for hit in answers(library)[0]]
    assert answers(library) == fresh(tmp_path / "fresh", NEW, media, tmp_path / "elsewhere")


def test_a_content_that_is_known_by_an_unreachable_name_as_well_is_reached_by_the_other(
    library: Library, media: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copy(media / "photos" / "red.png", disk / "red.png")
    library.index(disk)
    disk.rename(tmp_path / "unmounted")
    assert library.index(media, model=NEW).switched_to == NEW
    assert disk / "red.png" in {hit.path for hit in library.query("red", k=100)}


def test_media_that_cannot_be_reached_prevent_the_switch_until_they_are_there(
    library: Library, media: Path, tmp_path: Path, encoded: list[tuple[str, int]]
) -> None:
    disk = tmp_path / "disk"
    paint(disk / "white.png", "white")
    paint(disk / "black.png", "black")
    library.index(disk)
    before = answers(library)
    encoded.clear()
    disk.rename(tmp_path / "unmounted")
    report = library.index(media, model=NEW)
    assert (report.switched_to, report.unreached) == (None, 2)
    assert report.first_unreached in (disk / "white.png", disk / "black.png")
    assert (answers(library), library.profile) == (before, OLD)
    assert (library.status().changing_to, library.status().changed) == (NEW, 13)
    (tmp_path / "unmounted").rename(disk)
    report = library.index(media, model=NEW)
    assert (counts(report), report.switched_to, report.unreached) == ((0, 2, 0, 0, 0), NEW, 0)
    assert sum(number for _, number in encoded) == 15
    assert answers(library) == fresh(tmp_path / "fresh", NEW, media, disk)


def test_pruning_drops_what_cannot_be_reached_and_switches(library: Library, media: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    paint(disk / "white.png", "white")
    library.index(disk)
    disk.rename(tmp_path / "unmounted")
    assert library.index(media, model=NEW).unreached == 1
    report = library.index(media, model=NEW, prune=True)
    assert (report.switched_to, report.removed, report.unreached) == (NEW, 1, 0)
    assert answers(library) == fresh(tmp_path / "fresh", NEW, media)
    assert library.status().kept_models == ()


def test_an_unmounted_root_is_kept_and_prevents_the_switch(library: Library, media: Path, tmp_path: Path) -> None:
    before = answers(library)
    media.rename(tmp_path / "unmounted")
    media.mkdir()
    report = library.index(media, model=NEW)
    assert (report.kept, report.removed, report.unreached, report.switched_to) == ((media,), 0, 13, None)
    assert answers(library) == before


def test_going_back_embeds_nothing_again(library: Library, media: Path, encoded: list[tuple[str, int]]) -> None:
    before = answers(library)
    library.index(media, model=NEW)
    after = answers(library)
    assert library.status().kept_models == (OLD,)
    encoded.clear()
    assert library.index(media, model=OLD).switched_to == OLD
    assert answers(library) == before
    assert library.status().kept_models == (NEW,)
    added = paint(media / "photos" / "white.png", "white")
    assert counts(library.index(media)) == (1, 0, 0, 0, 0)
    library.index(media, model=NEW)
    assert encoded == [(OLD, 1), (NEW, 1)]
    assert answers(library) != after
    added.unlink()
    library.index(media)
    assert answers(library) == after
    assert_nothing_stands_twice(library.folder)


def test_pruning_drops_the_vectors_and_indexes_of_the_old_model(library: Library, media: Path, tmp_path: Path) -> None:
    for number in range(150):
        (media / "notes" / f"{number}.txt").write_text(f"Number {number} of many notes.")
    library.index(media)
    library.index(media, model=NEW)
    want = answers(library)
    size = library.status().bytes
    folders = {entry.name for entry in (library.folder / "indexes").iterdir() if entry.is_dir()}
    assert folders == {"1", "2"}
    report = library.index(media / "photos", prune=True)
    assert counts(report) == (0, 0, 0, 0, 0)
    assert library.status().bytes < size - 163 * 64 * 2  # the old vectors, if there were nothing else
    assert counted(library.folder, "PRAGMA freelist_count") == 0
    assert {entry.name for entry in (library.folder / "indexes").iterdir() if entry.is_dir()} == {"2"}
    for table in ("segment", "embedded", "space", "revision"):
        assert counted(library.folder, f"SELECT count(*) FROM {table} WHERE profile_id != 2") == 0
    assert counted(library.folder, "SELECT count(*) FROM profile") == 1
    assert answers(library) == want == fresh(tmp_path / "fresh", NEW, media)
    assert library.index(media, model=OLD).updated == 163  # nothing of it was left
    assert answers(library) == fresh(tmp_path / "old", OLD, media)


def test_a_change_that_is_no_longer_wanted_is_dropped_by_pruning(library: Library, media: Path) -> None:
    before = answers(library)
    stop = threading.Event()
    library.index(media, model=NEW, progress=stop_after(1, stop), stop=stop)
    library.index(media, model=OLD)  # which says that this one is to stay
    assert (library.status().changing_to, library.status().kept_models) == (None, (NEW,))
    library.index(media, prune=True)
    assert library.status().kept_models == ()
    assert answers(library) == before
    assert counted(library.folder, "SELECT count(*) FROM segment WHERE profile_id = 2") == 0


def test_a_file_that_only_a_dropped_change_has_embedded_is_out_of_date(
    library: Library, media: Path, tmp_path: Path
) -> None:
    added = paint(tmp_path / "added" / "white.png", "white")
    stop = threading.Event()
    library.index(added, model=NEW, progress=stop_after(1, stop), stop=stop)
    assert library.status().changed > 0
    for prune in (False, True):
        library.index(media, prune=prune)
        assert (library.outdated(), library.status().outdated) == (1, 1)
        assert added not in {hit.path for hit in library.query("white", k=100)}
    assert library.status().kept_models == ()
    assert counts(library.index(added)) == (0, 1, 0, 0, 0)
    assert library.outdated() == 0
    assert answers(library) == fresh(tmp_path / "fresh", OLD, media, added)


def test_a_stopped_change_prunes_nothing(library: Library, media: Path) -> None:
    before = answers(library)
    stop = threading.Event()
    assert library.index(media, model=NEW, prune=True, progress=stop_after(1, stop), stop=stop).interrupted
    assert answers(library) == before
    assert library.index(media, model=NEW, prune=True).switched_to == NEW


def test_files_may_be_renamed_forgotten_added_and_removed_while_the_model_changes(
    library: Library, media: Path, tmp_path: Path, encoded: list[tuple[str, int]]
) -> None:
    stop = threading.Event()
    library.index(media, model=NEW, progress=stop_after(2, stop), stop=stop)
    (media / "photos" / "red.png").rename(media / "renamed.png")
    (media / "notes" / "green.txt").unlink()
    shutil.copy(media / "photos" / "orange.png", media / "copy.png")
    paint(media / "photos" / "purple.png", "white")
    paint(media / "added.png", "brown")
    assert library.forget(media / "tone.wav") == 1
    (media / "tone.wav").unlink()
    encoded.clear()
    assert library.index(media).added == 1  # both go on as if there were no other
    assert [name for name, _ in encoded] == [OLD]
    assert answers(library) == fresh(tmp_path / "old", OLD, media)
    report = library.index(media, model=NEW)
    assert (report.switched_to, report.failed) == (NEW, 0)
    assert answers(library) == fresh(tmp_path / "new", NEW, media)
    assert counted(library.folder, "SELECT count(*) FROM content") == 12
    assert_nothing_stands_twice(library.folder)


def test_a_long_sound_goes_on_in_the_part_that_each_model_has_reached(media: Path, tmp_path: Path) -> None:
    soundfile.write(media / "long.flac", wave([(120.0, 200.0), (3000.0, 200.0)], 8_000), 8_000)
    one_by_one = Settings(workers=1, batch=1)
    with mmsearch.open(tmp_path / "library", model=OLD, settings=one_by_one) as library:
        library.index(media / "long.flac")
        before = answers(library)

        def stop_half_way(state: Progress) -> None:
            if state.under_way is not None:
                stop.set()

        stop = threading.Event()
        report = library.index(media / "long.flac", model=NEW, progress=stop_half_way, stop=stop)
        assert report.interrupted
        half = counted(library.folder, "SELECT count(*) FROM segment WHERE profile_id = 2")
        whole = counted(library.folder, "SELECT count(*) FROM segment WHERE profile_id = 1")
        assert 0 < half < whole
        assert answers(library) == before
        report = library.index(media / "long.flac", model=NEW)
        assert (counts(report), report.switched_to) == ((0, 1, 0, 0, 0), NEW)
        assert answers(library) == fresh(tmp_path / "fresh", NEW, media / "long.flac")
        assert_nothing_stands_twice(library.folder)


# Failures


def test_a_file_that_failed_before_is_not_tried_again_and_prevents_nothing(
    library: Library, media: Path, encoded: list[tuple[str, int]]
) -> None:
    (media / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing of a picture")
    (media / "photos" / "green.json").write_text("{not json")
    assert library.index(media).failed == 2
    failed = library.failures()
    report = library.index(media, model=NEW)
    assert report.switched_to == NEW
    assert [failure.path.name for failure in report.failures] == ["green.json"]  # its photo was read again
    assert library.failures() == failed
    assert counts(library.index(media)) == (0, 0, 0, 0, 0)


def test_a_file_that_breaks_while_the_model_changes_is_taken_out_and_prevents_nothing(
    library: Library, media: Path, tmp_path: Path
) -> None:
    (media / "photos" / "red.png").write_bytes((media / "photos" / "red.png").read_bytes()[:60])
    report = library.index(media / "notes", model=NEW)
    assert (report.switched_to, report.failed) == (NEW, 1)
    assert [failure.path.name for failure in library.failures()] == ["red.png"]
    assert answers(library) == fresh(tmp_path / "fresh", NEW, media)


def test_what_the_new_model_cannot_encode_keeps_its_old_vectors(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[tuple[str, int]]
) -> None:
    before = answers(library)
    with monkeypatch.context() as patch:

        def nothing(profile: Profile, decoded: Sequence[Decoded]) -> list[Outcome]:
            encoded.append((profile.name, len(decoded)))
            paths = [(task, Path(os.fsdecode(task.entry.path))) for task, _ in decoded]
            return [
                (task, Failure(path, Stage.ENCODE, "the tower gives no finite vector for it")) for task, path in paths
            ]

        patch.setattr(ENCODE, nothing)
        report = library.index(media, model=NEW)
        assert (report.failed, report.unreached, report.switched_to) == (13, 13, None)
        assert answers(library) == before
        encoded.clear()
        assert library.index(media, model=NEW).failed == 0  # known, and not tried again
        assert library.index(media, model=NEW, prune=True).switched_to is None  # a model that can nothing drops nothing
        assert answers(library) == before
        assert sum(number for _, number in encoded) == 0
    assert counts(library.index(media, model=NEW, retry=True)) == (0, 13, 0, 0, 0)
    assert answered_by(library) == {NEW}
    assert library.failures() == []


def test_a_file_that_cannot_be_read_prevents_the_switch_and_is_said_once(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = content_digest
    with monkeypatch.context() as patch:

        def refuse(path: bytes, sidecars: tuple[bytes, ...]) -> bytes:
            if path.endswith(b"red.png"):
                raise OSError(5, "I/O error")
            return read(path, sidecars)

        patch.setattr(planner, "content_digest", refuse)
        report = library.index(media, model=NEW)
        assert (report.failed, report.unreached, report.switched_to) == (1, 1, None)
        assert report.first_unreached == media / "photos" / "red.png"
    report = library.index(media, model=NEW)
    assert (counts(report), report.switched_to) == ((0, 1, 0, 0, 0), NEW)
    assert library.failures() == []


# Readers


def test_a_reader_in_another_process_sees_the_switch(library: Library, media: Path) -> None:
    script = (
        "import sys, mmsearch\n"
        f"with mmsearch.open({str(library.folder)!r}) as library:\n"
        "    for _ in sys.stdin:\n"
        "        print(library.profile, *sorted({hit.space for hit in library.query('red', k=50)}), flush=True)\n"
    )
    reader = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask() -> str:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert ask() == f"{OLD} {OLD}"
        library.index(media, model=NEW, prune=True)
        assert ask() == f"{NEW} {NEW}"
        library.index(media, model=OLD)
        assert ask() == f"{OLD} {OLD}"
        reader.stdin.close()


def test_the_new_indexes_are_ready_when_the_new_model_begins_to_answer(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: list[int] = []
    switch = Catalog.switch

    def look(catalog: Catalog, embedded_by: str, *, drop: bool) -> int | None:
        ready.append(len(list((library.folder / "indexes" / "2").rglob("manifest.json"))))
        return switch(catalog, embedded_by, drop=drop)

    monkeypatch.setattr(Catalog, "switch", look)
    library.index(media, model=NEW)
    assert ready == [3]


def test_an_answer_that_was_under_way_at_the_switch_is_made_anew(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with mmsearch.open(library.folder) as reader:
        answers(reader)
        search = Retriever.candidates
        pending = [True]

        def switch_meanwhile(*arguments: Any) -> object:  # noqa: ANN401
            found = search(*arguments)
            if pending:
                pending.clear()
                library.index(media, model=NEW, prune=True)
            return found

        monkeypatch.setattr(Retriever, "candidates", switch_meanwhile)
        got = answers(reader)
        assert not pending
    assert got == fresh(tmp_path / "fresh", NEW, media)


def test_threads_that_ask_while_the_model_changes_get_the_one_or_the_other(library: Library, media: Path) -> None:
    old, done = answers(library), threading.Event()
    seen: list[Answers] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            while not done.is_set():
                hits = library.query("red", k=100)
                seen.append([[(round(h.score, 3), h.path, h.view, h.start_s, h.end_s, h.text, h.space) for h in hits]])
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        library.index(media, model=NEW, prune=True)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
    new = answers(library)
    assert seen
    assert all(answer[0] in (old[0], new[0]) for answer in seen)


# Kills


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


# What an older version wrote, and what a person sees


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
    assert f"profile   {OLD}\n" in status
    assert f"change    to {NEW}: 13 of 14 files; run 'mmsearch index PATH --model {NEW}' again\n" in status
    assert json.loads(run("status", "--json", library=library.folder).stdout)["model"] == OLD
    assert library.forget(disk) == 1
    done = run("index", media, "--model", NEW, "--json", library=library.folder)
    assert f"now uses the model '{NEW}'" in done.stderr
    assert list(json.loads(done.stdout)) == ["added", "updated", "reused", "removed", "failed", "seconds", "failures"]
    status = run("status", library=library.folder).stdout
    assert f"profile   {NEW}\n" in status
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
