"""An index that follows a stand-in for the catalog, compared with a plain search after every change."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.vectors import IndexStore, VectorIndex

Ids = NDArray[np.int64]
Rows = NDArray[np.float32]
DIM = 16
TABLE: Rows = np.random.default_rng(0).standard_normal((500, DIM)).astype(np.float16).astype(np.float32)
QUERIES: Rows = np.random.default_rng(1).standard_normal((5, DIM)).astype(np.float32)


@dataclass
class Source:
    """Stands for the catalog: the vector of every id, live ids, and which were asked for."""

    live: Ids
    fetched: list[int] = field(default_factory=list)

    def vectors(self, ids: Ids) -> Rows:
        return TABLE[ids]

    def fetch(self, ids: Ids) -> tuple[Ids, Rows]:
        self.fetched += ids.tolist()
        there = ids[np.isin(ids, self.live)]
        return there, self.vectors(there)


def span(start: int, stop: int) -> Ids:
    return np.arange(start, stop, dtype=np.int64)


def assert_answers_for(index: VectorIndex | None, live: Ids) -> None:
    """The index finds every live id, and nothing else, in the order of a plain search."""
    assert index is not None
    np.testing.assert_array_equal(index.ids(), live)
    assert index.count == len(live)
    expected = QUERIES @ Source(live).vectors(live).T
    scores, found = index.search(QUERIES, len(live) + 3)
    np.testing.assert_array_equal(found[:, : len(live)], live[np.argsort(-expected, axis=1)])
    np.testing.assert_allclose(scores[:, : len(live)], -np.sort(-expected, axis=1), atol=1e-5)
    assert (found[:, len(live) :] == -1).all()


def names(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(file.name for file in folder.glob(pattern))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "indexes" / "visual"


def catch_up(folder: Path, live: Ids, revision: int) -> Source:
    source = Source(live)
    index = IndexStore(folder, DIM).catch_up(live, revision, source.fetch)
    assert_answers_for(index, live)
    assert_answers_for(IndexStore(folder, DIM).open(), live)
    assert IndexStore(folder, DIM).revision() == revision
    return source


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)
