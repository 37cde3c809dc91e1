"""What mmsearch logs: lines by which one can follow an index run and a query, and notices for the terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import REPOSITORY

import mmsearch
from mmsearch import Settings, View
from mmsearch.spaces import load_profile, onnx


def test_every_module_logs_under_its_own_name() -> None:
    for package in ("mmsearch", "indexer"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            for line in file.read_text("utf-8").splitlines():
                if "_log = " in line:
                    assert line.strip() == "_log = logging.getLogger(__name__)", file


def test_a_run_and_a_query_can_be_followed_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    opened = mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1))
    with caplog.at_level(logging.DEBUG, "mmsearch"), opened as library:
        library.index(tmp_path / "note.txt")
        library.query(tmp_path / "note.txt")
    said = [f"{record.name}: {record.getMessage()}" for record in caplog.records if record.levelno == logging.DEBUG]
    for part in (
        "mmsearch.library: indexing",
        "mmsearch.indexes: caught up the index of hashing text: 1 in",
        "mmsearch.library: added 1, updated 0",
        "mmsearch.search.items: decoding",
        "mmsearch.search.engine: 1 terms by",
    ):
        assert any(line.startswith(part) for line in said), (part, said)


def test_the_terminal_shows_debug_lines_only_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    named = [str(tmp_path / "note.txt"), "--library", str(tmp_path / "library")]
    index = [sys.executable, "-m", "mmsearch", "index", *named]
    environment = {**os.environ, "MMSEARCH_DEBUG": "1"}
    loud = subprocess.run([*index, "--model", "hashing"], capture_output=True, text=True, check=True, env=environment)
    assert "mmsearch.library: indexing" in loud.stderr
    quiet = subprocess.run(index, capture_output=True, text=True, check=True)
    assert quiet.stderr == ""


def test_two_first_requests_load_a_tower_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (space,) = load_profile("mini").spaces
    assert isinstance(space, onnx.OnnxSpace)
    began, may_end, loaded = threading.Event(), threading.Event(), []
    real = onnx._load

    def slow(file: Path, device: str, **options: bool) -> object:
        loaded.append(file)
        began.set()
        assert may_end.wait(60)
        return real(file, device, **options)

    monkeypatch.setattr(onnx, "_load", slow)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(space.load, View.TEXT)
        try:
            assert began.wait(60)
            second = threads.submit(space.load, View.TEXT)
            with pytest.raises(TimeoutError):
                second.result(0.2)
        finally:
            may_end.set()
        first.result(60)
        second.result(60)
    assert len(loaded) == 1
