"""The vectors of two models beside each other: going back, pruning, and files that change while both are kept."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import soundfile
from support.clip_maker import wave
from support.model_changes import (
    NEW,
    OLD,
    answers,
    assert_nothing_stands_twice,
    counted,
    counts,
    fresh,
    paint,
    stop_after,
)
from support.model_changes import encoded as encoded
from support.model_changes import library as library
from support.model_changes import media as media
from support.model_changes import pattern as pattern

import mmsearch
from mmsearch import Library, Progress, Settings


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
