"""A process killed at any instant loses at most the batch in flight, and the next run ends like one clean run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from conftest import Run
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmsearch.catalog import Catalog
from mmsearch.records import Text
from mmsearch.spaces import load_profile, normalise
from mmsearch.types import View

KILLS = 6


def make_media(folder: Path) -> None:
    folder.mkdir()
    for number in range(240):
        picture = Image.new("RGB", (96, 64), f"#{number * 70_001 % 0xFFFFFF:06x}")
        ImageDraw.Draw(picture).ellipse(
            (number % 60, 5, number % 60 + 30, 40), fill=f"#{number * 9_973 % 0xFFFFFF:06x}"
        )
        picture.save(folder / f"{number:03d}.jpg")
        if number % 6 == 0:
            (folder / f"note{number:03d}.txt").write_text(f"Note {number}.\n\nA second passage about {number}.")


def contents(library: Path) -> dict[tuple[bytes, tuple[Text, ...] | None, View], NDArray[np.float32]]:
    """Return every vector by path, text and view; fails where a segment stands twice."""
    catalog = Catalog(library / "catalog.sqlite")
    space = load_profile("mini").spaces[0]
    space_id = catalog.space_id(space.name, space.fingerprint, space.dim)
    assert space_id is not None
    found: dict[tuple[bytes, tuple[Text, ...] | None, View], NDArray[np.float32]] = {}
    for view in space.front_ends:
        ids, vectors = catalog.vectors(catalog.embedding_ids(space_id, view), space.dim)
        segments = catalog.segments_of(ids.tolist())
        rows = catalog.segment_rows(segments.values())
        texts = catalog.texts_of(rows)
        for i, vector in zip(ids.tolist(), vectors, strict=True):
            key = (rows[segments[i]].path, texts.get(segments[i]), view)
            assert key not in found
            found[key] = vector
    catalog.close()
    return found


def test_kills_at_random_moments_change_nothing_in_the_end(run: Run, tmp_path: Path) -> None:
    make_media(tmp_path / "media")
    arguments = ["index", str(tmp_path / "media"), "--batch", "16", "--workers", "2", "--model", "mini"]
    assert run(*arguments, library=tmp_path / "clean").returncode == 0
    chance = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        command = [sys.executable, "-m", "mmsearch", *arguments, "--library", str(tmp_path / "killed")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 2.5))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0
    assert run(*arguments, library=tmp_path / "killed").returncode == 0
    want, got = contents(tmp_path / "clean"), contents(tmp_path / "killed")
    assert want.keys() == got.keys()
    assert len(want) == 240 + 2 * 40
    cosines = [float(normalise(want[key]) @ normalise(got[key])) for key in want]
    assert min(cosines) >= 0.9999
    assert run("query", "note", "--json", library=tmp_path / "killed").returncode == 0


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    make_media(tmp_path / "media")
    command = [sys.executable, "-m", "mmsearch", "index", str(tmp_path / "media"), "--batch", "4", "--workers", "1"]
    process = subprocess.Popen([*command, "--library", str(tmp_path / "l")], start_new_session=True)
    deadline = time.monotonic() + 30
    while len(members(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(members(process.pid)) >= 2
    process.kill()
    process.wait()
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(process.pid) == []


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(owner) == group and state != "Z":
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]
