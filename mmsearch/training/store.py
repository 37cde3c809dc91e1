"""Examples decoded once, ahead of time: pictures and sounds as arrays on disk, and what teachers make of them.

A folder for each set of files, in the cache: a second run on the same media decodes nothing. Every array is written
under another name first, so that one that is there is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmsearch.errors import MediaError, UsageError
from mmsearch.media import DECODER_VERSION, DecodeOptions, decode
from mmsearch.paths import write_whole
from mmsearch.settings import Limits, default_workers
from mmsearch.spaces import cache_folder
from mmsearch.training.augment import crop
from mmsearch.training.recipe import TeacherRecipe
from mmsearch.training.sources import Examples
from mmsearch.training.teachers import LiteRTTeacher, SentenceTeacher, class_names, hear
from mmsearch.types import Segment, View

RATE_HZ = 16_000
_BELIEVED = 16
"""How many classes a teacher's belief is kept for; the rest is next to nothing."""
_FRAMES = 4
"""Most frames of a shot that are kept."""
_MOMENTS = 400
"""About how many moments of one file are kept: an hour should not outweigh all else."""
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
    """Decode all examples, or take what is there from another run. What can't be decoded is left out, and said."""
    files = [number for number, row in enumerate(examples.rows) if row.path is not None]
    paths = [path for row in examples.rows if (path := row.path) is not None]
    key = json.dumps([stored, DECODER_VERSION, [_state(path) for path in paths]])
    folder = cache_folder() / "training" / hashlib.blake2b(key.encode(), digest_size=10).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "units.json").is_file():
        _decode_all(paths, stored, folder)
    listed = json.loads((folder / "units.json").read_text("utf-8"))
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


def _state(path: Path) -> list[object]:
    """Return what a file's arrays depend on."""
    try:
        found = path.stat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} is in the recipe's data, but {reason}; mend the source") from None
    return [str(path.absolute()), found.st_size, found.st_mtime_ns]


def _decode_all(paths: Sequence[Path], stored: int, folder: Path) -> None:
    """Decode files into the arrays of a folder."""
    units: list[tuple[int, list[int], int]] = []
    count, bounds = 0, [0]
    raw, heard = folder / f".pixels.{os.getpid()}", folder / f".waves.{os.getpid()}"
    with (
        raw.open("wb") as pixels,
        heard.open("wb") as waves,
        ProcessPoolExecutor(default_workers()) as workers,
    ):
        decoded = workers.map(partial(_decode, stored=stored), paths, chunksize=16)
        for number, (path, moments) in enumerate(zip(paths, decoded, strict=True)):
            if isinstance(moments, str):
                _log.warning("%s is left out: %s", path, moments)
                continue
            for pictures, wave in moments:
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


def keep(file: Path, array: NDArray[Any] | None) -> None:
    """Write an array whole; None is an empty one of pictures or sounds."""
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.npy")
    np.save(temporary, np.zeros((0, 1, 1, 3), np.uint8) if array is None else array)
    temporary.replace(file)


def _decode(path: Path, stored: int) -> list[tuple[list[NDArray[np.uint8]], NDArray[np.float16] | None]] | str:
    """Return the moments of a file, each with its pictures and its sound, or why it can't be decoded."""
    options = DecodeOptions(Limits(), stored, 1_000, len, RATE_HZ)
    segments: list[Segment] = []
    resume_s: float | None = 0.0
    try:
        while resume_s is not None and len(segments) < _MOMENTS:
            part = decode(os.fsencode(path), (), options, resume_s)
            segments += part.segments
            resume_s = part.resume_s
    except MediaError as error:
        return str(error)
    found = []
    for segment in segments:
        frames = segment.views.get(View.VISUAL, ())
        kept = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))] if frames else []
        pictures = [_squashed(frame, stored) for frame in kept if isinstance(frame, Image.Image)]
        parts = [] if segment.silent else [p for p in segment.views.get(View.AUDIO, ()) if isinstance(p, np.ndarray)]
        wave = np.concatenate(parts).astype(np.float16) if parts else None
        if pictures or wave is not None:
            found.append((pictures, wave))
    return found


