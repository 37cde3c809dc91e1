"""Small indexes of known vectors, in folders to be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.vectors import IndexStore, generation

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]
DIM = 16
TABLE: Rows = np.random.default_rng(0).standard_normal((3_000, DIM)).astype(np.float16).astype(np.float32)
HEADER = 118


def span(start: int, stop: int) -> Ids:
    return np.arange(start, stop, dtype=np.int64)


def fetch(ids: Ids) -> tuple[Ids, Rows]:
    return ids, TABLE[ids]


@pytest.fixture(params=[2**23, 0], ids=["in memory", "mapped"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read into memory, or mapped as large ones are."""
    monkeypatch.setattr(generation, "IN_MEMORY_BYTES", request.param)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """The folder of an index of a base, a delta and deleted ids, for 4 to 104 at revision 3."""
    folder = tmp_path / "index"
    store = IndexStore(folder, DIM)
    for revision, live in enumerate((span(1, 101), span(1, 105), span(4, 105)), 1):
        store.catch_up(live, revision, fetch)
    return folder


def one(folder: Path, pattern: str) -> Path:
    (file,) = folder.glob(pattern)
    return file
