"""int8 is used only after a trial on the library's own images, and what the trial found is remembered."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.small_clip import make_clip

import indexer.precision
import mmsearch
from indexer.precision import overlap
from mmsearch.errors import ModelError
from mmsearch.settings import Settings
from mmsearch.spaces import OnnxSpace, Vectors, embed, load_profile
from mmsearch.types import View

TRIED = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{make_clip(tmp_path_factory.mktemp('clip'))}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trial take few images, and pass whatever the processor's speed."""
    monkeypatch.setattr(indexer.precision, "TRIAL_IMAGES", TRIED)
    monkeypatch.setattr(indexer.precision, "MIN_SPEEDUP", 0.0)


def photos(folder: Path, first: int, last: int) -> Path:
    folder.mkdir(exist_ok=True)
    for n in range(first, last):
        pixels = np.random.default_rng(n).integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{n:03d}.png")
    return folder


def stored(library: mmsearch.Library, folder: Path) -> Vectors:
    """Return the visual vectors of the files, in their order."""
    seen = library.seen()
    space = seen.profile.spaces[0]
    space_id = seen.catalog.space_id(space.name, space.fingerprint, space.dim)
    assert space_id is not None
    rows = []
    for path, row in sorted(seen.catalog.media_at(bytes(file) for file in folder.iterdir()).items()):
        assert path
        (segment,) = seen.catalog.segment_ids(row.content_id)
        rows.append(seen.catalog.embeddings_of([segment], space_id, space.dim).vectors[0])
    return np.stack(rows)


def by_tower(model: str, folder: Path) -> Vectors:
    """Return what the exported tower makes of the files in float32."""
    space = load_profile(model).spaces[0]
    return embed(space, View.VISUAL, [Image.open(file) for file in sorted(folder.iterdir())])


def in_int8(found: Vectors, exact: Vectors) -> bool:
    """Return whether vectors are near the exact ones and yet not the same; how far depends on the batch."""
    return bool(np.abs(found - exact).max() > 2e-3 and np.sum(found * exact, axis=1).min() > 0.99)


def settings(precision: str) -> Settings:
    return Settings(workers=1, batch=8, precision=precision)


def test_int8_takes_over_after_a_trial_and_stays(model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = photos(tmp_path / "photos", 0, 40)
    caplog.set_level(logging.INFO, "indexer")
    with mmsearch.open(tmp_path / "l", model, settings=settings("auto")) as library:
        library.index(folder)
        assert library.status().precision.startswith(f"int8: the nearest 10 of {TRIED} images agree to ")
        found = stored(library, folder)
        exact = by_tower(model, folder)
        np.testing.assert_allclose(found[:TRIED], exact[:TRIED], atol=1e-3)
        assert in_int8(found[TRIED:], exact[TRIED:])
        caplog.clear()
        library.index(photos(folder, 40, 50))
        assert "trying int8" not in caplog.text
        assert in_int8(stored(library, folder)[40:], by_tower(model, folder)[40:])
        # A picture that asks is encoded exactly.
        np.testing.assert_allclose(library.embed([folder / "003.png"])[0], exact[3], atol=1e-6)
    with mmsearch.open(tmp_path / "l", settings=settings("fp32")) as library:
        library.index(photos(folder, 50, 60))
        exact = by_tower(model, folder)
        np.testing.assert_allclose(stored(library, folder)[50:], exact[50:], atol=1e-3)
        assert library.status().precision == "fp32, as asked"


@pytest.mark.parametrize(
    ("setting", "value", "asked", "expected"),
    [
        ("MIN_OVERLAP", 1.01, "auto", "fp32: with int8, the nearest"),
        ("MIN_OVERLAP", 1.01, "int8", "fp32: with int8, the nearest"),
        ("MIN_SPEEDUP", 1e9, "auto", "fp32: with int8, the nearest"),
        ("MIN_SPEEDUP", 1e9, "int8", "int8: the nearest"),
    ],
)
def test_a_trial_that_fails_leaves_everything_exact(
    setting: str,
    value: float,
    asked: str,
    expected: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(indexer.precision, setting, value)
    folder = photos(tmp_path / "photos", 0, 32)
    caplog.set_level(logging.INFO, "indexer")
    with mmsearch.open(tmp_path / "l", model, settings=settings(asked)) as library:
        library.index(folder)
        assert library.status().precision.startswith(expected)
        if expected.startswith("fp32"):
            np.testing.assert_allclose(stored(library, folder), by_tower(model, folder), atol=1e-3)
            caplog.clear()
            library.index(photos(folder, 32, 60))
            assert ("trying int8" in caplog.text) is (asked == "int8")  # auto doesn't try again


def test_fewer_images_than_a_trial_takes_are_encoded_exactly(model: str, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 0, TRIED - 1)
    with mmsearch.open(tmp_path / "l", model, settings=settings("int8")) as library:
        library.index(folder)
        assert library.status().precision == ""
        np.testing.assert_allclose(stored(library, folder), by_tower(model, folder), atol=1e-3)


def test_a_trial_that_cant_be_made_is_no_reason_to_stop(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_space: OnnxSpace) -> Path:
        raise ModelError("the disk is full")

    monkeypatch.setattr(indexer.precision, "int8_tower", fail)
    folder = photos(tmp_path / "photos", 0, 30)
    with mmsearch.open(tmp_path / "l", model, settings=settings("auto")) as library:
        assert library.index(folder).added == 30
        assert "int8 can't be tried (the disk is full); continuing in fp32" in caplog.text
        np.testing.assert_allclose(stored(library, folder), by_tower(model, folder), atol=1e-3)


def test_the_embedded_space_has_no_int8(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "indexer"),
        mmsearch.open(tmp_path / "l", "mini", settings=settings("int8")) as library,
    ):
        library.index(photos(tmp_path / "photos", 0, 2))
        assert "mini is encoded as it is" in caplog.text
        assert library.status().precision == ""


def test_overlap_by_hand() -> None:
    # Two groups of eleven: the nearest ten of each row are the others of its group.
    halves = np.repeat(np.eye(2, dtype=np.float32), 11, axis=0)
    parity = np.tile(np.eye(2, dtype=np.float32), (11, 1))
    assert overlap(halves, halves) == 1.0
    # Of either half six rows share their parity and five the other: they keep five and four of their neighbours.
    assert overlap(halves, parity) == pytest.approx((6 * 5 + 5 * 4) / 11 / 10)
