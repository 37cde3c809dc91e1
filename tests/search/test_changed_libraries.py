"""Answers follow the files of a library: renamed, deleted, indexed in another order, or written by another process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.search_libraries import MEDIA, draw, found, library_of, make_media, write
from support.search_libraries import library as library
from support.search_libraries import media as media

import mmsearch
from mmsearch import Library


def test_a_content_goes_by_the_first_of_its_paths_in_byte_order(tmp_path: Path) -> None:
    first = draw(tmp_path / "media" / "m.png", "red", "blue")
    for name in ("z.png", "é.png", "a.png", "Z.png", "sub/A.png"):
        (tmp_path / "media" / name).parent.mkdir(exist_ok=True)
        shutil.copy(first, tmp_path / "media" / name)
    draw(tmp_path / "media" / "green.png", "green")
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        hits = library.query("red blue", k=10)
        assert found(hits) == ["Z.png", "green.png"]
        (tmp_path / "media" / "Z.png").unlink()
        library.index(tmp_path / "media")
        assert found(library.query("red blue", k=10)) == ["a.png", "green.png"]
        assert library.query(tmp_path / "media" / "é.png", k=1)[0].path.name == "a.png"


def test_a_deleted_file_is_gone_and_a_renamed_one_found_after_the_next_index(tmp_path: Path) -> None:
    media = make_media(tmp_path / "media")
    with library_of(tmp_path / "library", media) as library:
        assert found(library.query("green", k=1)) == ["green.png"]
        (media / "photos" / "green.png").unlink()
        (media / "photos" / "red.png").rename(media / "photos" / "poppy.png")
        report = library.index(media)
        assert (report.removed, report.reused, report.added) == (2, 1, 0)
        hits = library.query("green", k=100)
        assert "green.png" not in found(hits)
        assert len(hits) == MEDIA - 1
        assert library.query("red", k=1, modalities={"image"})[0].path == media / "photos" / "poppy.png"
        draw(media / "photos" / "leaf.png", "green", "yellow", 0.125)
        library.index(media)
        assert found(library.query("green", k=1)) == ["leaf.png"]


def test_answers_dont_depend_on_the_run_or_on_the_order_of_indexing(
    library: Library, media: Path, tmp_path: Path
) -> None:
    with library_of(tmp_path / "other") as other:
        for paths in (
            [media / "photos" / f"{name}.png" for name in ("yellow", "lake", "flag")],
            [media / "notes"],
            [media],
        ):
            other.index(*paths)
        for item in ("red", "a quiet blue lake", "evening", media / "photos" / "flag.png", media / "notes" / "both.md"):
            for rerank in (False, True):
                hits = library.query(item, k=100, rerank=rerank)
                assert library.query(item, k=100, rerank=rerank) == hits
                again = other.query(item, k=100, rerank=rerank)
                assert [(hit.path, hit.view, hit.text) for hit in again] == [
                    (hit.path, hit.view, hit.text) for hit in hits
                ]
                assert [hit.score for hit in again] == pytest.approx([hit.score for hit in hits], abs=1e-4)


def test_equal_scores_are_ordered_by_path_however_many_there_are(tmp_path: Path) -> None:
    for folder, numbers in (("b", range(80)), ("a", range(80, 160))):
        for number in numbers:
            write(tmp_path / folder / f"{number}.md", "red" + "." * number)  # other bytes, the same word
    with library_of(tmp_path / "library") as library:
        library.index(tmp_path / "b")
        library.index(tmp_path / "a")
        every = library.query("red", k=160)
        assert [hit.path for hit in every] == sorted(tmp_path.glob("?/*.md"))
        assert library.query("red", k=1) == every[:1]


@contextmanager
def another_process_writes(folder: Path) -> Iterator[None]:
    hold = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder / "write.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.communicate()


def test_queries_are_answered_while_another_process_writes(tmp_path: Path) -> None:
    media = make_media(tmp_path / "media")
    with library_of(tmp_path / "library", media) as library:
        before = library.query("red", k=100)
        with another_process_writes(library.folder):
            assert library.query("red", k=100) == before
            with pytest.raises(mmsearch.LockedError, match="another process is writing"):
                library.index(media)
            with mmsearch.open(library.folder) as fresh:
                assert fresh.query("red", k=100) == before
            shutil.rmtree(library.folder / "indexes")
            with mmsearch.open(library.folder) as fresh:
                in_memory = fresh.query("red", k=100)
                assert found(in_memory) == found(before)
            assert not (library.folder / "indexes").exists()
        with mmsearch.open(library.folder) as fresh:
            assert found(fresh.query("red", k=100)) == found(before)
        assert (library.folder / "indexes").is_dir()
