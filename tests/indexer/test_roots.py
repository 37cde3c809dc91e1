"""A library remembers where its media lie, what was left out there, and what was forgotten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Run
from support.media_maker import put

import mmsearch
from indexer import deletions
from indexer.executors.inline import InlineExecutor
from mmsearch import IndexReport, Library, UsageError
from mmsearch.catalog import Root


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.executors.make_executor", InlineExecutor)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name in ("one.txt", "two.txt", "sub/three.txt", "sub/four.md"):
        note(tmp_path / "media" / name)
    return tmp_path / "media"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return mmsearch.open(tmp_path / "library", model="hashing")


def note(file: Path) -> Path:
    return put(file.parent, file.name, f"a note called {file.stem}")


def counts(report: IndexReport) -> tuple[int, int, int]:
    return report.added, report.removed, report.failed


def held(library: Library) -> set[str]:
    """The names of the files that the library holds."""
    return {hit.path.name for hit in library.query("note", k=50)}


def roots(library: Library) -> dict[str, tuple[str, ...]]:
    return {path.name: globs for path, globs in library.status().roots.items()}


def test_a_run_without_paths_refreshes_every_root_with_its_own_globs(
    library: Library, media: Path, tmp_path: Path
) -> None:
    other = note(tmp_path / "other" / "five.txt").parent
    library.index(media, exclude=["*.md"])
    library.index(other)
    note(media / "new.txt")
    note(media / "new.md")
    note(other / "six.txt")
    (media / "one.txt").unlink()
    assert counts(library.index()) == (2, 1, 0)
    assert held(library) == {"two.txt", "three.txt", "new.txt", "five.txt", "six.txt"}
    assert roots(library) == {"media": ("*.md",), "other": ()}


def test_naming_a_root_again_replaces_its_globs(library: Library, media: Path) -> None:
    library.index(media, exclude=["*.md"])
    assert counts(library.index(media)) == (1, 0, 0)
    assert counts(library.index()) == (0, 0, 0)
    assert roots(library) == {"media": ()}


def test_a_library_that_remembers_nothing_asks_for_a_path(library: Library) -> None:
    with pytest.raises(UsageError, match="name at least one file or folder"):
        library.index()


def test_globs_without_a_path_are_a_usage_error(library: Library, media: Path) -> None:
    library.index(media)
    with pytest.raises(UsageError, match="--exclude applies"):
        library.index(exclude=["*.md"])
    assert roots(library) == {"media": ()}


def test_a_known_file_that_was_deleted_is_a_change(library: Library, media: Path) -> None:
    library.index(media)
    (media / "one.txt").unlink()
    assert counts(library.index(media / "one.txt")) == (0, 1, 0)
    assert "one.txt" not in held(library)


def test_a_known_folder_that_was_deleted_is_a_change(library: Library, media: Path) -> None:
    note(media / "sub" / "deep" / "five.txt")
    library.index(media)
    shutil.rmtree(media / "sub")
    assert counts(library.index(media / "sub" / "deep")) == (0, 1, 0)
    assert counts(library.index(media / "sub")) == (0, 2, 0)
    assert held(library) == {"one.txt", "two.txt"}


def test_a_failed_file_that_was_deleted_is_a_change(library: Library, media: Path) -> None:
    broken = put(media, "broken.png", b"\x89PNG\r\n\x1a\n no picture")
    library.index(media)
    broken.unlink()
    assert counts(library.index(broken)) == (0, 0, 0)
    assert library.failures() == []


def test_a_path_that_neither_exists_nor_is_known_changes_nothing(library: Library, media: Path) -> None:
    library.index(media / "sub")
    with pytest.raises(UsageError, match=r"nope\.txt doesn't exist; nothing was changed"):
        library.index(media, media / "nope.txt")
    assert (held(library), roots(library)) == ({"three.txt", "four.md"}, {"sub": ()})


def test_a_root_that_is_missing_loses_nothing_until_pruned(library: Library, media: Path) -> None:
    library.index(media)
    media.rename(media.with_name("elsewhere"))
    for report in (library.index(), library.index(media)):
        assert (counts(report), report.kept) == ((0, 0, 0), (media,))
    assert len(held(library)) == 4
    report = library.index(prune=True)
    assert (counts(report), report.kept) == ((0, 4, 0), ())
    assert roots(library) == {}


def test_a_root_that_suddenly_is_empty_loses_nothing_until_pruned(library: Library, media: Path) -> None:
    library.index(media)
    shutil.rmtree(media)
    media.mkdir()
    report = library.index()
    assert (counts(report), report.kept) == ((0, 0, 0), (media,))
    assert counts(library.index(prune=True)) == (0, 4, 0)
    assert roots(library) == {"media": ()}  # it is there, and may be filled again


def test_a_missing_root_below_another_one_loses_nothing(library: Library, media: Path) -> None:
    library.index(media / "sub", exclude=["*.rst"])
    library.index(media, exclude=["sub"])
    shutil.rmtree(media / "sub")
    for report in (library.index(), library.index(media)):
        assert report.removed == 0
    assert len(held(library)) == 4


def test_a_missing_root_comes_back(library: Library, media: Path) -> None:
    library.index(media)
    media.rename(media.with_name("elsewhere"))
    library.index()
    media.with_name("elsewhere").rename(media)
    note(media / "new.txt")
    report = library.index()
    assert (counts(report), report.kept) == ((1, 0, 0), ())


def test_a_single_file_that_is_a_root_goes_when_it_is_deleted(library: Library, media: Path) -> None:
    library.index(media / "one.txt", media / "two.txt")
    (media / "one.txt").unlink()
    assert counts(library.index()) == (0, 1, 0)
    note(media / "one.txt")
    assert counts(library.index()) == (1, 0, 0)


def test_a_missing_path_on_another_device_is_kept(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(media)
    shutil.rmtree(media / "sub")
    monkeypatch.setattr(deletions, "_device_above", lambda _path: "the disk below the mount point")
    report = library.index(media / "sub")
    assert (counts(report), report.kept) == ((0, 0, 0), (media / "sub",))
    assert counts(library.index(media / "sub", prune=True)) == (0, 2, 0)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_forgotten_file_stays_out_until_it_is_named(library: Library, media: Path, by_name: bool) -> None:
    library.index(media)
    assert library.forget(media / "one.txt") == 1
    note(media / "new.txt")
    assert counts(library.index(media) if by_name else library.index()) == (1, 0, 0)
    assert "one.txt" not in held(library)
    assert counts(library.index(media / "one.txt")) == (1, 0, 0)
    assert counts(library.index()) == (0, 0, 0)
    assert "one.txt" in held(library)
    assert roots(library) == {"media": ()}


def test_a_forgotten_folder_stays_out_with_all_that_comes_into_it(library: Library, media: Path) -> None:
    library.index(media)
    assert library.forget(media / "sub") == 2
    note(media / "sub" / "new.txt")
    assert counts(library.index()) == (0, 0, 0)
    assert counts(library.index(media / "sub" / "three.txt")) == (1, 0, 0)
    assert counts(library.index(media)) == (0, 0, 0)
    assert counts(library.index()) == (0, 0, 0)
    assert held(library) == {"one.txt", "two.txt", "three.txt"}
    assert counts(library.index(media / "sub")) == (2, 0, 0)


def test_a_forgotten_root_is_no_root_any_more(library: Library, media: Path, tmp_path: Path) -> None:
    other = note(tmp_path / "other" / "five.txt").parent
    library.index(media, other)
    library.forget(media)
    assert roots(library) == {"other": ()}
    assert counts(library.index()) == (0, 0, 0)
    assert counts(library.index(tmp_path, exclude=["library"])) == (0, 0, 0)
    assert counts(library.index(media)) == (4, 0, 0)


def test_an_empty_root_can_be_forgotten(library: Library, media: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    library.index(media, empty)
    assert library.forget(empty) == 0
    assert roots(library) == {"media": ()}
    with pytest.raises(UsageError, match="holds nothing"):
        library.forget(empty)


def test_a_path_that_a_root_takes_in_anyway_is_no_root_of_its_own(library: Library, media: Path) -> None:
    library.index(media)
    library.index(media / "sub", media / "one.txt")
    assert roots(library) == {"media": ()}


def test_a_root_above_others_takes_their_place(library: Library, media: Path) -> None:
    library.index(media / "sub", exclude=["*.md"])
    assert counts(library.index(media)) == (3, 0, 0)
    assert roots(library) == {"media": ()}


def test_a_folder_that_its_root_leaves_out_is_a_root_of_its_own(library: Library, media: Path) -> None:
    library.index(media, exclude=["sub"])
    assert counts(library.index(media / "sub")) == (2, 0, 0)
    for report in (library.index(), library.index(media, exclude=["sub"]), library.index()):
        assert counts(report) == (0, 0, 0)
    assert roots(library) == {"media": ("sub",), "sub": ()}


def test_a_root_below_another_one_keeps_its_own_globs(library: Library, media: Path) -> None:
    library.index(media)
    assert counts(library.index(media / "sub", exclude=["*.md"])) == (0, 1, 0)
    assert counts(library.index()) == (0, 0, 0)
    assert held(library) == {"one.txt", "two.txt", "three.txt"}
    assert roots(library) == {"media": (), "sub": ("*.md",)}


def test_a_hidden_file_that_was_named_stays(library: Library, media: Path) -> None:
    note(media / ".hidden.txt")
    library.index(media)
    assert counts(library.index(media / ".hidden.txt")) == (1, 0, 0)
    for report in (library.index(), library.index(media)):
        assert counts(report) == (0, 0, 0)
    assert ".hidden.txt" in held(library)


def test_a_caption_that_is_named_beside_its_folder_stays_a_caption(library: Library, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    caption = put(tmp_path, "red.txt", "the red one")
    library.index(tmp_path, caption, exclude=["library"])
    assert library.query("the red one", k=1)[0].text == "the red one"
    assert {hit.path.name for hit in library.query("red", k=9)} == {"red.png", "red.txt"}


def test_a_root_with_a_damaged_path_stops_nothing(library: Library, media: Path) -> None:
    library.index(media)
    library._catalog.start_run([Root(b"/damaged\0path")])
    assert counts(library.index()) == (0, 0, 0)


def test_the_command_line_refreshes_forgets_and_says_so(media: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "library"
    assert run("index", library=folder).returncode == 2
    assert not folder.exists()
    assert run("index", media, "--model", "hashing", "--exclude", "*.md", library=folder).returncode == 0
    (media / "one.txt").unlink()
    done = run("index", media / "one.txt", "--json", library=folder)
    assert (done.returncode, json.loads(done.stdout)["removed"]) == (0, 1)
    done = run("index", media / "nope.txt", library=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert run("forget", media / "two.txt", library=folder).returncode == 0
    done = run("index", "--json", library=folder)
    assert (done.returncode, json.loads(done.stdout)["added"]) == (0, 0)
    status = run("status", "--json", library=folder)
    assert json.loads(status.stdout)["roots"] == [str(media)]
    assert f"root      {media}, without *.md" in run("status", library=folder).stdout
