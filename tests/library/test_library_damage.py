"""Damaged and hostile libraries: each ends in one line, nothing hangs, and nothing is made in the place of anything."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from support.adapted_maker import make_photos
from support.old_catalogs import downgrade

import mmsearch
from mmsearch import LibraryError, NoLibraryError
from mmsearch.catalog import Catalog, checking, opening
from mmsearch.catalog.checking import find_faults
from mmsearch.errors import CatalogError
from mmsearch.folder import CATALOG
from mmsearch.layout import MARKER
from mmsearch.search import calibration
from mmsearch.spaces import Profile, load_profile
from mmsearch.types import View
from mmsearch.vectors.manifest import Manifest

LIMIT_S = 20


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Fail what waits for ever, instead of waiting with it."""
    if os.name == "nt":
        yield
        return

    def fail(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(3 * LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "library"
    make_photos(folder, 120)
    with mmsearch.open(folder) as library:
        library.index(folder.parent, exclude=["*"])
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "library"))


def index(folder: Path) -> None:
    with mmsearch.open(folder) as library:
        library.index(folder, exclude=["*"])


def query(folder: Path, k: int = 10) -> list[mmsearch.Hit]:
    with mmsearch.Library(folder, create=False) as library:
        return library.query("a drum and a candle", k=k)


