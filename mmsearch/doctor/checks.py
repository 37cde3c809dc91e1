"""The checks of `mmsearch doctor` that need no open library: its folder, the disk, the lock and the catalog."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from mmsearch.catalog.checking import Faults, reading
from mmsearch.catalog.salvage import BEFORE_REPAIR
from mmsearch.catalog.shape import shape_faults
from mmsearch.errors import CatalogError, LibraryError, LockedError, one_line
from mmsearch.files import Layout, remove_own, remove_temporary, temporary_files
from mmsearch.layout import ADAPTED, INDEXES
from mmsearch.locking import write_lock
from mmsearch.types import Check

_LEAST_FREE_BYTES = 2**28
_NAMED = 5
"""How many names a line holds."""
_LINKED_ON_PURPOSE = ("indexes", "adapted", "catalog.sqlite")
"""What a user may link to another disk: see `mmsearch.layout`."""
_KNOWN = re.compile(
    r"catalog\.sqlite(-wal|-shm|-journal)?|catalog\.seal|write\.lock|indexes|adapted|"
    rf"{re.escape(BEFORE_REPAIR)}(-wal)?"
)
_STRAYS = re.compile(r"\.catalog\.(seal|sqlite(\.before-repair)?)(-wal)?\.\d+(-wal|-shm)?")
"""What a killed process leaves beside the catalog."""
_LAYOUT = Layout(_STRAYS)


def check_folder(folder: Path) -> list[Check]:
    """Check what lies in a library's folder, and whether it may be read and written."""
    checks = [_permissions(folder)]
    links = [path.relative_to(folder) for path in _walk(folder) if path.is_symlink()]
    links = [link for link in links if str(link) not in _LINKED_ON_PURPOSE]
    detail = f"links: {_names(links)}; mmsearch follows none of them, so remove them" if links else "none in the way"
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
        return Check("permissions", True, "the folder can be read, and not be written: queries work, index doesn't")
    return Check("permissions", True, "everything can be read, the folder can be written")


def _walk(folder: Path) -> Iterable[Path]:
    for place, folders, names in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *names))


def strays_in(folder: Path) -> list[Path]:
    """Return the temporary files that killed processes have left, in the library's folder and below its indexes."""
    found = [path for path in folder.iterdir() if _STRAYS.fullmatch(path.name) and path.is_file()]
    for place, layout in ((folder / "indexes", INDEXES), (folder / "adapted", ADAPTED)):
        found += temporary_files(place, place, layout)
    return sorted(path for path in found if not path.is_symlink())


def remove_strays(folder: Path) -> None:
    """Remove the temporary files that killed processes have left; the caller holds the lock."""
    remove_own(folder, folder, _LAYOUT, lambda _: True)
    for place, layout in ((folder / "indexes", INDEXES), (folder / "adapted", ADAPTED)):
        remove_temporary(place, place, layout)


def check_disk(folder: Path, catalog: Path) -> Check:
    """Check that there is room for another run."""
    free = shutil.disk_usage(folder).free
    size = catalog.stat().st_size if catalog.exists() else 0
    enough = free >= max(_LEAST_FREE_BYTES, size // 4)
    return Check("disk", enough, f"{free / 1e9:,.1f} GB free" + ("" if enough else "; free some for the next run"))


def check_lock(folder: Path) -> Check:
    """Say whether somebody is writing to the library at the moment."""
    try:
        with write_lock(folder, 0.0):
            return Check("lock", True, "nobody writes")
    except LockedError as error:
        return Check("lock", True, f"{one_line(error)}; what is found may be what it has just changed")
    except LibraryError as error:
        return Check("lock", False, one_line(error))


def check_schema(file: Path) -> Check:
    """Check the tables and indexes of a catalog. A file that can't be read is reported by `check_rows`."""
    try:
        with reading(file) as connection:
            lines = shape_faults(connection)
    except CatalogError:
        return Check("schema", False, "it can't be read")
    return Check("schema", not lines, _names(lines) if lines else "as this version makes it")


def check_rows(faults: Faults) -> list[Check]:
    """Return the checks of a catalog's file, of its rows, of its vectors, and of what refers to another row."""
    if faults.file:
        detail = f"{one_line(faults.file[0])}; 'mmsearch doctor --repair' saves the rows that can be read"
        return [Check("catalog", False, detail)]
    rows = [f"{name} {len(keys):,}" for name, keys in faults.rows.items()]
    if damaged := len(faults.contents):
        rows.append(f"contents {damaged:,}")
    rows += [f"{name} ({n:,} rows lost)" if n > 0 else f"{name} (other rows)" for name, n in faults.tallies.items()]
    if faults.full_text:
        rows.append("the full-text index")
    sums = "not recorded yet: the next index run does" if faults.unrecorded else "every row is what was written"
    refers = [f"{name} {len(ids):,}" for name, ids in faults.dangling.items()]
    refers = [f"rows that refer to one that isn't there: {', '.join(refers)}"] if refers else []
    if faults.unnamed:
        refers.append(f"contents that no path names: {len(faults.unnamed):,}")
    if faults.unmade:
        refers.append(f"contents that no model has embedded: {len(faults.unmade):,}")
    if faults.no_profile:
        refers.append("no model answers")
    vectors = f"not finite, not of norm 1 or of another length: {faults.bad_vectors:,}"
    return [
        Check("catalog", True, "its file is whole"),
        Check("checksums", not rows, f"rows that aren't what was written: {', '.join(rows)}" if rows else sums),
        Check("vectors", not faults.bad_vectors, vectors if faults.bad_vectors else "finite and of norm 1"),
        Check("references", not refers, "; ".join(refers) if refers else "every row refers to one that is there"),
    ]


def _names(names: Iterable[object]) -> str:
    every = [str(name) for name in names]
    more = f" and {len(every) - _NAMED:,} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
