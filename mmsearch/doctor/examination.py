"""Runs the checks of `mmsearch doctor` in order, repairs the faults that they report, and checks again."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mmsearch.catalog import Catalog
from mmsearch.catalog.checking import Faults, find_faults
from mmsearch.catalog.mending import rebuild_search_trees
from mmsearch.catalog.opening import mapped_errors
from mmsearch.catalog.salvage import BEFORE_REPAIR, keep_copy, salvage
from mmsearch.catalog.seal import seal
from mmsearch.catalog.shape import has_own_tables, mend_shape
from mmsearch.catalog.upkeep import mend
from mmsearch.doctor.checks import (
    check_disk,
    check_folder,
    check_lock,
    check_rows,
    check_schema,
    remove_strays,
)
from mmsearch.doctor.opened import (
    check_adapted,
    check_calibration,
    check_files,
    check_indexes,
    check_model,
    mend_calibration,
)
from mmsearch.errors import CatalogError, MMSearchError, NoLibraryError, one_line
from mmsearch.files import is_link
from mmsearch.folder import CATALOG
from mmsearch.locking import write_lock
from mmsearch.model_views import ModelView, OpenLibrary
from mmsearch.settings import Settings
from mmsearch.types import Check

Opener = Callable[[], AbstractContextManager[OpenLibrary]]


def examine(
    folder: Path, open_library: Opener, *, repair: bool = False, settings: Settings | None = None
) -> list[Check]:
    """Check every part of the library in a folder; with `repair`, repair what can be repaired.

    Without `repair`, nothing is changed. Raises `NoLibraryError` if there is no catalog, and with `repair`
    `LockedError` if another process is writing.
    """
    if not os.path.lexists(folder / CATALOG):
        raise NoLibraryError(f"there is no library in {folder}; make one with 'mmsearch index PATH --library {folder}'")
    with mapped_errors(folder / CATALOG):
        return _repaired(folder, open_library, settings or Settings()) if repair else _checks(folder, open_library)


def _repaired(folder: Path, open_library: Opener, settings: Settings) -> list[Check]:
    lock = check_lock(folder)
    with write_lock(folder):
        before = _checks(folder, open_library, lock)
        if all(check.ok for check in before):
            return before
        failed = _Repair(folder, open_library, settings).go({check.check for check in before if not check.ok})
        after = {check.check: check for check in _checks(folder, open_library, lock)}
    return [_compared(check, after.get(check.check), failed) for check in before] + [
        check for name, check in after.items() if name not in {earlier.check for earlier in before}
    ]


def _compared(before: Check, after: Check | None, failed: str) -> Check:
    if before.ok:
        return before if after is None or after.ok else after
    if after is not None and not after.ok:
        return replace(after, detail=f"{after.detail} ({failed})") if failed else after
    return replace(before, ok=True, repaired=True)


def _checks(folder: Path, open_library: Opener, lock: Check | None = None) -> list[Check]:
    file = folder / CATALOG
    checks = [*check_folder(folder), check_disk(folder, file), lock or check_lock(folder)]
    try:
        _bring_up(file)
        faults = find_faults(file)
    except CatalogError as error:
        faults = Faults(file=[one_line(error, 300)])
    checks += [*check_rows(faults), check_schema(file)]
    if faults.file or faults.no_profile:
        return checks
    try:
        with open_library() as opened:
            model = opened.seen()
            checks += [check_model(model), check_adapted(model, folder), check_indexes(model), check_calibration(model)]
            checks += check_files(model)
    except MMSearchError as error:
        checks.append(Check("model", False, one_line(error, 300)))
    return checks


def _bring_up(file: Path) -> None:
    """Migrate a catalog of an older version, as every other command does. Raises `CatalogError` if it is empty."""
    if not file.stat().st_size:  # SQLite would create a new catalog in it
        raise CatalogError(f"{file} is empty")
    with suppress(CatalogError):  # the checks report what is wrong with it
        Catalog(file).close()


class _Repair:
    """Repairs one library. The caller holds its lock."""

    def __init__(self, folder: Path, open_library: Opener, settings: Settings) -> None:
        self._folder = folder
        self._file = folder / CATALOG
        self._open_library = open_library
        self._settings = settings
        self._again: set[bytes] = set()
        self._paths_lost = False

    def go(self, wrong: Collection[str]) -> str:
        """Repair what the failed checks named in `wrong` report. Return "", or in one line why a repair failed."""
        remove_strays(self._folder)
        try:
            with mapped_errors(self._file):
                if not {"catalog", "schema", "checksums", "vectors", "references"}.isdisjoint(wrong):
                    if is_link(self._file):  # its target may be any database
                        raise CatalogError(
                            f"{self._file} is a link, and its target isn't repaired; put the catalog itself there"
                        )
                    keep_copy(self._file)
                    self._mend_catalog()
                with self._open_library() as opened:
                    self._mend_rest(opened.seen(), wrong)
        except MMSearchError as error:
            return one_line(error, 300)
        seal(self._file)
        return ""

    def _mend_catalog(self) -> None:
        if not has_own_tables(self._file) or (find_faults(self._file).file and not rebuild_search_trees(self._file)):
            salvage(self._file)
            self._paths_lost = True
        mend_shape(self._file)
        with self._catalog() as catalog:
            mended = mend(catalog, find_faults(self._file))
        self._again |= mended.again
        self._paths_lost |= mended.paths_lost

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        catalog = Catalog(self._file)
        try:
            yield catalog
        finally:
            catalog.close()

    def _mend_rest(self, model: ModelView, wrong: Collection[str]) -> None:
        self._embed_again(model, "embedded" in wrong)
        if "indexes" in wrong and model.indexes.verify(model.profile):
            model.indexes.discard(model.profile)
        model.indexes.catch_up(model.profile)
        mend_calibration(model)

    def _embed_again(self, model: ModelView, outdated: bool) -> None:
        """Embed damaged contents from their files again. If paths were lost, all roots are indexed to find them."""
        # The reverse dependency: only the library, its doctor and training import the indexer.
        from indexer import IndexOptions, Scope, fill_facts, remembered_scope, run

        again = frozenset(self._again)
        if outdated:
            again |= {row.path for row in model.catalog.lacking(model.profile.key)}
        if self._paths_lost and model.catalog.roots():
            scope = remembered_scope(model.catalog)
            run(model.catalog, model.profile, scope, self._settings, IndexOptions(skip=self._folder))
        if again:
            run(model.catalog, model.profile, Scope(), self._settings, IndexOptions(again=again))
        model.catalog.drop_orphans()
        fill_facts(model.catalog, model.profile.front_ends, self._settings, None, lambda: False)


__all__ = ["BEFORE_REPAIR", "examine"]
