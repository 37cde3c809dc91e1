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


def check_model(model: ModelView) -> Check:
    """Check that the model's files are undamaged, and that each of its text towers returns a vector of norm 1."""
    for space in model.profile.spaces:
        if isinstance(space, OnnxSpace) and is_torn(space):
            return Check("model", False, f"a file of {space.name} is damaged; run 'mmsearch model pull {space.name}'")
        if View.TEXT in space.front_ends:
            try:
                vector = embed(space, View.TEXT, ["a dog"])[0]
            except MMSearchError as error:
                return Check("model", False, one_line(error))
            if not abs(float(np.linalg.norm(vector)) - 1) < 0.01:
                return Check("model", False, f"{space.name} returns no finite vector of norm 1")
    return Check("model", True, f"{model.profile.name} is installed and works")


def check_adapted(model: ModelView, library: Path) -> Check:
    """Check that no adapted space of the library is missing. Loading the model has verified their content."""
    known = [row.name for row in model.catalog.profiles() if row.name.startswith(ADAPTED)]
    missing = [name for name in known if not (adapted_folder(library) / name.removeprefix(ADAPTED)).is_dir()]
    if missing:
        detail = f"{missing[0]} is missing; go back with 'mmsearch index PATH --model MODEL'"
        return Check("adapted spaces", False, detail)
    return Check("adapted spaces", True, f"{len(known):,}" if known else "none")


def check_indexes(model: ModelView) -> Check:
    """Check every byte of the indexes, and compare them with the catalog."""
    problems = model.indexes.verify(model.profile)
    if problems:
        return Check("indexes", False, "; ".join(map(one_line, problems)))
    lines = model.indexes.status(model.profile)
    stale = [line for line in lines if line.stale]
    behind = f", {len(stale)} behind: the next query or index run updates them" if stale else ""
    return Check("indexes", True, f"{sum(line.count for line in lines):,} vectors in {len(lines)} indexes{behind}")


def check_calibration(model: ModelView) -> Check:
    """Check that the stored score distributions of the query bank can be read."""
    broken = [file.name for file, dim in _banks(model) if not is_usable(file, dim)]
    return Check("calibration", not broken, f"can't be read: {', '.join(broken)}" if broken else "it can be read")


def mend_calibration(model: ModelView) -> None:
    """Remove unreadable calibration files and compute them again. The caller holds the lock."""
    for file, dim in _banks(model):
        if not is_usable(file, dim):
            model.indexes.remove(file)
    Calibration(model.catalog, model.profile, model.indexes).catch_up()


def _banks(model: ModelView) -> Iterator[tuple[Path, int]]:
    for space in model.profile.spaces:
        for view in space.front_ends:
            file = model.indexes.file(space, view, "bank.npz")
            if file.is_file() and not file.is_symlink():
                yield file, space.dim


def check_files(model: ModelView) -> list[Check]:
    """Report files that must be embedded again, files that failed, and roots that can't be reached."""
    failures = len(model.catalog.failures_under())
    outdated = model.catalog.count_outdated(model.profile.key)
    unfinished = model.catalog.count_unfinished()
    left = f"{outdated:,} files are out of date and {unfinished:,} are read in part; run 'mmsearch index' on them"
    roots = [os.fsdecode(path) for path, _ in model.catalog.roots()]
    missing = [path for path in roots if not os.path.lexists(path)]
    summary = f"{len(roots):,} files and folders are watched over"
    if missing:
        summary += f"; {len(missing):,} can't be reached now, the first is {missing[0]}"
    return [
        Check("embedded", not outdated, left if outdated or unfinished else "all files are embedded"),
        Check("failures", True, f"{failures:,} files couldn't be indexed completely; 'mmsearch status' lists them"),
        Check("roots", True, summary),
    ]
