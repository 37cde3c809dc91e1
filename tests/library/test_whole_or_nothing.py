"""A library is made whole or not at all, and nothing appears in the place of one that is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from support.damaged_libraries import base as base
from support.damaged_libraries import folder as folder
from support.damaged_libraries import no_hang as no_hang
from support.damaged_libraries import query, refused, status
from support.old_catalogs import downgrade

import mmsearch
from mmsearch import LibraryError, NoLibraryError
from mmsearch.catalog import Catalog, opening
from mmsearch.errors import CatalogError
from mmsearch.folder import CATALOG
from mmsearch.spaces import Profile, load_profile


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