def status(folder: Path) -> mmsearch.Status:
    with mmsearch.Library(folder, create=False) as library:
        library.failures()
        return library.status()


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def refused(folder: Path, said: str, *acts: Callable[[Path], object]) -> None:
    for act in acts or (query, status, index):
        with pytest.raises(LibraryError, match=said) as caught:
            act(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


# A disk that nobody can write


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """Lay a library on a disk that is mounted to be read."""
    mount = ["mount", "--bind", str(folder), str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a folder, where the system lets it")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_library_on_a_disk_that_nobody_can_write_answers_and_says_what_it_can_not_do(read_only: Path) -> None:
    with mmsearch.open(read_only) as library:
        assert library.query("a drum and a candle")
        assert library.status().segments
        for act in (lambda: library.index(exclude=["*"]), lambda: library.forget("x")):
            with pytest.raises(LibraryError, match=r"can't be locked for writing.*make it writable"):
                act()


# Anything but a regular file


def pipe(place: Path) -> None:
    os.mkfifo(place)


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def a_socket(place: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as opened:
        opened.bind(os.path.relpath(place))


def a_folder(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine")


odd = pytest.mark.parametrize("make", [pipe, device, a_socket, a_folder], ids=lambda make: make.__name__)
posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices as POSIX systems have them")


@posix
@odd
@pytest.mark.parametrize("name", [CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", f"{CATALOG}-journal"])
def test_a_catalog_that_is_no_regular_file_is_one_line(
    folder: Path, make: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # a socket's path is short
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    refused(folder, "isn't a regular file; move it away")


@posix
@odd
def test_a_lock_that_is_no_regular_file_is_one_line_and_queries_answer(
    folder: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "write.lock").unlink(missing_ok=True)
    make(folder / "write.lock")
    assert len(query(folder)) == 10
    refused(folder, r"write\.lock is a link, or no regular file; remove it", index)


@posix
@odd
def test_a_measurement_that_is_no_regular_file_is_not_used_and_an_index_run_names_it(
    folder: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (bank,) = folder.glob("indexes/1/*/visual.bank.npz")
    monkeypatch.chdir(bank.parent)
    bank.unlink()
    make(bank)
    hits = query(folder)
    assert len(hits) == 10
    assert {hit.confidence for hit in hits if hit.view is View.VISUAL} <= {None}
    refused(folder, r"visual\.bank\.npz is a link, or not mmsearch's own; remove it", index)


def npz(**arrays: object) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("vectors.npy", "w") as packed:
        for _ in range(96):
            packed.write(bytes(2**22))
    return content.getvalue()


def in_archive(array: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("format.npy", array)
    return content.getvalue()


ONES = np.ones((512, 64), np.float16)
ODD_BANKS = {
    "empty": b"",
    "bomb": bomb(),
    "no numbers": npz(format=3, vectors=ONES, stds=ONES[:, 0]),
    "of another dimension": npz(format=3, vectors=ONES[:, :8], stds=ONES[:, 0], numbers=np.ones(5)),
    "of nothing": npz(format=3, vectors=ONES[:0], stds=ONES[:0, 0], numbers=np.ones(5)),
    "not finite": npz(format=3, vectors=ONES * np.nan, stds=ONES[:, 0], numbers=np.ones(5)),
    "without spread": npz(format=3, vectors=ONES, stds=ONES[:, 0] * 0, numbers=np.ones(5)),
    "of text": npz(format=3, vectors=np.asarray(["x"]), stds=ONES[:, 0], numbers=np.ones(5)),
    "flat": npz(format=3, vectors=ONES.ravel(), stds=ONES[:, 0], numbers=np.ones(5)),
    "of a header that Python can't parse": in_archive(b"\x93NUMPY\x01\x00\x29\x23" + b"-" * 9_000 + b"\n"),
    "of another format": npz(format=np.ones(3), vectors=ONES, stds=ONES[:, 0], numbers=np.ones(5)),
}


@pytest.mark.parametrize("name", sorted(ODD_BANKS))
def test_a_damaged_measurement_is_not_used_and_made_again(folder: Path, name: str) -> None:
    (bank,) = folder.glob("indexes/1/*/visual.bank.npz")
    whole = bank.read_bytes()
    bank.write_bytes(ODD_BANKS[name])
    assert calibration._asked(bank, len(name), 64) is None
    assert len(query(folder)) == 10
    index(folder)
    assert bank.read_bytes() == whole


# A catalog that isn't one


def test_an_empty_catalog_is_no_library_and_is_left_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / CATALOG).write_bytes(b"")
    monkeypatch.setattr(mmsearch.model_views, "load_profile", None)  # no model is chosen
    refused(folder, "is empty; run 'mmsearch doctor --repair', restore a copy of it")
    assert (folder / CATALOG).read_bytes() == b""


def test_a_database_without_tables_is_no_library(folder: Path) -> None:
    (folder / CATALOG).unlink()
    change(folder, "PRAGMA journal_mode = WAL", "VACUUM")
    before = (folder / CATALOG).read_bytes()
    refused(folder, "holds no tables; run 'mmsearch doctor --repair', restore a copy")
    assert (folder / CATALOG).read_bytes() == before


LOOP = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS path FROM n)"
ODD_SCHEMAS = {
    "a view in place of a table": ["DROP TABLE run", f"CREATE VIEW run AS SELECT * FROM {LOOP}"],
    "a view that loops": ["DROP TABLE media", f"CREATE VIEW media AS SELECT * FROM {LOOP}"],
    "one more view": ["CREATE VIEW more AS SELECT * FROM media"],
    "a trigger": ["CREATE TRIGGER more AFTER DELETE ON media BEGIN DELETE FROM content; END"],
    "one more table": ["CREATE TABLE more (id INTEGER)"],
    "a virtual table": ["CREATE VIRTUAL TABLE more USING fts5(words)"],
    "a table less": ["DROP TABLE failure"],
    "a column more": ["ALTER TABLE media ADD COLUMN more TEXT"],
    "a column less": ["ALTER TABLE segment DROP COLUMN silent"],
    "a generated column": ["ALTER TABLE run DROP COLUMN report", "ALTER TABLE run ADD COLUMN report TEXT AS (started)"],
    "a column that may be null": ["DROP TABLE setting", "CREATE TABLE setting (key VARCHAR PRIMARY KEY, value TEXT)"],
    "an index less": ["DROP INDEX embedding_by_view"],
    "another index": ["DROP INDEX embedding_by_view", "CREATE INDEX embedding_by_view ON embedding (abs(draw))"],
    "a negative version": ["PRAGMA user_version = -5"],
    "version nought": ["PRAGMA user_version = 0"],
    "an older version than its tables": ["PRAGMA user_version = 1"],
    "another program's": [f"DROP TABLE {name}" for name in ("embedding", "segment", "media", "embedded", "content")],
}


@pytest.mark.parametrize("name", sorted(ODD_SCHEMAS))
def test_a_catalog_of_other_tables_is_one_line_and_is_left_as_it_is(folder: Path, name: str) -> None:
    change(folder, *ODD_SCHEMAS[name])
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        before = list(connection.iterdump())
    refused(folder, r"catalog\.sqlite")
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        assert list(connection.iterdump()) == before


def test_another_programs_database_is_left_as_it_is(folder: Path) -> None:
    (folder / CATALOG).unlink()
    change(folder, "CREATE TABLE media (name TEXT)", "INSERT INTO media VALUES ('mine')", "PRAGMA user_version = 2")
    before = (folder / CATALOG).read_bytes()
    refused(folder, "isn't a catalog of mmsearch")
    assert (folder / CATALOG).read_bytes() == before


def test_a_version_of_the_future_is_said(folder: Path) -> None:
    change(folder, f"PRAGMA user_version = {2**31 - 1}")
    refused(folder, "written by a newer mmsearch")


@pytest.mark.parametrize("content", [b"\x8f" * 40_000, b"SQLite format 3\0" + b"\x01" * 40_000, b"x"])
def test_a_garbled_or_encrypted_catalog_is_one_line(folder: Path, content: bytes) -> None:
    (folder / CATALOG).write_bytes(content)
    refused(folder, "restore a copy of it")


def test_a_log_of_another_catalog_is_not_read_into_a_new_one(folder: Path) -> None:
    (folder / CATALOG).rename(folder / f"{CATALOG}-wal")
    refused(folder, "belongs to a missing catalog", index)
    assert not (folder / CATALOG).exists()


ODD_ROWS = [
    "UPDATE setting SET value = 'text' WHERE key = 'profile'",
    "UPDATE setting SET value = 77 WHERE key = 'profile'",
    "UPDATE profile SET pins = 'no json'",
    "UPDATE profile SET pins = '{}'",
    "UPDATE profile SET pins = '[1, [2]]'",
    f"UPDATE profile SET pins = '{'[' * 100_000}'",
    "UPDATE profile SET name = x'ff'",
    "UPDATE media SET path = 'text' || id",
    "UPDATE media SET path = id",
    "UPDATE text SET words = x'ff'",
    "UPDATE segment SET start_s = 'now'",
    "UPDATE segment SET end_s = x'00'",
    f"UPDATE text SET words = CAST(zeroblob({65 * 2**20}) AS TEXT) WHERE id < 3",
]


@pytest.mark.parametrize("statement", ODD_ROWS, ids=lambda statement: statement[:50])
def test_rows_that_mmsearch_never_writes_are_one_line(folder: Path, statement: str) -> None:
    change(folder, statement)
    with pytest.raises((LibraryError, mmsearch.ModelError)) as caught:
        query(folder, 500)  # the words of every hit are read
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["content SET modality", "embedding SET view", "embedding SET vector"])
def test_rows_that_can_be_left_out_cost_no_answer_but_their_own(folder: Path, column: str) -> None:
    change(folder, f"UPDATE {column} = 'smell' WHERE id = 1")
    query(folder)


def test_failures_of_unknown_stages_are_one_line(folder: Path) -> None:
    change(folder, "INSERT INTO failure (path, stage, reason, stamp, version) VALUES (x'2f', 'smell', 'r', 's', 'v')")
    refused(folder, "a row that mmsearch didn't write", status)


# Made whole or not at all


def test_a_query_makes_nothing_where_there_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    with pytest.raises(NoLibraryError):
        query(tmp_path / "library")
    assert list((tmp_path / "library").iterdir()) == []


def test_a_first_run_that_fails_leaves_no_library_without_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(opening, "_publish", full)
    with pytest.raises(LibraryError, match="No space left"):
        mmsearch.open(tmp_path / "library", model="hashing")
    assert list((tmp_path / "library").iterdir()) == []
    monkeypatch.undo()
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        assert library.profile == "hashing"


def test_a_library_that_never_got_a_model_takes_the_one_that_is_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalog(tmp_path / CATALOG, create=True).close()
    downgrade(tmp_path / CATALOG, 2)  # an older version left such behind on a full disk
    refused(tmp_path, "has no model yet; run 'mmsearch index", query, status)
    loaded: list[str] = []

    def note(name: str | Path, *rest: Any, **more: Any) -> Profile:  # noqa: ANN401  as it stands there
        loaded.append(str(name))
        return load_profile(name, *rest, **more)

    monkeypatch.setattr(mmsearch.model_views, "load_profile", note)
    with mmsearch.open(tmp_path) as library:
        library.index(tmp_path, exclude=["*"], model="hashing")
        assert library.profile == "hashing"
    assert set(loaded) == {"hashing"}


def test_a_kill_while_the_catalog_is_made_leaves_nothing_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(temporary: Path, _file: Path) -> None:
        shutil.copyfile(temporary, tmp_path / f".{CATALOG}.77")  # the kill leaves it
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "_publish", die)
    with pytest.raises(KeyboardInterrupt):
        mmsearch.open(tmp_path, model="hashing")
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == [f".{CATALOG}.77"]
    with mmsearch.open(tmp_path, model="hashing") as library:
        library.index(tmp_path, exclude=["*"])
    assert not (tmp_path / f".{CATALOG}.77").exists()


# Moved or deleted while open


@pytest.mark.parametrize("replaced", [True, False])
def test_a_library_that_is_gone_is_one_line_and_nothing_appears_in_its_place(
    folder: Path, base: Path, tmp_path: Path, *, replaced: bool
) -> None:
    with mmsearch.open(folder) as library:
        library.query("a drum")
        folder.rename(tmp_path / "moved")
        if replaced:
            shutil.copytree(base, folder)
        before = sorted(folder.rglob("*")) if replaced else []
        acts: list[Callable[[], object]] = [
            lambda: library.query("a drum"),
            lambda: library.index(tmp_path, exclude=["*"]),
            lambda: library.forget("/made/1.jpg"),
            library.status,
            library.adapt,
        ]
        for act in acts:
            with pytest.raises(LibraryError, match="was moved or deleted while it was open"):
                act()
        assert (sorted(folder.rglob("*")) if replaced else list(tmp_path.iterdir())) == (
            before if replaced else [tmp_path / "moved"]
        )


def test_a_catalog_that_was_replaced_while_open_is_not_gone_on_with(folder: Path, base: Path) -> None:
    with mmsearch.open(folder) as library:
        library.query("a drum")
        shutil.copyfile(base / CATALOG, folder / "copy")
        (folder / "copy").replace(folder / CATALOG)
        with pytest.raises(CatalogError, match="was moved or deleted while it was open"):
            library.query("a drum")


def test_a_relative_path_means_the_same_from_any_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with mmsearch.open("library") as library:
        monkeypatch.chdir("elsewhere")
        assert library.forget("/made/1.jpg") == 1
        library.index(tmp_path / "elsewhere", exclude=["*"])
        assert len(library.query("a drum")) == 10
        assert library.status().library == folder
    assert list((tmp_path / "elsewhere").iterdir()) == []


# What kills leave


def test_what_killed_processes_left_goes_with_the_next_run(folder: Path) -> None:
    (space,) = (folder / "indexes" / "1").iterdir()
    view = space / "visual"
    old = folder / "indexes" / "9" / "space-0123456789abcdef"
    left = [
        folder / f".{CATALOG}.123",
        space / ".visual.bank.npz.123",
        view / "base-000009-000.faiss",
        view / "delta-000009-000.faiss.tmp",
        view / "deleted-000009.npy",
        view / ".manifest.json.99",
        view / "manifest.json.tmp",
        old / ".text.bank.npz.7",
        old / "text" / "manifest.json",
        folder / "adapted" / ".building-abc" / "heads.npz",
        folder / "adapted" / "0123456789abcdef" / ".spec.json.1",
    ]
    kept = [view / "notes.txt", space / "mine.npz", folder / "indexes" / "9" / "mine", folder / ".catalog.sqlite.mine"]
    for file in (*left, *kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"left")
    index(folder)
    assert [file for file in left if file.exists()] == []
    assert [file for file in kept if not file.exists()] == []
    assert not (folder / "indexes" / "9" / "space-0123456789abcdef").exists()
    assert (folder / "indexes" / MARKER).is_file()


def test_files_half_written_under_a_kept_model_go_too(folder: Path) -> None:
    with mmsearch.open(folder) as library:
        library._catalog.begin_change("mini", ["mini"])  # profile 2: it has begun, and profile 1 answers
        other = folder / "indexes" / "2" / "mini-0123456789abcdef"
        (other / "visual").mkdir(parents=True)
        (other / ".visual.bank.npz.3").write_bytes(b"left")
        (other / "visual" / "base-000001-000.faiss.tmp").write_bytes(b"left")
        (other / "visual" / "manifest.json").write_bytes(Manifest(256, 1, 1, (), None).to_json())
        (other / "visual" / "base-000001-000.faiss").write_bytes(b"an old generation")
        library.forget("/made/5.jpg")
    assert [file.name for file in other.rglob("*") if file.is_file()] == ["manifest.json"]


def test_an_older_generation_goes_even_if_nothing_changes(tmp_path: Path) -> None:
    """A kill between the new manifest and the removal left it for ever, since the next run found nothing to do."""
    folder = tmp_path / "library"
    make_photos(folder, 5)
    index(folder)
    (manifest,) = folder.glob("indexes/1/*/visual/manifest.json")
    (manifest.parent / "base-000000-000.faiss").write_bytes(b"older")
    index(folder)
    assert not (manifest.parent / "base-000000-000.faiss").exists()


def test_a_marker_half_written_goes_with_the_next_run_and_the_marker_stays(folder: Path) -> None:
    (folder / "adapted").mkdir(exist_ok=True)
    index(folder)
    for place in ("indexes", "adapted"):
        (folder / place / f".{MARKER}.77").write_bytes(b"half")
    index(folder)
    assert [path.name for path in folder.rglob(".*") if path.name.endswith(".77")] == []
    assert (folder / "indexes" / MARKER).is_file()


def test_the_texts_of_the_bank_half_written_into_the_cache_go_when_they_are_written_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "cache"))
    (space,) = load_profile("hashing").spaces
    calibration._texts(space)
    (file,) = (tmp_path / "cache" / "banks").iterdir()
    file.rename(file.with_name(f".{file.name}.77"))
    calibration._texts(space)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("value", ["x", "", "99999999999999999999"])
def test_a_change_of_model_that_is_damaged_is_called_off_by_the_next_run(folder: Path, value: str) -> None:
    change(folder, f"INSERT INTO setting (key, value) VALUES ('change', '{value}')")
    index(folder)
    assert status(folder).changing_to is None
    assert query(folder)


def test_vectors_of_megabytes_are_not_read_to_be_found_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(folder, "UPDATE embedding SET vector = zeroblob(3000000) WHERE id <= 3")
    read: list[int] = []
    find = checking._sound

    def watch(rows: list[dict[str, Any]], dims: dict[int, int]) -> list[bool]:
        read.extend(len(row["vector"] or b"") for row in rows)
        return find(rows, dims)

    monkeypatch.setattr(checking, "_sound", watch)
    assert len(find_faults(folder / CATALOG).contents) >= 2
    assert max(read) < 1_000
