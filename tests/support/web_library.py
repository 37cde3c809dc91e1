"""Fixtures of the server's tests: a library of a few colours, tones and words, and a client of its server.

Every test process loads this, so what they need is imported only when one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mmsearch
from mmsearch import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.clip_maker import HIGH, LOW, Pictures, Tones, clip
    from support.media_maker import BLUE, GREEN, RED, YELLOW, encoded, exif, plain, put

    folder = tmp_path_factory.mktemp("web") / "media"
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        put(folder, f"{name}.png", encoded(plain(colour, 640, 480), "PNG"))
    data = exif()
    data[0x0110] = "Pinhole 3"
    data.get_ifd(0x8769)[0x9003] = "2019:06:01 12:00:00"
    put(folder, "yellow.jpg", encoded(plain(YELLOW, 640, 480), "JPEG", exif=data))
    put(folder, "a note.txt", "milk and bread, and two lemons")
    clip(folder / "clip.mp4", Pictures([(RED, 3), (GREEN, 3)], options={"g": "10"}), Tones([(LOW, 3), (HIGH, 3)]))
    clip(folder / "odd.avi", Pictures([(BLUE, 3)], codec="mpeg4"))
    put(folder, "page.md", "<script>alert(1)</script> a page with a script")
    return folder


@pytest.fixture(scope="session")
def library(media: Path) -> Path:
    folder = media.parent / "library"
    with mmsearch.open(folder, model="hashing", settings=Settings(workers=1)) as opened:
        report = opened.index(media)
    assert (report.added, report.failed) == (8, 0), report.failures
    return folder


@pytest.fixture(scope="session")
def client(library: Path) -> Iterator[TestClient]:
    from support.serving import serving

    with serving(library) as opened:
        yield opened


@pytest.fixture(scope="session")
def ids(library: Path) -> dict[str, int]:
    """The numbers of the items, by the names of their files."""
    with mmsearch.open(library) as opened:
        return {item.path.name: item.id for item in opened.items()}
