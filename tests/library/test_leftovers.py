"""What killed processes left half written goes with the next run."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.adapted_maker import make_photos
from support.damaged_libraries import base as base
from support.damaged_libraries import folder as folder
from support.damaged_libraries import index
from support.damaged_libraries import no_hang as no_hang

import mmsearch
from mmsearch.folder import CATALOG
from mmsearch.layout import MARKER
from mmsearch.search import calibration
from mmsearch.spaces import load_profile
from mmsearch.vectors.manifest import Manifest


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
