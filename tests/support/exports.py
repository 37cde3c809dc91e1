"""A small checkpoint to be exported, its name, and a cache for its exports alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmsearch.spaces import Vectors, embed, load_profile, normalise
from mmsearch.types import View
from support.small_clip import make_clip

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("made"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def name(folder: Path) -> str:
    return f"local-dir:{folder}"


def vector(folder: Path) -> Vectors:
    return normalise(embed(load_profile(name(folder)).spaces[0], View.TEXT, ["a red car"])[0])
