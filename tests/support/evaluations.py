"""Small libraries of painted colours to be evaluated, and lines of queries that ask them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import mmsearch
from mmsearch import Evaluation, Library, Settings
from mmsearch.evaluation import evaluate
from mmsearch.evaluation.judged import read_judged
from mmsearch.metrics import Interval
from mmsearch.types import Progress
from support.clip_maker import HIGH, LOW, Pictures, Tones, clip, sound_bytes
from support.media_maker import GREEN

NAMES = ("black", "white", "grey", "red", "green", "blue", "yellow", "orange", "purple", "brown")
KEYS = ["recall@1", "recall@5", "recall@10", "set_recall@10", "median_rank", "mrr", "ndcg@10", "map"]


def paint(file: Path, colour: str, second: str | None = None, caption: str | None = None) -> Path:
    """A picture of a colour, a quarter of it in a second one, with a caption beside it."""
    picture = Image.new("RGB", (64, 64), {"grey": "#808080"}.get(colour, colour))
    if second is not None:
        ImageDraw.Draw(picture).rectangle((0, 48, 63, 63), fill={"grey": "#808080"}.get(second, second))
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    if caption is not None:
        file.with_suffix(".txt").write_text(caption)
    return file


def library_of(folder: Path, media: Path) -> Library:
    library = mmsearch.open(folder, model="hashing", settings=Settings(workers=1))
    assert library.index(media).failed == 0
    return library


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for colour in ("red", "green", "blue", "yellow"):
        paint(folder / f"{colour}.png", colour)
    paint(folder / "flag.png", "red", "blue")
    shutil.copy(folder / "blue.png", folder / "z copy of blue.png")
    paint(folder / os.fsdecode(b"caf\xe9.png"), "brown")
    (folder / "red.md").write_text("A red door.")
    (folder / "low.wav").write_bytes(sound_bytes([(LOW, 1.0)]))
    clip(folder / "clip.mp4", Pictures([(GREEN, 2.0)]), Tones([(HIGH, 2.0)]))
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[Library]:
    with library_of(tmp_path_factory.mktemp("libraries") / "library", media) as library:
        yield library


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A hundred photos, whose captions suit them or don't: more than an index is asked for at once."""
    folder = tmp_path_factory.mktemp("crowd")
    for n in range(100):
        said = NAMES[n % 10] if n % 3 else NAMES[(n * 7 + 3) % 10]
        paint(folder / f"{n:02d}.png", NAMES[n % 10], NAMES[n // 10], f"{said} thing number {n}" if n % 2 else None)
    with library_of(tmp_path_factory.mktemp("libraries") / "crowd", folder) as library:
        yield library


def write(file: Path, *lines: Mapping[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def measured(
    library: Library,
    file: Path,
    *lines: Mapping[str, Any],
    rerank: bool | None = None,
    exact: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Evaluation]:
    judged = read_judged(write(file, *lines))
    return {
        found.direction: found
        for found in evaluate.evaluate(library, judged, rerank=rerank, exact=exact, progress=progress)
    }


def values(found: Mapping[str, Interval]) -> dict[str, float]:
    return {name: interval.value for name, interval in found.items()}


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr
