"""Folders of a small CLAP to be spoilt, the features that transformers makes, and code that must never run."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.small_clap import make_clap


@pytest.fixture(scope="module")
def unfused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clap(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def folder(unfused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unfused, tmp_path / "clap"))


def extractor(truncation: str = "rand_trunc", padding: str = "repeatpad") -> Any:  # noqa: ANN401
    from transformers import ClapFeatureExtractor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its htk bank has bands that hear nothing
        return ClapFeatureExtractor(frequency_min=50, truncation=truncation, padding=padding)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.file),)
