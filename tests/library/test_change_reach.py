"""Media that a change of model can't reach, read or embed: which of them prevent the switch, and which don't."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.model_changes import ENCODE, NEW, OLD, answered_by, answers, counts, fresh, paint
from support.model_changes import encoded as encoded
from support.model_changes import library as library
from support.model_changes import media as media
from support.model_changes import pattern as pattern

from indexer import planner
from indexer.executors.base import Outcome
from indexer.executors.encode import Decoded
from mmsearch import Library, Progress
from mmsearch.media import content_digest
from mmsearch.spaces import Profile
from mmsearch.types import Failure, Stage


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
