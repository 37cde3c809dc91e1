"""An export that was torn, killed, made twice at once or met a full disk: whole afterwards, or not there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.exports import cache as cache
from support.exports import folder as folder
from support.exports import made as made
from support.exports import name, vector

from mmsearch.errors import ModelError
from mmsearch.spaces import for_indexing, load_profile
from mmsearch.spaces.cache import find_export, is_whole
from mmsearch.spaces.places import cache_folder


@pytest.fixture(scope="session")
def exported(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the model's export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", str(tmp_path_factory.mktemp("exported")))
        load_profile(name(made))
        return cache_folder()


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("image.bin", "cut"),
        ("text.bin", "end"),
        ("text.onnx", "missing"),
        ("tokenizer.json", "empty"),
        ("spec.json", "cut"),
        ("whole.json", "missing"),
        ("whole.json", "empty"),
    ],
)
def test_a_torn_export_is_made_anew(made: Path, exported: Path, cache: Path, file: str, harm: str) -> None:
    shutil.copytree(exported, cache)
    folder = made
    before = vector(folder)
    found = find_export(name(folder))
    assert found is not None
    torn = found / file
    content = torn.read_bytes()
    torn.unlink()
    if harm != "missing":
        torn.write_bytes({"cut": content[: len(content) // 2], "end": content[:-8] + bytes(8), "empty": b""}[harm])
    assert not is_whole(found)
    np.testing.assert_allclose(vector(folder), before, atol=1e-6)
    assert find_export(name(folder)) == found


def test_damage_in_the_middle_is_found_before_a_run(made: Path, exported: Path, cache: Path) -> None:
    shutil.copytree(exported, cache)
    before = vector(made)
    profile = load_profile(name(made))
    found = find_export(name(made))
    assert found is not None
    content = bytearray((found / "text.bin").read_bytes())
    assert len(content) > 2**18
    middle = slice(2**17, len(content) - 2**17)
    content[middle] = bytes(len(content[middle]))
    (found / "text.bin").write_bytes(content)
    assert is_whole(found)
    assert not is_whole(found, thorough=True)
    for_indexing(profile, "cpu")
    assert is_whole(found, thorough=True)
    np.testing.assert_allclose(vector(made), before, atol=1e-6)


def test_an_export_is_killed_at_any_moment_and_leaves_all_or_nothing(folder: Path, cache: Path) -> None:
    random.seed(4)
    code = f"from mmsearch.spaces import load_profile; print('begun', flush=True); load_profile({name(folder)!r})"
    seconds = time.monotonic()
    wanted = vector(folder)
    seconds = time.monotonic() - seconds
    shutil.rmtree(cache)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.3, 1.0) * (seconds + 4))  # a moment, not a wait for something
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = find_export(name(folder))
        assert found is None or is_whole(found)
    np.testing.assert_allclose(vector(folder), wanted, atol=1e-6)
    assert [left.name for left in (cache / "spaces").iterdir() if left.name.startswith(".")] == []


def test_what_a_killed_export_left_beside_its_record_goes_with_the_next_one(folder: Path, cache: Path) -> None:
    load_profile(name(folder))
    (record,) = (cache / "sources").iterdir()
    record.rename(record.with_name(f".{record.name}.4711"))
    foreign = record.with_name(f".{record.name}.txt")
    foreign.write_text("mine")
    load_profile(name(folder))
    assert set(record.parent.iterdir()) == {record, foreign}


def test_two_processes_export_the_same_model_and_one_of_them_does_it(folder: Path) -> None:
    code = f"from mmsearch.spaces import load_profile; print(load_profile({name(folder)!r}).key)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    keys = {process.communicate(timeout=120)[0] for process in both}
    assert len(keys) == 1
    assert keys.pop().startswith("local-dir:")


def test_a_folder_that_cant_be_written_is_said_with_the_remedy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"can't be written .*set MMSEARCH_CACHE"):
        load_profile(name(folder))


def test_a_full_disk_is_said_with_the_remedy_and_leaves_nothing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"the disk is full; free some GB there, or set MMSEARCH_CACHE"):
        load_profile(name(folder))
    assert list((cache / "spaces").iterdir()) == []
