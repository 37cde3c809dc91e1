"""What teachers make of decoded examples: targets, asked for once and kept beside the arrays.

A teacher that was asked for hours is not asked again: what it answered is on disk every few thousand inputs, and a run
that was killed goes on from there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import UsageError
from mmsearch.files import write_whole
from mmsearch.locking import write_lock
from mmsearch.settings import default_workers
from mmsearch.training.augment import HEARD_VERSION, crop
from mmsearch.training.recipe import TeacherRecipe
from mmsearch.training.sources import Examples
from mmsearch.training.store import Growing, Store, finish, state, unfinished
from mmsearch.training.teachers import LiteRTTeacher, SentenceTeacher, class_names, hear

_BELIEVED = 16
"""How many classes a teacher's belief is kept for; the rest is next to nothing."""
_AT_ONCE = 4096
"""How many answers are made before they are put on disk."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What a teacher makes of each input: an inner layer (n, width), and its strongest classes with what it believes.

    Rows are all views of the pictures, or of the sounds, in order, or the texts. `names` are those of the classes.
    """

    layer: NDArray[Any]
    classes: NDArray[np.int64]
    believed: NDArray[np.float32]
    names: tuple[str, ...]


def teach_pictures(store: Store, teacher: TeacherRecipe) -> Targets:
    """Return a teacher's targets for every view of every picture."""
    return _taught(store, teacher, "image", store.views, partial(_look, store, teacher))


def teach_sounds(store: Store, teacher: TeacherRecipe) -> Targets:
    """Return a teacher's targets for every view of every sound."""
    return _taught(store, teacher, f"sound {HEARD_VERSION}", store.hearings, partial(_listen, store, teacher))


Taught = tuple[NDArray[np.float32], NDArray[np.float32]]
Answer = Callable[[int, int], Sequence[NDArray[Any]]]
"""Gives the answers from one question to before another."""
_own = threading.local()
"""Each thread has a teacher of its own: it holds its last answer. While it thinks, the others do, too."""


def _teacher(recipe: TeacherRecipe) -> LiteRTTeacher:
    if getattr(_own, "recipe", None) != recipe:
        _own.recipe, _own.teacher = recipe, LiteRTTeacher(recipe.file, recipe.layer)
    return _own.teacher  # type: ignore[no-any-return]


def _look(store: Store, recipe: TeacherRecipe, job: tuple[int, int]) -> Taught:
    row, view = job
    return _teacher(recipe)(crop(store.pixels[row], row, view, recipe.side)[None])


def _listen(store: Store, recipe: TeacherRecipe, job: tuple[int, int]) -> Taught:
    return hear(_teacher(recipe), store.hear(*job))


def _taught(
    store: Store, recipe: TeacherRecipe, name: str, views: NDArray[np.int64], make: Callable[[tuple[int, int]], Taught]
) -> Targets:
    """Return the targets of so many views of each row, made by threads and kept beside the store."""
    jobs = [(row, view) for row, many in enumerate(views.tolist()) for view in range(many)]
    if not jobs:
        raise UsageError(
            f"the teacher {recipe.file.name} has nothing to teach from: the recipe's data has no such media"
        )

    def answer(start: int, stop: int) -> list[NDArray[Any]]:
        some = list(workers.map(make, jobs[start:stop]))
        outputs = np.stack([output for _, output in some])
        classes = np.argsort(-outputs, axis=1, kind="stable")[:, :_BELIEVED]
        believed = np.take_along_axis(outputs, classes, axis=1)
        layer = np.stack([inner for inner, _ in some])
        return [layer.astype(np.float16), classes.astype(np.uint16), believed.astype(np.float16)]

    counts = hashlib.blake2b(views.tobytes(), digest_size=6).hexdigest()
    key = f"{state(recipe.file)} {recipe.layer} {recipe.side} {name} {counts}"
    with ThreadPoolExecutor(default_workers()) as workers:
        layer, classes, believed = ask(_folder(store, key), ("layer", "classes", "believed"), len(jobs), answer)
    names = tuple(class_names(recipe.labels)) if recipe.labels else ()
    return Targets(layer, np.asarray(classes, np.int64), np.asarray(believed, np.float32), names)


def teach_texts(store: Store, examples: Examples) -> NDArray[np.float16]:
    """Return the sentence teacher's vectors of the texts, (n, 384); a translation has that of what it translates.

    The teacher reads English: what has no English meaning has zeros. Raises `UsageError` where nothing has any.
    """
    texts = examples.texts
    meanings = [texts[text.meaning].words if texts[text.meaning].language == "en" else None for text in texts]
    unique = [words for words in dict.fromkeys(meanings) if words is not None]
    if not unique:
        raise UsageError("the sentence teacher reads English, and the recipe's texts are in none; leave it out")
    teacher = cache(SentenceTeacher)  # loaded if it is asked at all

    def answer(start: int, stop: int) -> list[NDArray[Any]]:
        return [teacher()(unique[start:stop]).astype(np.float16)]

    (vectors,) = ask(_folder(store, "\n".join(unique)), ("sentences",), len(unique), answer)
    rows = {words: row for row, words in enumerate(unique)}
    out = np.zeros((len(texts), vectors.shape[1]), np.float16)
    read = [n for n, words in enumerate(meanings) if words is not None]
    out[read] = vectors[[rows[words] for words in meanings if words is not None]]
    return out


def _folder(store: Store, key: str) -> Path:
    """Return the folder of a teacher's answers."""
    return store.folder / hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).hexdigest()


def ask(folder: Path, names: Sequence[str], many: int, answer: Answer) -> list[NDArray[Any]]:
    """Return the answers to `many` questions, an array of that many rows for each name, kept in a folder.

    Those that a killed run had on disk stay, as far as the file `done` counts them. Raises `LockedError` while another
    run asks the same.
    """
    files = [folder / f"{name}.npy" for name in names]
    if not all(file.is_file() for file in files):
        folder.mkdir(exist_ok=True)
        with write_lock(folder, command="train"):
            _fill(files, folder / "done", many, answer)
    return [np.load(file, mmap_mode="r") for file in files]


def _fill(files: Sequence[Path], progress: Path, many: int, answer: Answer) -> None:
    """Write what is not on disk yet. All arrays get their names at the end, one after the other."""
    done = int(progress.read_text("ascii")) if progress.is_file() else 0
    if not all(file.is_file() or unfinished(file).is_file() for file in files):
        done = 0
    growing: list[Growing] = []
    with ExitStack() as opened:
        for start in range(done, many, _AT_ONCE):
            parts = answer(start, min(many, start + _AT_ONCE))
            growing = growing or [
                opened.enter_context(Growing(file, part.dtype, (many, *part.shape[1:]), start))
                for file, part in zip(files, parts, strict=True)
            ]
            for array, part in zip(growing, parts, strict=True):
                array.append(part)
                array.sync()
            write_whole(progress, str(start + len(parts[0])).encode())
    for file in files:
        if unfinished(file).is_file():  # else a run was killed just here
            finish(file)
