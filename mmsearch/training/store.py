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
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmsearch.errors import UsageError
from mmsearch.files import write_whole
from mmsearch.locking import write_lock
from mmsearch.media import DECODER_VERSION
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import FrontEnd, cache_folder
from mmsearch.spaces.front_ends import Picture, Waveform
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.training.augment import hearing
from mmsearch.training.sources import Examples
from mmsearch.types import Failure, View

RATE_HZ = 16_000
_VERSION = 2
"""Of how examples are stored."""
_FRAMES = 4
"""Most frames of a shot that are kept."""
_READ_S = 3600.0
"""How much of a long file is read: a film should not outweigh all else."""
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
    `bounds[i]` to `bounds[i + 1]`; a teacher looks at `views[i]` crops of picture i, and hears `hearings[i]` views of
    sound i. Of what is held out there is one, which is all of it.
    """

    folder: Path
    units: tuple[Unit, ...]
    pixels: NDArray[np.uint8]
    waves: NDArray[np.float16]
    bounds: NDArray[np.int64]
    views: NDArray[np.int64]
    hearings: NDArray[np.int64]

    def wave(self, row: int) -> NDArray[np.float32]:
        """Return a sound, (samples,) float32."""
        return np.asarray(self.waves[self.bounds[row] : self.bounds[row + 1]], np.float32)

    def hear(self, row: int, view: int) -> NDArray[np.float32]:
        """Return a view of a sound; what is behind it is trained on, too."""
        others = np.flatnonzero(self.hearings > 1) if view else np.asarray([row])
        other = int(others[np.random.default_rng([row, view]).integers(len(others))])
        return hearing(self.wave(row), self.wave(other), row, view, RATE_HZ)

    @property
    def first_view(self) -> NDArray[np.int64]:
        """The row of each picture's view 0 among all views; its others follow."""
        return np.concatenate([[0], np.cumsum(self.views)])

    @property
    def first_hearing(self) -> NDArray[np.int64]:
        """The row of each sound's view 0 among all that are heard."""
        return np.concatenate([[0], np.cumsum(self.hearings)])


def prepare(examples: Examples, stored: int) -> Store:
    """Decode all examples, or take what is there from another run. What can't be decoded is left out, and said.

    Raises `UsageError` where nothing can be decoded, `LockedError` while another run decodes the same.
    """
    files = [number for number, row in enumerate(examples.rows) if row.path is not None]
    paths = [path for row in examples.rows if (path := row.path) is not None]
    key = json.dumps([_VERSION, stored, DECODER_VERSION, [state(path) for path in paths]])
    folder = cache_folder() / "training" / hashlib.blake2b(key.encode(), digest_size=10).hexdigest()
    listing = folder / "units.json"
    if not listing.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with write_lock(folder, command="train"):
            if not listing.is_file():
                _decode_all(paths, stored, folder)
    listed = json.loads(listing.read_text("utf-8"))
    for said in listed["failures"]:
        _log.warning("%s", said)
    if listed["failures"]:
        _log.warning("once they are mended, delete %s", folder)
    seen = [Unit(files[number], tuple(pictures), sound) for number, pictures, sound in listed["units"]]
    units = (*seen, *_without_file(examples, seen))
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    waves, bounds = np.load(folder / "waves.npy", mmap_mode="r"), np.load(folder / "bounds.npy")
    views, hearings = np.ones(len(pixels), np.int64), np.ones(len(bounds) - 1, np.int64)
    for unit in seen:
        row = examples.rows[unit.example]
        many = 1 if row.held else max(1, examples.sources[row.source].views)
        views[list(unit.pictures)] = many
        if unit.sound >= 0:
            hearings[unit.sound] = many
    return Store(folder, units, pixels, waves, bounds, views, hearings)


def _without_file(examples: Examples, decoded: Sequence[Unit]) -> Iterator[Unit]:
    """Yield texts, and moments that are made of two files, where both could be decoded."""
    of = {unit.example: unit for unit in reversed(decoded)}
    for number, row in enumerate(examples.rows):
        if row.made_of is not None:
            shown, heard = (of.get(part) for part in row.made_of)
            if shown and heard and shown.pictures and heard.sound >= 0:
                yield Unit(number, shown.pictures[:1], heard.sound)
        elif row.path is None:
            yield Unit(number, (), -1)


