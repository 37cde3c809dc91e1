"""Indexes that are gone, of another catalog or ahead of theirs are never trusted, however deep a query looks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.photo_library import COLOURS, paint
from support.photo_library import library as library
from support.photo_library import photos as photos

import mmsearch
from mmsearch import Library, View


def test_a_vanished_index_is_rebuilt_from_the_catalog(library: Library, photos: Path) -> None:
    library.index(photos)
    want = [(hit.path, round(hit.score, 4)) for hit in library.query("red", k=8)]
    shutil.rmtree(library.folder / "indexes")
    with mmsearch.open(library.folder) as again:
        assert all(index.stale for index in again.status().indexes)
        assert [(hit.path, round(hit.score, 4)) for hit in again.query("red", k=8)] == want
        assert not [index for index in again.status().indexes if index.stale and index.view == "visual"]


def assert_every_photo_finds_itself(library: Library, photos: Path) -> None:
    for file in sorted(photos.rglob("*.png")):
        vector = library.embed([file])
        seen = library.seen()
        index = seen.indexes.get(seen.profile.spaces[0], View.VISUAL)
        (nearest,) = index.search(vector, 1)[1][0].tolist()
        (row,) = seen.catalog.segment_rows(seen.catalog.segments_of([nearest]).values()).values()
        assert row.path == os.fsencode(file)


def test_an_index_of_another_catalog_is_not_trusted(library: Library, photos: Path) -> None:
    library.index(photos)
    library.close()
    for file in library.folder.glob("catalog.sqlite*"):
        file.unlink()
    (photos / "red" / "photo.png").rename(photos / "zred.png")  # the ids now stand for other photos
    with mmsearch.open(library.folder, model="hashing") as again:
        assert again.index(photos).added == 8
        assert_every_photo_finds_itself(again, photos)


def test_an_index_ahead_of_a_restored_catalog_is_not_trusted(library: Library, photos: Path, tmp_path: Path) -> None:
    library.index(photos / "red", photos / "blue")
    library.close()
    shutil.copy(library.folder / "catalog.sqlite", tmp_path / "backup.sqlite")
    with mmsearch.open(library.folder) as later:
        later.index(photos)
    shutil.copy(tmp_path / "backup.sqlite", library.folder / "catalog.sqlite")
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (library.folder / name).unlink(missing_ok=True)
    shutil.rmtree(photos / "green")
    with mmsearch.open(library.folder) as restored:
        assert restored.index(photos).added == 5
        assert_every_photo_finds_itself(restored, photos)


def test_a_query_for_a_text_behind_a_long_book_finds_it_at_any_k(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "book.txt").write_text("\n\n".join(f"zebra zebra zebra chapter {n}." for n in range(400)))
    (folder / "note.txt").write_text("zebra grass.")
    for number in range(80):
        (folder / f"other{number}.txt").write_text(f"nothing of the kind, {number} times.")
        paint(folder / f"{number}.png", COLOURS[number % 8], number % 50)
    library.index(folder)
    for k in (2, 3, 10, 200):
        names = [hit.path.name for hit in library.query("zebra", k=k) if hit.modality == "text"]
        assert names[:2] == ["book.txt", "note.txt"]
