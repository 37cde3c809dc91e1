"""Links in a library's folder: nothing behind them is read as an index, changed, removed or created by any command."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from support.adapted_maker import make_photos
from support.linked_libraries import FILES, FOLDERS, STRAY, adapting, commands, move_out, place, tree
from typer.testing import CliRunner

import mmsearch
from mmsearch import Library, MMSearchError, files
from mmsearch.cli.app import app
from mmsearch.doctor import examine
from mmsearch.errors import CatalogError, LibraryError, LinkError, LockedError
from mmsearch.folder import LibraryFolder
from mmsearch.layout import INDEXES, MARKER
from mmsearch.locking import write_lock
from mmsearch.types import View

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a library that was adapted, so that it has two models with their indexes, and a folder of heads."""
    folder = tmp_path_factory.mktemp("base") / "library"
    make_photos(folder, 104)
    with mmsearch.open(folder) as library, adapting():
        library.index(folder.parent, exclude=["*"])
        assert library.adapt().adapted
    return folder


@pytest.fixture
def library(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "library"))


@pytest.mark.parametrize("names", [*([name] for name in FOLDERS + FILES), STRAY], ids=lambda names: names[0])
def test_no_command_touches_anything_behind_a_link(library: Path, tmp_path: Path, names: list[str]) -> None:
    outside = tmp_path / "home"
    outside.mkdir()
    for n, (name, link) in enumerate([(name, place(library, name)) for name in names]):
        move_out(name, link, outside / str(n))
    before = tree(outside)
    with adapting():
        for command, act in commands(tmp_path, again=names[0] in ("adapted", "indexes")):
            try:
                with mmsearch.open(library) as opened:
                    act(opened)
            except MMSearchError as error:
                assert "\n" not in str(error)
            assert tree(outside) == before, command
    for words in (
        ["model", "list"],
        ["status", "--library", str(library)],
        ["query", "drum", "--library", str(library)],
    ):
        CliRunner().invoke(app, words)
    assert tree(outside) == before


