"""The checks of `mmsearch doctor` that need an open library: its model, its indexes, its calibration and its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmsearch.adapted_spaces import adapted_folder
from mmsearch.errors import MMSearchError, one_line
from mmsearch.model_views import ModelView
from mmsearch.search.calibration import Calibration, is_usable
from mmsearch.spaces import ADAPTED, OnnxSpace, embed
from mmsearch.spaces.cache import is_torn
from mmsearch.types import Check, View


def check_model(seen: ModelView) -> Check:
    """Check that the model's files are whole, and that each of its spaces answers a word with a vector of norm 1."""
    for space in seen.profile.spaces:
        if isinstance(space, OnnxSpace) and is_torn(space):
            return Check("model", False, f"a file of {space.name} is damaged; run 'mmsearch model pull {space.name}'")
        if View.TEXT in space.front_ends:
            try:
                vector = embed(space, View.TEXT, ["a dog"])[0]
            except MMSearchError as error:
                return Check("model", False, one_line(error))
            if not abs(float(np.linalg.norm(vector)) - 1) < 0.01:
                return Check("model", False, f"{space.name} gives no finite vector of norm 1")
    return Check("model", True, f"{seen.profile.name} is there and answers")


def check_adapted(seen: ModelView, library: Path) -> Check:
    """Check that the spaces that the library was adapted to are there; that they are whole, loading them has shown."""
    known = [row.name for row in seen.catalog.profiles() if row.name.startswith(ADAPTED)]
    missing = [name for name in known if not (adapted_folder(library) / name.removeprefix(ADAPTED)).is_dir()]
    if missing:
        detail = f"{missing[0]} is missing; go back with 'mmsearch index PATH --model MODEL'"
        return Check("adapted spaces", False, detail)
    return Check("adapted spaces", True, f"{len(known):,}" if known else "none")


def check_indexes(seen: ModelView) -> Check:
    """Check every byte of the indexes, and compare them with the catalog."""
    problems = seen.indexes.verify(seen.profile)
    if problems:
        return Check("indexes", False, "; ".join(map(one_line, problems)))
    lines = seen.indexes.status(seen.profile)
    stale = [line for line in lines if line.stale]
    behind = f", {len(stale)} behind: the next query or run catches them up" if stale else ""
    return Check("indexes", True, f"{sum(line.count for line in lines):,} vectors in {len(lines)} indexes{behind}")


def check_calibration(seen: ModelView) -> Check:
    """Check that what is known of unrelated queries can be read."""
    broken = [file.name for file, dim in _banks(seen) if not is_usable(file, dim)]
    return Check("calibration", not broken, f"can't be read: {', '.join(broken)}" if broken else "it can be read")


def mend_calibration(seen: ModelView) -> None:
    """Drop what can't be read of it, and ask again; the caller holds the lock."""
    for file, dim in _banks(seen):
        if not is_usable(file, dim):
            seen.indexes.remove(file)
    Calibration(seen.catalog, seen.profile, seen.indexes).catch_up()


def _banks(seen: ModelView) -> Iterator[tuple[Path, int]]:
    for space in seen.profile.spaces:
        for view in space.front_ends:
            file = seen.indexes.file(space, view, "bank.npz")
            if file.is_file() and not file.is_symlink():
                yield file, space.dim


def check_files(seen: ModelView) -> list[Check]:
    """Say what lacks of the files: those that can't be indexed, those to be embedded again, and the roots."""
    failures = len(seen.catalog.failures_under())
    outdated = seen.catalog.count_outdated(seen.profile.key)
    unfinished = seen.catalog.count_unfinished()
    left = f"{outdated:,} files are out of date and {unfinished:,} aren't read to the end; run 'mmsearch index' on them"
    roots = [os.fsdecode(path) for path, _ in seen.catalog.roots()]
    away = [path for path in roots if not os.path.lexists(path)]
    there = f"{len(roots):,} files and folders are watched over"
    if away:
        there += f"; {len(away):,} can't be reached now, {away[0]} for one"
    return [
        Check("embedded", not outdated, left if outdated or unfinished else "all files are embedded"),
        Check("failures", True, f"{failures:,} files can't be indexed, or not wholly; 'mmsearch status' lists them"),
        Check("roots", True, there),
    ]