def state(path: Path) -> list[object]:
    """Return what a file's arrays depend on."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return [str(path.absolute())]
    return [str(path.absolute()), found.st_size, found.st_mtime_ns]


Moment = tuple[int, list[NDArray[np.uint8]], NDArray[np.float16] | None]
"""The number of a file; what is seen; what is heard."""


def _decode_all(paths: Sequence[Path], stored: int, folder: Path) -> None:
    """Decode files into the arrays of a folder, in the order of the files."""
    failures: list[str] = []
    units: list[tuple[int, list[int], int]] = []  # rows as they come: parts of long files come between other files
    count, bounds = 0, [0]
    raw, heard = folder / ".pixels", folder / ".waves"
    with raw.open("wb") as pixels, heard.open("wb") as waves:
        for number, pictures, wave in _moments(paths, stored, failures):
            for picture in pictures:
                pixels.write(picture.tobytes())
            rows = list(range(count, count + len(pictures)))
            count += len(pictures)
            if wave is not None:
                waves.write(wave.tobytes())
                bounds.append(bounds[-1] + len(wave))
            units.append((number, rows, len(bounds) - 2 if wave is not None else -1))
    if paths and not units:
        raise UsageError(f"none of {len(paths):,} files can be decoded, {failures[0]}, for one; mend the recipe's data")
    units.sort(key=lambda unit: unit[0])
    seen = np.memmap(raw, np.uint8, "r", shape=(count, stored, stored, 3)) if count else np.zeros((0, 1, 1, 3))
    listened = np.memmap(heard, np.float16, "r") if bounds[-1] else np.zeros(0)
    listed: list[tuple[int, list[int], int]] = []
    ends, at = [0], 0
    with (
        Growing(folder / "pixels.npy", np.uint8, seen.shape) as pictures_file,
        Growing(folder / "waves.npy", np.float16, listened.shape) as waves_file,
    ):
        for number, rows, sound in units:
            pictures_file.append(seen[rows])
            if sound >= 0:
                waves_file.append(listened[bounds[sound] : bounds[sound + 1]])
                ends.append(ends[-1] + bounds[sound + 1] - bounds[sound])
            listed.append((number, list(range(at, at + len(rows))), len(ends) - 2 if sound >= 0 else -1))
            at += len(rows)
    finish(folder / "pixels.npy")
    finish(folder / "waves.npy")
    keep(folder / "bounds.npy", np.asarray(ends, np.int64))
    write_whole(folder / "units.json", json.dumps({"units": listed, "failures": failures}).encode())
    raw.unlink()
    heard.unlink()


def _moments(paths: Sequence[Path], stored: int, failures: list[str]) -> Iterator[Moment]:
    """Yield the moments of all files that have a picture or a sound; say what can't be decoded."""
    from indexer.changes import look_at
    from indexer.executors.decoding import decode_all
    from indexer.plan import Task

    tasks: list[Task] = []
    for number, path in enumerate(paths):
        try:
            entry = look_at(os.fsencode(path.absolute()), ())
        except (OSError, ValueError) as error:
            failures.append(f"{path} is left out: {(getattr(error, 'strerror', None) or str(error)).lower()}")
            continue
        if entry is None:
            failures.append(f"{path} is left out: it is no regular file")
        else:
            tasks.append(Task(entry, str(number).encode(), known_path=False))
    name = "training"
    ends: dict[tuple[str, View], FrontEnd] = {
        (name, View.VISUAL): Picture((stored, stored), interpolation="bicubic"),
        (name, View.AUDIO): Waveform(RATE_HZ, 1, 2**31),
        (name, View.TEXT): HashingSpace().front_ends[View.TEXT],  # sources read the texts; passages end somewhere
    }
    settings = Settings(limits=Limits(duration_s=_READ_S))
    with closing(decode_all(tasks, ends, settings, lambda: False)) as outcomes:
        for task, outcome in outcomes:
            segments = () if isinstance(outcome, Failure) else outcome.segments
            in_part = bool(segments) or task.from_s > 0
            for failure in (outcome,) if isinstance(outcome, Failure) else outcome.failures:
                failures.append(f"{failure.path} is {'taken in part' if in_part else 'left out'}: {failure.reason}")
            for segment in segments:
                frames, parts = (segment.views.get(view, {}).get(name, ()) for view in (View.VISUAL, View.AUDIO))
                some = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int)) if frames else ()
                wave = np.concatenate(parts).astype(np.float16) if parts and not segment.silent else None
                if frames or wave is not None:
                    yield int(task.hash), [frames[i] for i in some], wave


class Growing:
    """An array that is written to disk a few rows at a time, under another name until it is whole.

    `done` of its rows are there from a run that was killed; what that run wrote beyond them is written again.
    """

    def __init__(self, file: Path, dtype: DTypeLike, shape: tuple[int, ...], done: int = 0) -> None:
        self._dtype = np.dtype(dtype)
        header = BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, fields)
        before = header.getvalue()
        self._opened = unfinished(file).open("r+b" if done else "wb")
        if not done:
            self._opened.write(before)
        self._opened.truncate(len(before) + done * int(np.prod(shape[1:])) * self._dtype.itemsize)
        self._opened.seek(0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                self.sync()
        finally:
            self._opened.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows. Raises `OSError` where the disk is full."""
        self._opened.write(np.ascontiguousarray(rows, self._dtype).tobytes())

    def sync(self) -> None:
        """Bring what was written to the disk."""
        self._opened.flush()
        os.fsync(self._opened.fileno())


def unfinished(file: Path) -> Path:
    """Return the name of an array that isn't whole yet."""
    return file.with_name(f".{file.name}")


def finish(file: Path) -> None:
    """Give an array, which is closed and whole, its name."""
    unfinished(file).replace(file)


def keep(file: Path, array: NDArray[Any]) -> None:
    """Write an array whole."""
    with Growing(file, array.dtype, array.shape) as growing:
        growing.append(array)
    finish(file)