@pytest.mark.parametrize(
    "name", [name for name in FOLDERS + FILES if name.startswith("indexes/2") or name == "indexes"]
)
def test_a_query_answers_all_the_same_and_an_index_run_says_which_link_to_remove(
    library: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with mmsearch.open(library) as opened:
        want = [(hit.path, hit.score) for hit in opened.query("a drum and a candle")]
    link, target = place(library, name), tmp_path / "home" / "thing"
    target.parent.mkdir()
    shutil.move(link, target) if os.path.lexists(link) else target.mkdir()
    (target / MARKER).unlink() if name == "indexes" else None
    link.symlink_to(target)
    with mmsearch.open(library) as opened:
        got = opened.query("a drum and a candle")
        assert [hit.path for hit in got] == [path for path, _ in want]
        assert [hit.score for hit in got] == pytest.approx([score for _, score in want], abs=2e-3)
        used = "other" not in name  # no space is called that
        if used:
            assert "bank" in name or str(link) in caplog.text  # without the bank there is only no confidence
            with pytest.raises(LinkError, match=str(link)) as caught:
                opened.index(tmp_path / "home", exclude=["*"])
            assert "\n" not in str(caught.value)
            link.unlink()
        opened.index(tmp_path / "home", exclude=["*"])
        assert not any(line.stale for line in opened.status().indexes)


def test_indexes_may_be_moved_to_another_disk_and_linked(library: Path, tmp_path: Path) -> None:
    for name in ("indexes", "adapted"):
        shutil.move(library / name, tmp_path / "fast" / name)
        (library / name).symlink_to(tmp_path / "fast" / name)
    with mmsearch.open(library) as opened:
        assert len(opened.query("a drum")) == 10
        opened.forget("/made/3.jpg")
        assert not any(line.stale for line in opened.status().indexes)
        opened.index(tmp_path / "fast", exclude=["*"], model="hashing", prune=True)
    assert {entry.name for entry in (tmp_path / "fast" / "indexes").iterdir()} == {MARKER, "1"}
    kept = {entry.name for entry in (tmp_path / "fast" / "adapted").iterdir()}  # a copy of the library may need it
    assert MARKER in kept and len(kept) == 2


def test_indexes_may_be_a_link_to_an_empty_folder(library: Path, tmp_path: Path) -> None:
    shutil.rmtree(library / "indexes")
    (tmp_path / "fast").mkdir()
    (library / "indexes").symlink_to(tmp_path / "fast")
    with mmsearch.open(library) as opened:
        opened.query("a drum")
    assert {entry.name for entry in (tmp_path / "fast").iterdir()} == {MARKER, "2"}


def test_indexes_of_another_library_are_not_taken_for_its_own(library: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "other", 20)
    with mmsearch.open(tmp_path / "other") as opened:
        opened.query("a drum")
    before = tree(tmp_path / "other" / "indexes")
    shutil.rmtree(library / "indexes")
    (library / "indexes").symlink_to(tmp_path / "other" / "indexes")
    with mmsearch.open(library) as opened:
        assert len(opened.query("a drum")) == 10
        with pytest.raises(LinkError, match="isn't this library's"):
            opened.index(tmp_path / "other", exclude=["*"])
    assert tree(tmp_path / "other" / "indexes") == before


def test_the_library_itself_may_be_reached_through_a_link(library: Path, tmp_path: Path) -> None:
    (tmp_path / "by").symlink_to(library)
    with mmsearch.open(tmp_path / "by") as opened:
        assert len(opened.query("a drum")) == 10
        assert opened.forget("/made/3.jpg") == 1


def test_the_catalog_may_lie_on_another_disk(library: Path, tmp_path: Path) -> None:
    shutil.move(library / "catalog.sqlite", tmp_path / "fast.sqlite")
    (library / "catalog.sqlite").symlink_to(tmp_path / "fast.sqlite")
    with mmsearch.open(library) as opened:
        assert opened.forget("/made/3.jpg") == 1
        assert len(opened.query("a drum")) == 10


def test_a_catalog_that_is_a_link_to_nothing_makes_no_file(library: Path, tmp_path: Path) -> None:
    (library / "catalog.sqlite").unlink()
    (library / "catalog.sqlite").symlink_to(tmp_path / "gone.sqlite")
    with pytest.raises(CatalogError, match="is a broken link"):
        mmsearch.open(library)
    assert not (tmp_path / "gone.sqlite").exists()


def test_a_query_through_linked_heads_is_refused_in_one_line(library: Path, tmp_path: Path) -> None:
    shutil.move(place(library, "adapted/HEADS"), tmp_path / "heads")
    place_of = library / "adapted" / (tmp_path / "heads").name
    with suppress(FileNotFoundError):
        place_of.unlink()
    name = next(row.name for row in mmsearch.open(library)._catalog.profiles() if row.id == 2).partition(":")[2]
    (library / "adapted" / name).symlink_to(tmp_path / "heads")
    with mmsearch.open(library) as opened, pytest.raises(LibraryError, match=name):
        opened.query("a drum")


def test_a_measurement_behind_a_link_is_not_used(library: Path, tmp_path: Path) -> None:
    bank = place(library, "indexes/2/SPACE/visual.bank.npz")
    with mmsearch.open(library) as opened:
        seen = opened.seen()
        assert seen.engine._calibration.bank_scores(seen.profile.spaces[0], View.VISUAL) is not None
        shutil.move(bank, tmp_path / "bank.npz")
        bank.symlink_to(tmp_path / "bank.npz")
        assert seen.engine._calibration.bank_scores(seen.profile.spaces[0], View.VISUAL) is None


def test_a_repair_changes_no_database_behind_a_link(library: Path, tmp_path: Path) -> None:
    target = tmp_path / "app.db"
    (library / "catalog.sqlite").rename(target)
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT 1")
        connection.commit()
    (library / "catalog.sqlite").symlink_to(target)
    before = target.read_bytes()
    with mmsearch_doctor(library) as checks:
        assert not all(check.ok for check in checks)
    assert target.read_bytes() == before


def test_a_repair_removes_nothing_behind_a_link(library: Path, tmp_path: Path) -> None:
    for name in ("indexes", "adapted"):
        shutil.rmtree(library / name, ignore_errors=True)
        stray = tmp_path / "other" / name / ".heads.npz.77"
        stray.parent.mkdir(parents=True)
        stray.write_bytes(b"mine")
        stray.with_name("manifest.json.tmp").write_bytes(b"mine")
        (library / name).symlink_to(stray.parent)
    before = tree(tmp_path / "other")
    with mmsearch_doctor(library):
        assert tree(tmp_path / "other") == before


def test_the_catalog_of_another_library_is_not_written_through_a_link(library: Path, tmp_path: Path) -> None:
    other = tmp_path / "strangers"
    other.mkdir()
    (other / "catalog.sqlite").symlink_to(library / "catalog.sqlite")
    with Library(library, create=False) as opened:
        expected = opened.query("red")
    with Library(other, create=False) as opened:
        with pytest.raises(LinkError, match="is a link to the catalog of another library; use --library "):
            opened.forget(expected[0].path)
        with pytest.raises(LinkError, match="is a link to the catalog of another library"):
            opened.index(expected[0].path.parent)


def test_two_libraries_that_link_one_catalog_exclude_each_other(library: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (library / "catalog.sqlite").rename(far / "catalog.sqlite")
    (library / "catalog.sqlite").symlink_to(far / "catalog.sqlite")
    with LibraryFolder(library).lock("index"), pytest.raises(LockedError), write_lock(far, 0.0):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-journal"])
def test_the_doctor_waits_for_no_pipe(library: Path, name: str) -> None:
    with suppress(FileNotFoundError):
        (library / name).unlink()
    os.mkfifo(library / name)
    with mmsearch_doctor(library) as checks:
        assert any("isn't a regular file" in check.detail for check in checks)


def test_a_constraint_of_a_strangers_catalog_is_not_evaluated(library: Path, tmp_path: Path) -> None:
    busy = "CHECK (instr(zeroblob(60000000), zeroblob(30000000) || x'01') = 0)"
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = rtrim(sql, ') \n') || '), ' || ? || ')' WHERE name = 'failure'", (busy,)
        )
        connection.commit()
    with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
        assert "instr" in connection.execute("SELECT sql FROM sqlite_master WHERE name = 'failure'").fetchone()[0]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with Library(library, create=False) as opened:
        report = opened.index(tmp_path / "broken.png")  # a failure is a row of that table
    assert report.failed == 1
    assert report.seconds < 20


def test_a_folder_that_was_swapped_for_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, mine = tmp_path / "indexes", tmp_path / "mine"
    own = root / "9" / f"mini-{'0' * 16}" / "visual"
    own.mkdir(parents=True)
    mine.mkdir()
    for folder in (own, mine):
        (folder / "manifest.json").write_text("mine")
    looked = files._is_folder

    def swap(path: Path | str, above: int | None = None) -> bool:
        found = looked(path, above)
        if Path(path).name == "visual" and not own.is_symlink():  # right after the look
            shutil.rmtree(own)
            own.symlink_to(mine)
        return found

    monkeypatch.setattr(files, "_is_folder", swap)
    files.remove_own(root, root, INDEXES, lambda _: True)
    assert (mine / "manifest.json").read_text() == "mine"


@contextmanager
def mmsearch_doctor(library: Path) -> Iterator[list[mmsearch.Check]]:
    """Repair a library twice: as it is, and once more."""
    examine(library, lambda: Library(library, create=False), repair=True)
    yield examine(library, lambda: Library(library, create=False), repair=True)
