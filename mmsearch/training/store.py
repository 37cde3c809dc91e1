"""Examples decoded once, ahead of time, into arrays on disk.

A folder for each set of files, in the cache: a second run on the same media decodes nothing. Every array is written
under another name first, so that one that is there is whole. Files are decoded by the processes of an index run: one
that crashes, hangs or eats memory costs itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import UsageError
from mmsearch.locking import write_lock
from mmsearch.media import DECODER_VERSION
from mmsearch.paths import write_whole
from mmsearch.settings import Settings
from mmsearch.spaces import FrontEnd, cache_folder
from mmsearch.spaces.front_ends import Picture, Waveform
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.training.sources import Examples
from mmsearch.types import Failure, View

RATE_HZ = 16_000
_FRAMES = 4
"""Most frames of a shot that are kept."""
_MOMENTS = 400
"""How many moments of one file are kept: an hour should not outweigh all else."""
_IN_PART = "is taken in part"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unit:
    """What is drawn into a batch: an example, or a moment of it that is both seen and heard (AVID's instance)."""

    example: int
    pictures: tuple[int, ...]
    sound: int
    """A row of the sounds, -1 without."""


@dataclass(frozen=True, slots=True)
class Store:
    """The decoded examples.

    `pixels` (n, stored, stored, 3) uint8; `waves` all sounds in one row, float16 at 16 kHz, of which sound i is
    `bounds[i]` to `bounds[i + 1]`; `views[i]` crops of picture i are looked at by a teacher.
    """

    folder: Path
    units: tuple[Unit, ...]
    pixels: NDArray[np.uint8]
    waves: NDArray[np.float16]
    bounds: NDArray[np.int64]
    views: NDArray[np.int64]

    def wave(self, row: int) -> NDArray[np.float32]:
        """Return a sound, (samples,) float32."""
        return np.asarray(self.waves[self.bounds[row] : self.bounds[row + 1]], np.float32)

    @property
    def first_view(self) -> NDArray[np.int64]:
        """The row of each picture's view 0 among all views; its others follow."""
        return np.concatenate([[0], np.cumsum(self.views)])


def prepare(examples: Examples, stored: int) -> Store:
    """Decode all examples, or take what is there from another run. What can't be decoded is left out, and said.

    Raises `UsageError` where nothing of the media is left, `LockedError` while another run decodes the same.
    """
    files = [number for number, row in enumerate(examples.rows) if row.path is not None]
    paths = [path for row in examples.rows if (path := row.path) is not None]
    key = json.dumps([stored, DECODER_VERSION, [state(path) for path in paths]])
    folder = cache_folder() / "training" / hashlib.blake2b(key.encode(), digest_size=10).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with write_lock(folder):
        if not (folder / "units.json").is_file():
            _decode_all(paths, stored, folder)
    listed = json.loads((folder / "units.json").read_text("utf-8"))
    if paths and not listed:
        raise UsageError(f"none of the {len(paths):,} files can be decoded, {paths[0]} for one; mend the recipe's data")
    seen = [Unit(files[number], tuple(pictures), sound) for number, pictures, sound in listed]
    read = [Unit(number, (), -1) for number, row in enumerate(examples.rows) if row.path is None]
    units = (*seen, *read)
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    views = np.ones(len(pixels), np.int64)
    for unit in units:
        row = examples.rows[unit.example]
        views[list(unit.pictures)] = 1 if row.held else max(1, examples.sources[row.source].views)
    waves = np.load(folder / "waves.npy", mmap_mode="r")
    return Store(folder, units, pixels, waves, np.load(folder / "bounds.npy"), views)


def state(path: Path) -> list[object]:
    """Return what a file's arrays depend on."""
    try:
        found = path.stat()
    except OSError:
        return [str(path.absolute())]
    return [str(path.absolute()), found.st_size, found.st_mtime_ns]


Moment = tuple[int, list[NDArray[np.uint8]], NDArray[np.float16] | None]
"""The number of a file; what is seen; what is heard."""


def _decode_all(paths: Sequence[Path], stored: int, folder: Path) -> None:
    """Decode files into the arrays of a folder."""
    units: list[tuple[int, list[int], int]] = []
    count, bounds = 0, [0]
    raw, heard = folder / ".pixels", folder / ".waves"
    with raw.open("wb") as pixels, heard.open("wb") as waves:
        for number, pictures, wave in _moments(paths, stored):
            for picture in pictures:
                pixels.write(picture.tobytes())
            rows = list(range(count, count + len(pictures)))
            count += len(pictures)
            if wave is not None:
                waves.write(wave.tobytes())
                bounds.append(bounds[-1] + len(wave))
            units.append((number, rows, len(bounds) - 2 if wave is not None else -1))
    keep(folder / "pixels.npy", np.memmap(raw, np.uint8, "r", shape=(count, stored, stored, 3)) if count else None)
    keep(folder / "waves.npy", np.memmap(heard, np.float16, "r") if bounds[-1] else None)
    keep(folder / "bounds.npy", np.asarray(bounds, np.int64))
    raw.unlink()
    heard.unlink()
    write_whole(folder / "units.json", json.dumps(units).encode())


def _moments(paths: Sequence[Path], stored: int) -> Iterator[Moment]:
    """Yield the moments of all files that have a picture or a sound."""
    from indexer.decode import decode_all
    from indexer.plan import Task
    from indexer.scan import look_at

    tasks: list[Task] = []
    for number, path in enumerate(paths):
        try:
            entry = look_at(os.fsencode(path.absolute()), ())
        except OSError as error:
            _log.warning("%s is left out: %s", path, (error.strerror or str(error)).lower())
            continue
        if entry is not None:
            tasks.append(Task(entry, str(number).encode(), known_path=False))
    eyes, ears = ("training", View.VISUAL), ("training", View.AUDIO)
    ends: dict[tuple[str, View], FrontEnd] = {
        eyes: Picture((stored, stored), interpolation="bicubic"),
        ears: Waveform(RATE_HZ, 1, 2**31),
        ("training", View.TEXT): HashingSpace().front_ends[View.TEXT],  # sources read the texts; passages end somewhere
    }
    kept = np.zeros(len(paths), np.int64)
    with closing(decode_all(tasks, ends, Settings(), lambda: False)) as outcomes:
        for task, outcome in outcomes:
            number = int(task.hash)
            segments = () if isinstance(outcome, Failure) else outcome.segments
            for failure in (outcome,) if isinstance(outcome, Failure) else outcome.failures:
                _log.warning("%s %s: %s", failure.path, _IN_PART if segments else "is left out", failure.reason)
            for segment in segments:
                frames, parts = segment.inputs.get(eyes, ()), segment.inputs.get(ears, ())
                some = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int)) if frames else ()
                shown = [frames[i] for i in some]
                wave = np.concatenate(parts).astype(np.float16) if parts and not segment.silent else None
                if (shown or wave is not None) and kept[number] < _MOMENTS:
                    kept[number] += 1
                    yield number, shown, wave


def keep(file: Path, array: NDArray[Any] | None) -> None:
    """Write an array whole; None is an empty one of pictures or sounds."""
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.npy")
    np.save(temporary, np.zeros((0, 1, 1, 3), np.uint8) if array is None else array)
    temporary.replace(file)
