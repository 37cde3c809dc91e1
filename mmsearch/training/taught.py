"""What teachers make of decoded examples: targets, asked for once and kept beside the arrays.

A teacher that was asked for hours is not asked again: what it answered is on disk every few thousand inputs, and a run
that was killed goes on from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmsearch.locking import write_lock
from mmsearch.paths import write_whole
from mmsearch.settings import default_workers
from mmsearch.training.augment import crop
from mmsearch.training.recipe import TeacherRecipe
from mmsearch.training.sources import Examples
from mmsearch.training.store import Store, keep, state
from mmsearch.training.teachers import LiteRTTeacher, SentenceTeacher, class_names, hear

_BELIEVED = 16
"""How many classes a teacher's belief is kept for; the rest is next to nothing."""
_AT_ONCE = 4096
"""How many answers are made before they are put on disk."""


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
    key = f"{state(recipe.file)} {recipe.layer} {recipe.side} {name}"
    stem = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
    files = [folder / f"{stem}-{part}.npy" for part in ("layer", "classes", "believed")]
    with write_lock(folder):
        if not all(file.is_file() for file in files):
            ask(files, folder / f".{stem}.done", jobs, make)
    arrays = [np.load(file, mmap_mode="r") for file in files]
    names = tuple(class_names(recipe.labels)) if recipe.labels else ()
    return Targets(arrays[0], np.asarray(arrays[1], np.int64), np.asarray(arrays[2], np.float32), names)


def ask(files: Sequence[Path], progress: Path, jobs: Sequence[Any], make: Callable[[Any], Taught]) -> None:
    """Write the answers to all jobs; those of a run that was killed stay, as far as `progress` counts them."""
    inner, output = make(jobs[0])
    kept = min(_BELIEVED, len(output))
    rows: list[tuple[DTypeLike, int]] = [(np.float16, len(inner)), (np.uint16, kept), (np.float16, kept)]
    done = int(progress.read_text("ascii")) if progress.is_file() else 0
    with ExitStack() as opened, ProcessPoolExecutor(default_workers()) as workers:
        growing = [
            opened.enter_context(Growing(file, dtype, (len(jobs), width), done))
            for file, (dtype, width) in zip(files, rows, strict=True)
        ]
        for start in range(done, len(jobs), _AT_ONCE):
            some = list(workers.map(make, jobs[start : start + _AT_ONCE], chunksize=64))
            outputs = np.stack([output for _, output in some])
            classes = np.argsort(-outputs, axis=1, kind="stable")[:, :kept]
            layer, classes_of, believed = growing
            layer.append(np.stack([inner for inner, _ in some]))
            classes_of.append(classes)
            believed.append(np.take_along_axis(outputs, classes, axis=1))
            write_whole(progress, str(start + len(some)).encode())
        for array in growing:
            array.finish()
    progress.unlink()


class Growing:
    """An array that is written to disk a few rows at a time, under another name until it is whole.

    `done` of its rows are there from a run that was killed; what that run wrote beyond them is written again.
    """

    def __init__(self, file: Path, dtype: DTypeLike, shape: tuple[int, int], done: int) -> None:
        self._file, self._dtype = file, np.dtype(dtype)
        self._temporary = file.with_name(f".{file.name}")
        header = BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, fields)
        self._opened = self._temporary.open("r+b" if done else "wb")
        if not done:
            self._opened.write(header.getvalue())
        self._opened.truncate(len(header.getvalue()) + done * shape[1] * self._dtype.itemsize)
        self._opened.seek(0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows on the disk. Raises `OSError` where it is full."""
        self._opened.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._opened.flush()
        os.fsync(self._opened.fileno())

    def finish(self) -> None:
        """Give the array its name."""
        self._opened.close()
        self._temporary.replace(self._file)


def teach_texts(store: Store, examples: Examples) -> NDArray[np.float16]:
    """Return the sentence teacher's vectors of the texts, (n, 384); a translation has that of what it translates.

    The teacher reads English: what has no English meaning has zeros.
    """
    texts = examples.texts
    meanings = [texts[text.meaning].words if texts[text.meaning].language == "en" else None for text in texts]
    unique = [words for words in dict.fromkeys(meanings) if words is not None]
    key = hashlib.blake2b("\n".join(unique).encode("utf-8", "replace"), digest_size=8).hexdigest()
    file = store.folder / f"sentences-{key}.npy"
    if not file.is_file():
        keep(file, SentenceTeacher()(unique).astype(np.float16))
    vectors = np.load(file, mmap_mode="r")
    rows = {words: row for row, words in enumerate(unique)}
    out = np.zeros((len(texts), vectors.shape[1]), np.float16)
    read = [n for n, words in enumerate(meanings) if words is not None]
    out[read] = vectors[[rows[words] for words in meanings if words is not None]]
    return out
