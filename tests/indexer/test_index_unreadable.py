"""What an index run can't reach, list, look at or read loses nothing that the catalog holds of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.photo_library import counts
from support.photo_library import library as library
from support.photo_library import photos as photos

from indexer import scan as scan_module
from indexer.links import Top
from mmsearch import Library


def test_a_root_that_shows_nothing_deletes_nothing_until_pruned(library: Library, photos: Path) -> None:
    library.index(photos)
    photos.rename(photos.with_name("elsewhere"))
    photos.mkdir()
    report = library.index(photos)
    assert (report.removed, report.kept) == (0, (photos,))
    assert len(library.query("red", k=50)) == 8
    assert library.index(photos, prune=True).removed == 8
    assert library.query("red", k=50) == []


def test_a_folder_whose_device_changed_and_shows_nothing_is_kept(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = scan_module.Scan._list

    def on_a_disk(self: scan_module.Scan, folder: bytes, top: Top) -> list[os.DirEntry[bytes]] | None:
        names = listed(self, folder, top)
        if os.path.basename(folder) == b"red" and names:  # noqa: PTH119
            self.devices[folder] = "another disk"
        return names

    monkeypatch.setattr(scan_module.Scan, "_list", on_a_disk)
    library.index(photos)
    for colour in ("red", "blue"):  # one disk is unmounted, one folder emptied
        (photos / colour / "photo.png").unlink()
    report = library.index(photos)
    assert (report.removed, report.kept) == (1, (photos / "red",))
    shutil.rmtree(photos / "red")  # its mount point goes too
    assert library.index(photos).kept == (photos / "red",)
    assert library.index(photos, prune=True).removed == 1


def test_a_folder_that_cannot_be_listed_loses_nothing(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(photos)
    scandir = os.scandir

    def refuse(folder: bytes) -> AbstractContextManager[Iterator[os.DirEntry[bytes]]]:
        if os.path.basename(folder) == b"red":  # noqa: PTH119
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    report = library.index(photos)
    assert (report.removed, report.failed) == (0, 1)
    assert report.failures[0].path == photos / "red"
    assert library.query("red", k=1)[0].path == photos / "red" / "photo.png"


def test_dates_beyond_what_a_catalog_holds_stop_nothing(library: Library, photos: Path) -> None:
    os.utime(photos / "red" / "photo.png", (10_413_792_000, 10_413_792_000))  # the year 2300
    assert counts(library.index(photos)) == (8, 0, 0, 0, 0)
    assert counts(library.index(photos)) == (0, 0, 0, 0, 0)


def test_a_file_that_cannot_be_looked_at_loses_nothing(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(photos)
    stat = os.stat

    def refuse(path: bytes | int | str, **options: bool) -> os.stat_result:
        if isinstance(path, bytes) and path.endswith(b"red/photo.png"):
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    report = library.index(photos)
    assert (report.removed, report.failed) == (0, 1)
    monkeypatch.undo()
    assert library.query("red", k=1)[0].path == photos / "red" / "photo.png"
    assert counts(library.index(photos)) == (0, 0, 0, 0, 0)
    assert library.failures() == []
    assert library.query("red", k=1)[0].path == photos / "red" / "photo.png"


def test_a_file_that_cannot_be_read_keeps_its_row_and_is_tried_again(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(photos)
    os.utime(photos / "red" / "photo.png", ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr("indexer.planner.content_digest", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        assert counts(library.index(photos)) == (0, 0, 0, 0, 1)
    assert library.query("red", k=1)[0].path == photos / "red" / "photo.png"
    assert counts(library.index(photos)) == (0, 0, 1, 0, 0)
    assert library.failures() == []


def test_a_file_that_is_too_large_is_not_even_read(library: Library, photos: Path) -> None:
    with (photos / "huge.jpg").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no space
    report = library.index(photos)
    assert counts(report) == (8, 0, 0, 0, 1)
    assert "larger than 1,024 MB" in report.failures[0].reason


def test_an_unmounted_root_keeps_its_failures(library: Library, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    library.index(photos)
    photos.rename(photos.with_name("elsewhere"))
    photos.mkdir()
    assert library.index(photos).kept == (photos,)
    assert [failure.path for failure in library.failures()] == [photos / "bad.jpg"]
