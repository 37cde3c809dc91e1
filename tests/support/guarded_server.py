"""A server that other machines reach with a token, and a library of its own for a test that spoils it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import mmsearch
from mmsearch import Settings
from support.serving import serving

TOKEN = "a token that nobody guesses"
ELSEWHERE = "http://192.0.2.7:7700"


@pytest.fixture(scope="module")
def guarded(library: Path) -> Iterator[TestClient]:
    """A client of a server that other machines reach."""
    with serving(library, "0.0.0.0", TOKEN, ELSEWHERE) as client:
        yield client


def library_of(folder: Path, *roots: Path) -> dict[str, int]:
    with mmsearch.open(folder, model="hashing", settings=Settings(workers=1)) as library:
        library.index(*roots)
        return {item.path.name: item.id for item in library.items()}
