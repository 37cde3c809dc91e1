"""A library to be damaged, the acts that meet the damage, and the one line that they have to end in."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mmsearch
from mmsearch import LibraryError
from support.adapted_maker import make_photos

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


def refused(folder: Path, said: str, *acts: Callable[[Path], object]) -> None:
    for act in acts or (query, status, index):
        with pytest.raises(LibraryError, match=said) as caught:
            act(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)
