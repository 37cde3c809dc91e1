"""The checks of `mmsearch doctor` that need no open library: its folder, the disk, the lock and the catalog."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmsearch.catalog.checking import Faults, reading
from mmsearch.catalog.salvage import BEFORE_REPAIR
from mmsearch.catalog.shape import shape_faults
from mmsearch.errors import CatalogError, LibraryError, LockedError, one_line
from mmsearch.files import Layout, is_link, remove_own, remove_temporary, temporary_files
from mmsearch.layout import ADAPTED, INDEXES
from mmsearch.locking import write_lock
from mmsearch.types import Check

_MIN_FREE_BYTES = 2**28
_NAMES_PER_LINE = 5
_ALLOWED_LINKS = ("indexes", "adapted", "catalog.sqlite")
"""Names that a user may link to another disk: see `mmsearch.layout`."""
_KNOWN = re.compile(
    r"catalog\.sqlite(-wal|-shm|-journal)?|catalog\.seal|write\.lock|indexes|adapted|"
    rf"{re.escape(BEFORE_REPAIR)}(-wal)?"
)
_STRAYS = re.compile(r"\.catalog\.(seal|sqlite(\.before-repair)?)(-wal)?\.\d+(-wal|-shm)?")
"""Temporary files that a killed process leaves next to the catalog."""
_LAYOUT = Layout(_STRAYS)


def check_folder(folder: Path) -> list[Check]:
    """Check the permissions of a library's folder, and look for links, leftovers and foreign files in it."""
    checks = [_permissions(folder)]
    links = [path.relative_to(folder) for path in _walk(folder) if path.is_symlink()]
    links = [link for link in links if str(link) not in _ALLOWED_LINKS]
    detail = f"{_names(links)}; mmsearch follows none of these links, so remove them" if links else "none in the way"
    checks.append(Check("links", not links, detail))
    strays = [path.relative_to(folder) for path in strays_in(folder)]
    checks.append(Check("strays", not strays, f"left by a killed process: {_names(strays)}" if strays else "none"))
    foreign = sorted(entry.name for entry in folder.iterdir() if not _is_known(entry.name))
    checks.append(Check("foreign files", True, f"{_names(foreign)}; they are left alone" if foreign else "none"))
    return checks


def _is_known(name: str) -> bool:
    return bool(_KNOWN.fullmatch(name) or _STRAYS.fullmatch(name))


def _permissions(folder: Path) -> Check:
    closed = [path for path in (folder, *_walk(folder)) if not path.is_symlink() and not os.access(path, os.R_OK)]
    if closed:
        return Check("permissions", False, f"can't be read: {_names(closed)}; make them readable")
    if not os.access(folder, os.W_OK):
        return Check("permissions", True, "the folder can be read but not written: queries work, indexing doesn't")
    return Check("permissions", True, "everything can be read and the folder can be written")


def _walk(folder: Path) -> Iterable[Path]:
    for place, folders, names in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *names))


def strays_in(folder: Path) -> list[Path]:
    """Return the temporary files that killed processes left in the library's folder and in its subfolders."""
    strays = [path for path in folder.iterdir() if _STRAYS.fullmatch(path.name) and path.is_file()]
    for subfolder, layout in _own_folders(folder):
        strays += temporary_files(subfolder, subfolder, layout)
    return sorted(path for path in strays if not path.is_symlink())


def remove_strays(folder: Path) -> None:
    """Remove the temporary files that killed processes left. The caller holds the lock."""
    remove_own(folder, folder, _LAYOUT, lambda _: True)
    for subfolder, layout in _own_folders(folder):
        remove_temporary(subfolder, subfolder, layout)


def _own_folders(folder: Path) -> Iterator[tuple[Path, Layout]]:
    """Yield the library's folders of indexes and adapted spaces. Linked ones are left out: others may share them."""
    for subfolder, layout in ((folder / "indexes", INDEXES), (folder / "adapted", ADAPTED)):
        if not is_link(subfolder):
            yield subfolder, layout


def check_disk(folder: Path, catalog: Path) -> Check:
    """Check that the disk has room for another index run."""
    free = shutil.disk_usage(folder).free
    size = catalog.stat().st_size if catalog.exists() else 0
    enough = free >= max(_MIN_FREE_BYTES, size // 4)
    remedy = "" if enough else "; free more for the next index run"
    return Check("disk", enough, f"{free / 1e9:,.1f} GB free{remedy}")


def check_lock(folder: Path) -> Check:
    """Check whether another process is writing to the library."""
    if not os.access(folder, os.W_OK):
        return Check("lock", True, "nobody writes: the folder can't be written")
    try:
        with write_lock(folder, 0.0):
            return Check("lock", True, "nobody writes")
    except LockedError as error:
        return Check("lock", True, f"{one_line(error)}; faults may come from its unfinished changes")
    except LibraryError as error:
        return Check("lock", False, one_line(error))


def check_schema(file: Path) -> Check:
    """Check that a catalog has this version's tables and indexes. `check_rows` reports why one can't be read."""
    try:
        with reading(file) as connection:
            lines = shape_faults(connection)
    except CatalogError:
        return Check("schema", False, "it can't be read")
    return Check("schema", not lines, _names(lines) if lines else "tables and indexes are complete")


def check_rows(faults: Faults) -> list[Check]:
    """Return the checks of a catalog's file, and of the checksums, vectors and references of its rows."""
    if faults.file:
        detail = f"{one_line(faults.file[0])}; 'mmsearch doctor --repair' saves the rows that can be read"
        return [Check("catalog", False, detail)]
    vectors = f"not finite, not of norm 1 or of the wrong length: {faults.bad_vectors:,}"
    return [
        Check("catalog", True, "its file is whole"),
        _checksums(faults),
        Check("vectors", not faults.bad_vectors, vectors if faults.bad_vectors else "finite and of norm 1"),
        _references(faults),
    ]


def _checksums(faults: Faults) -> Check:
    damaged = [f"{name} {len(keys):,}" for name, keys in faults.rows.items()]
    if contents := len(faults.contents):
        damaged.append(f"contents {contents:,}")
    damaged += [f"{name} ({n:,} rows lost)" if n > 0 else f"{name} (other rows)" for name, n in faults.tallies.items()]
    if faults.full_text:
        damaged.append("the full-text index")
    if damaged:
        return Check("checksums", False, f"rows that have changed since they were written: {', '.join(damaged)}")
    unchanged = "every row is as it was written"
    later = "not recorded yet; the next index run records them"
    return Check("checksums", True, later if faults.unrecorded else unchanged)


def _references(faults: Faults) -> Check:
    dangling = [f"{name} {len(ids):,}" for name, ids in faults.dangling.items()]
    problems = [f"rows that refer to a missing row: {', '.join(dangling)}"] if dangling else []
    if faults.unnamed:
        problems.append(f"contents that no path names: {len(faults.unnamed):,}")
    if faults.unmade:
        problems.append(f"contents that no model has embedded: {len(faults.unmade):,}")
    if faults.no_profile:
        problems.append("no model answers")
    return Check("references", not problems, "; ".join(problems) if problems else "every row refers to an existing one")


def _names(names: Iterable[object]) -> str:
    every = [str(name) for name in names]
    more = f" and {len(every) - _NAMES_PER_LINE:,} more" if len(every) > _NAMES_PER_LINE else ""
    return ", ".join(every[:_NAMES_PER_LINE]) + more
