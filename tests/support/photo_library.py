"""Photos of eight colours in folders, a library for them, and the counts of a run over them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import mmsearch
from mmsearch import IndexReport, Library

COLOURS = ["red", "green", "blue", "yellow", "orange", "purple", "brown", "black"]


def paint(file: Path, colour: str, mark: int = 0) -> Path:
    picture = Image.new("RGB", (64, 48), colour)
    ImageDraw.Draw(picture).rectangle((mark, 0, mark + 4, 6), fill="white")
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for colour in COLOURS:
        paint(tmp_path / "photos" / colour / "photo.png", colour)
    return tmp_path / "photos"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return mmsearch.open(tmp_path / "library", model="hashing")


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    return report.added, report.updated, report.reused, report.removed, report.failed
