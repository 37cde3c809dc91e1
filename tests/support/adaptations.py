"""A library whose captions teach its space something, adapted in a few steps, and what it answers."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import mmsearch
from mmsearch import AdaptReport, View
from mmsearch.adaptation import fit as training
from mmsearch.adaptation.fit import Outcome
from mmsearch.folder import CATALOG
from mmsearch.spaces import Vectors
from support.adapted_maker import MODEL, captions, make_photos, outcome

COUNT = 96


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STEPS", 120)
        patch.setattr(training, "WARMUP", 60)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos whose captions say what their space has scrambled."""
    folder = tmp_path_factory.mktemp("photos") / "library"
    make_photos(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def adapted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AdaptReport]:
    folder = Path(shutil.copytree(photos, tmp_path_factory.mktemp("adapted") / "library"))
    with mmsearch.open(folder) as opened:
        return folder, opened.adapt()


@pytest.fixture
def library(photos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photos, tmp_path / "library"))


@pytest.fixture
def learnt() -> Outcome:
    """What `LEARNT` gives."""
    made = outcome()
    return Outcome(made.heads, made.overall, made.gains, made.background)


def answers(folder: Path) -> list[list[tuple[Path, float, str]]]:
    with mmsearch.open(folder) as opened:
        asked = captions(4)
        return [[(hit.path, round(hit.score, 2), hit.space) for hit in opened.query(text, k=20)] for text in asked]


def vectors(folder: Path, view: View) -> dict[str, Vectors]:
    """Return the vectors of a library's first space, by path and moment."""
    with mmsearch.open(folder) as opened:
        seen = opened.seen()
        space = seen.profile.spaces[0]
        space_id = seen.catalog.space_id(space.name, space.fingerprint, space.dim)
        assert space_id is not None
        ids, rows = seen.catalog.vectors(seen.catalog.embedding_ids(space_id, view), space.dim)
        segments = seen.catalog.segments_of(ids.tolist())
        known = seen.catalog.segment_rows(segments.values())
    names = [f"{known[segments[i]].path!r} {known[segments[i]].start_s}" for i in ids.tolist()]
    return dict(zip(names, rows, strict=True))


def matrix(rows: dict[str, Vectors]) -> NDArray[np.float32]:
    return np.stack([rows[name] for name in sorted(rows)])


def assert_as_it_was(folder: Path, before: object) -> None:
    """The old model answers as before, and nothing says that it was ever to be another."""
    assert answers(folder) == before
    with mmsearch.open(folder) as opened:
        status = opened.status()
        assert (status.profile, status.changing_to, status.kept_models) == (MODEL, None, ())
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        assert connection.execute("SELECT count(DISTINCT profile_id) FROM segment").fetchone() == (1,)
