"""Catalogs of a few contents with vectors that are drawn by a seed, in every implementation that there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmsearch.catalog import Catalog, MediaRow, NewContent, NewMedia, catalog, profiles, writing
from mmsearch.catalog.rows import NewSegment
from mmsearch.records import Origin, Segment, Text
from mmsearch.types import Modality, View

Vector = NDArray[np.float32]
Open = Callable[[], Catalog]
DIM = 8


def sqlite_catalog(folder: Path) -> Catalog:
    return Catalog(folder / "catalog.sqlite", create=True)


@pytest.fixture(params=[sqlite_catalog], ids=lambda made: made.__name__)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same catalog as often as it is called."""
    opened: list[Catalog] = []

    def again() -> Catalog:
        opened.append(request.param(tmp_path))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


@pytest.fixture
def held(reopen: Open) -> Catalog:
    return reopen()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement that goes in parts takes three values, and a page is of three rows."""
    monkeypatch.setattr(writing, "PART", 3)
    monkeypatch.setattr(catalog, "PART", 3)
    monkeypatch.setattr(profiles, "PART", 3)


def vector(seed: int) -> Vector:
    drawn = np.random.default_rng(seed).standard_normal(DIM)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def rounded(*vectors: Vector) -> Vector:
    return np.stack(vectors).astype(np.float16).astype(np.float32)


def named(path: bytes | str, size_bytes: int = 1, mtime_ns: int = 1) -> NewMedia:
    return NewMedia(os.fsencode(path), size_bytes, mtime_ns, "", "66305")


def segment(vectors: Mapping[tuple[int, View], Vector], text: str | None = None) -> NewSegment:
    return Segment(vectors, texts=() if text is None else (Text(Origin.PASSAGE, text),))


def content(
    digest: bytes | str,
    *segments: NewSegment,
    at: Sequence[bytes | str] = (),
    modality: Modality = Modality.IMAGE,
) -> NewContent:
    return NewContent(os.fsencode(digest), modality, segments, [named(path) for path in at])


def photo(held: Catalog, path: str, seed: int = 0) -> None:
    """Commit a photo whose hash is its path, with one vector in the space of id 1."""
    held.commit([content(path, segment({(1, View.VISUAL): vector(seed)}), at=[path])], "key")


def paths(rows: Iterator[MediaRow]) -> list[bytes]:
    return [row.path for row in rows]


@pytest.fixture
def space(held: Catalog) -> int:
    return held.add_space("mini", "f1", DIM)