def _squashed(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


@dataclass(frozen=True, slots=True)
class Targets:
    """What a teacher makes of each input: an inner layer (n, width), and its strongest classes with what it believes.

    Rows are all views of the pictures in order, the sounds, or the texts. `names` are those of the classes.
    """

    layer: NDArray[Any]
    classes: NDArray[np.int64]
    believed: NDArray[np.float32]
    names: tuple[str, ...]


def teach_pictures(store: Store, teacher: TeacherRecipe) -> Targets:
    """Return a teacher's targets for every view of every picture."""
    jobs = [(row, view) for row, many in enumerate(store.views.tolist()) for view in range(many)]
    look = partial(_look, store.folder / "pixels.npy", teacher)
    crops = hashlib.blake2b(store.views.tobytes(), digest_size=6).hexdigest()
    return _taught(store.folder, teacher, f"image {crops}", jobs, look)


def teach_sounds(store: Store, teacher: TeacherRecipe) -> Targets:
    """Return a teacher's targets for every sound."""
    jobs = list(range(len(store.bounds) - 1))
    return _taught(store.folder, teacher, "sound", jobs, partial(_listen, store.folder, teacher))


Taught = tuple[NDArray[np.float32], NDArray[np.float32]]
_TEACHERS: dict[Path, LiteRTTeacher] = {}
"""Each process loads a teacher once."""


def _teacher(recipe: TeacherRecipe) -> LiteRTTeacher:
    if recipe.file not in _TEACHERS:
        _TEACHERS[recipe.file] = LiteRTTeacher(recipe.file, recipe.layer)
    return _TEACHERS[recipe.file]


def _look(file: Path, recipe: TeacherRecipe, job: tuple[int, int]) -> Taught:
    row, view = job
    picture = crop(np.load(file, mmap_mode="r")[row], row, view, recipe.side)
    return _teacher(recipe)(picture[None])


def _listen(folder: Path, recipe: TeacherRecipe, row: int) -> Taught:
    bounds = np.load(folder / "bounds.npy")
    waves = np.load(folder / "waves.npy", mmap_mode="r")
    return hear(_teacher(recipe), np.asarray(waves[bounds[row] : bounds[row + 1]], np.float32))


def _taught(
    folder: Path, recipe: TeacherRecipe, name: str, jobs: Sequence[Any], make: Callable[[Any], Taught]
) -> Targets:
    """Return the targets of all jobs, made by processes and kept in the folder."""
    key = f"{_state(recipe.file)} {recipe.layer} {recipe.side} {name}"
    stem = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
    files = [folder / f"{stem}-{part}.npy" for part in ("layer", "classes", "believed")]
    if not all(file.is_file() for file in files):
        first = make(jobs[0])
        kept = min(_BELIEVED, len(first[1]))
        layer = np.zeros((len(jobs), len(first[0])), np.float16)
        classes, believed = np.zeros((len(jobs), kept), np.uint16), np.zeros((len(jobs), kept), np.float16)
        with ProcessPoolExecutor(default_workers()) as workers:
            for n, (inner, output) in enumerate(workers.map(make, jobs, chunksize=64)):
                layer[n] = inner
                classes[n] = np.argsort(-output, kind="stable")[:kept]
                believed[n] = output[classes[n]]
        for file, array in zip(files, (layer, classes, believed), strict=True):
            keep(file, array)
    arrays = [np.load(file, mmap_mode="r") for file in files]
    names = tuple(class_names(recipe.labels)) if recipe.labels else ()
    return Targets(arrays[0], np.asarray(arrays[1], np.int64), np.asarray(arrays[2], np.float32), names)


def teach_texts(store: Store, examples: Examples) -> NDArray[np.float16]:
    """Return the sentence teacher's vectors of the texts, (n, 384); a translation has that of what it translates."""
    meanings = [examples.texts[text.meaning].words for text in examples.texts]
    unique = list(dict.fromkeys(meanings))
    key = hashlib.blake2b("\n".join(unique).encode("utf-8", "replace"), digest_size=8).hexdigest()
    file = store.folder / f"sentences-{key}.npy"
    if not file.is_file():
        keep(file, SentenceTeacher()(unique).astype(np.float16))
    vectors = np.load(file, mmap_mode="r")
    rows = {words: row for row, words in enumerate(unique)}
    return np.asarray(vectors[[rows[words] for words in meanings]])
