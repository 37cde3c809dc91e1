"""An index run keeps the catalog to what the folders hold, and embeds nothing twice."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.photo_library import COLOURS, counts, paint
from support.photo_library import library as library
from support.photo_library import photos as photos

import mmsearch
from mmsearch import CatalogError, Library, LockedError, Modality, ModelError, Settings, UsageError


def embedding_ids(library: Library) -> set[int]:
    connection = sqlite3.connect(library.folder / "catalog.sqlite")
    try:
        return {row[0] for row in connection.execute("SELECT id FROM embedding")}
    finally:
        connection.close()


def test_rename_move_and_copy_reuse_vectors_without_recomputing(library: Library, photos: Path) -> None:
    assert counts(library.index(photos)) == (8, 0, 0, 0, 0)
    before = embedding_ids(library)
    (photos / "red" / "photo.png").rename(photos / "red" / "renamed.png")
    (photos / "green").rename(photos / "moved")
    shutil.copy(photos / "blue" / "photo.png", photos / "blue" / "copy.png")
    assert counts(library.index(photos)) == (0, 0, 3, 2, 0)
    assert embedding_ids(library) == before
    assert library.query("red", k=1)[0].path == photos / "red" / "renamed.png"
    assert library.query("green", k=1)[0].path == photos / "moved" / "photo.png"
    assert library.query("blue", k=1)[0].path == photos / "blue" / "copy.png"  # the first path in byte order


def test_two_files_that_swap_names_keep_their_vectors(library: Library, photos: Path) -> None:
    library.index(photos)
    before = embedding_ids(library)
    red, blue, aside = photos / "red" / "photo.png", photos / "blue" / "photo.png", photos / "aside"
    red.rename(aside)
    blue.rename(red)
    aside.rename(blue)
    os.utime(red, ns=(1, 1))  # two files written in the same instant would look unchanged
    os.utime(blue, ns=(2, 2))
    assert counts(library.index(photos)) == (0, 0, 2, 0, 0)
    assert embedding_ids(library) == before
    assert library.query("red", k=1)[0].path == blue


def test_an_edited_file_is_embedded_anew_and_a_deleted_one_is_gone(library: Library, photos: Path) -> None:
    library.index(photos)
    paint(photos / "red" / "photo.png", "white")
    (photos / "blue" / "photo.png").unlink()
    assert counts(library.index(photos)) == (0, 1, 0, 1, 0)
    assert library.query("white", k=1)[0].path == photos / "red" / "photo.png"
    assert photos / "blue" / "photo.png" not in [hit.path for hit in library.query("blue", k=50)]
    assert library.status().segments == 7


def test_a_touched_file_is_reused(library: Library, photos: Path) -> None:
    library.index(photos)
    os.utime(photos / "red" / "photo.png", ns=(5, 5))
    assert counts(library.index(photos)) == (0, 0, 1, 0, 0)
    assert counts(library.index(photos)) == (0, 0, 0, 0, 0)


def test_copies_in_one_first_run_are_embedded_once(library: Library, photos: Path) -> None:
    for number in range(5):
        shutil.copy(photos / "red" / "photo.png", photos / f"copy{number}.png")
    assert counts(library.index(photos)) == (8, 0, 5, 0, 0)
    assert len(embedding_ids(library)) == 8
    assert len(library.query("red", k=50)) == 8


def test_copies_are_found_again_however_far_apart_they_are(photos: Path, tmp_path: Path) -> None:
    for number in range(120):
        paint(photos / f"{number:03d}.png", f"#{number * 40_009 % 0xFFFFFF:06x}", mark=9)
    for number in range(40):
        shutil.copy(photos / f"{number:03d}.png", photos / f"z{number:03d}.png")
    settings = Settings(workers=1, batch=2)
    with mmsearch.open(tmp_path / "small batches", model="hashing", settings=settings) as library:
        assert counts(library.index(photos)) == (128, 0, 40, 0, 0)
        assert len(embedding_ids(library)) == 128


def test_copies_of_a_broken_file_fail_each_and_are_not_tried_again(library: Library, photos: Path) -> None:
    for number in range(40):
        (photos / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff nothing of a picture")
    assert counts(library.index(photos)) == (8, 0, 0, 0, 40)
    assert counts(library.index(photos)) == (0, 0, 0, 0, 0)
    assert counts(library.index(photos, retry=True)) == (0, 0, 0, 0, 40)
    assert library.status().failures == 40
    (photos / "broken0.jpg").unlink()
    paint(photos / "broken1.jpg", "white")
    assert counts(library.index(photos)) == (1, 0, 0, 0, 0)
    assert library.status().failures == 38


def test_a_file_that_breaks_loses_its_old_content_and_heals(library: Library, photos: Path) -> None:
    library.index(photos)
    good = (photos / "red" / "photo.png").read_bytes()
    (photos / "red" / "photo.png").write_bytes(good[:60])
    assert counts(library.index(photos)) == (0, 0, 0, 0, 1)
    assert photos / "red" / "photo.png" not in [hit.path for hit in library.query("red", k=50)]
    (photos / "red" / "photo.png").write_bytes(good)
    assert counts(library.index(photos)) == (1, 0, 0, 0, 0)
    assert library.failures() == []


def test_a_caption_beside_a_photo_is_its_text_view(library: Library, photos: Path) -> None:
    library.index(photos)
    (photos / "red" / "photo.txt").write_text("the old lighthouse")
    assert counts(library.index(photos)) == (0, 1, 0, 0, 0)
    (hit,) = library.query("lighthouse", k=1)
    assert (hit.path, hit.view, hit.text) == (photos / "red" / "photo.png", "text", "the old lighthouse")
    assert library.status().media[Modality.TEXT] == 0
    (photos / "red" / "photo.txt").unlink()
    assert counts(library.index(photos)) == (0, 1, 0, 0, 0)
    assert {hit.view for hit in library.query("lighthouse", k=50)} == {"visual"}


def test_a_broken_caption_is_recorded_and_its_photo_kept(library: Library, photos: Path) -> None:
    (photos / "red" / "photo.json").write_text("{not json")
    report = library.index(photos)
    assert counts(report) == (8, 0, 0, 0, 1)
    assert report.failures[0].path == photos / "red" / "photo.json"
    assert counts(library.index(photos)) == (0, 0, 0, 0, 0)
    assert [failure.path for failure in library.failures()] == [photos / "red" / "photo.json"]
    (photos / "red" / "photo.json").write_text('{"caption": "a lighthouse"}')
    assert counts(library.index(photos)) == (0, 1, 0, 0, 0)
    assert library.failures() == []


def test_only_what_lies_below_the_paths_of_a_run_changes(library: Library, photos: Path) -> None:
    library.index(photos)
    (photos / "red" / "photo.png").unlink()
    (photos / "blue" / "photo.png").unlink()
    paint(photos / "blue" / "other.png", "black", 9)
    assert counts(library.index(photos / "blue")) == (1, 0, 0, 1, 0)
    assert counts(library.index(photos)) == (0, 0, 0, 1, 0)


def test_single_files_globs_and_several_paths(library: Library, photos: Path) -> None:
    assert counts(library.index(photos / "red" / "photo.png", photos / "blue")) == (2, 0, 0, 0, 0)
    assert counts(library.index(photos, exclude=["gr*", "yellow/*.png"])) == (4, 0, 0, 0, 0)


def test_the_library_may_lie_inside_what_it_indexes(photos: Path) -> None:
    with mmsearch.open(photos / "library", model="hashing") as library:
        paint(photos / "library" / "cache" / "x.png", "white")
        assert counts(library.index(photos)) == (8, 0, 0, 0, 0)


def test_forget_takes_out_a_folder_and_leaves_the_files(library: Library, photos: Path) -> None:
    library.index(photos)
    assert library.forget(photos / "red", photos / "blue" / "photo.png") == 2
    assert (photos / "red" / "photo.png").exists()
    assert len(library.query("red", k=50)) == 6
    with pytest.raises(UsageError, match="holds nothing"):
        library.forget(photos / "green", photos / "red")
    assert len(library.query("red", k=50)) == 6


def test_an_open_reader_sees_a_finished_run(library: Library, photos: Path) -> None:
    library.index(photos)
    with mmsearch.open(library.folder) as reader:
        assert len(reader.query("red", k=50)) == 8
        paint(photos / "new.png", "red", 20)
        library.index(photos)
        assert len(reader.query("red", k=50)) == 9


def test_one_writer_at_a_time(library: Library, photos: Path) -> None:
    with (
        mmsearch.open(library.folder) as other,
        other._place.lock("index"),
        pytest.raises(LockedError, match=r"PID \d+"),
    ):
        library.index(photos)


def test_another_model_is_refused_and_a_missing_path_changes_nothing(library: Library, photos: Path) -> None:
    library.index(photos)
    with pytest.raises(ModelError, match=r"'hashing', not 'mini'; change that with 'mmsearch index PATH --model mini"):
        mmsearch.open(library.folder, model="mini")
    with pytest.raises(UsageError, match="doesn't exist"):
        library.index(photos, photos / "nope")


def test_contents_of_another_fingerprint_are_embedded_anew(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(photos)
    monkeypatch.setattr("mmsearch.spaces.hashing.HashingSpace.fingerprint", "hashing-2")
    with mmsearch.open(library.folder) as later:
        assert later.status().outdated == 8
        assert later.query("red") == []  # vectors of two fingerprints are never compared
        assert counts(later.index(photos)) == (0, 8, 0, 0, 0)
        assert (later.status().outdated, len(later.query("red", k=50))) == (0, 8)


def test_a_script_without_a_main_guard_can_index(photos: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        f"import mmsearch\nlibrary = mmsearch.open({str(tmp_path / 'l')!r}, model='hashing')\n"
        f"print(library.index({str(photos)!r}).added)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("8\n", "")


@pytest.mark.parametrize("order", [["", "red"], ["red", ""]])
def test_roots_inside_each_other_lose_nothing(library: Library, photos: Path, order: list[str]) -> None:
    roots = [photos / name for name in order]
    assert counts(library.index(*roots)) == (8, 0, 0, 0, 0)
    for colour in COLOURS[1:]:
        (photos / colour / "photo.png").unlink()
    report = library.index(*roots)
    assert (report.removed, report.kept) == (7, ())


def test_a_root_that_another_root_links_to_keeps_its_own_names(library: Library, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(photos)
    library.index(photos)
    report = library.index(tmp_path / "other", photos)
    assert (counts(report), report.kept) == ((0, 0, 0, 0, 0), ())


def test_a_closed_library_says_so(library: Library, photos: Path) -> None:
    library.index(photos)
    library.close()
    with pytest.raises(CatalogError, match="closed"):
        library.query("red")
