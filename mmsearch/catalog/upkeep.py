"""Checks every row of a catalog before an index run changes it, and repairs damaged ones."""

from __future__ import annotations

import logging

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.checking import Faults, find_faults
from mmsearch.catalog.mending import Mender, RepairResult, rebuild_search_trees, record
from mmsearch.catalog.seal import is_sealed
from mmsearch.errors import CatalogError

_log = logging.getLogger(__name__)


def mend_if_broken(catalog: Catalog) -> set[bytes]:
    """Check and repair a catalog whose seal is broken; return the paths whose files must be embedded again.

    The caller holds the library's lock. Raises `CatalogError` if the file itself is damaged.
    """
    if is_sealed(catalog.file):
        return set()
    faults = find_faults(catalog.file)
    if faults.file and rebuild_search_trees(catalog.file):
        _log.warning("%s: SQLite's indexes were damaged and have been rebuilt", catalog.file)
        faults = find_faults(catalog.file)
    if faults.file:
        raise CatalogError(f"{catalog.file} is damaged ({faults.file[0][:100]}); run 'mmsearch doctor --repair'")
    result = mend(catalog, faults)
    warn(catalog, faults, result)
    return result.again


def mend(catalog: Catalog, faults: Faults) -> RepairResult:
    """Repair a catalog's rows, and record its checksums if an older version wrote it. The caller holds the lock."""
    mender = Mender(catalog)
    if faults and mender.restore(faults):
        faults = find_faults(catalog.file)
    result = mender.mend(faults) if faults else RepairResult()
    if faults.unrecorded:
        record(catalog)
    return result


def warn(catalog: Catalog, faults: Faults, result: RepairResult) -> None:
    """Log a warning for each kind of fault."""
    lines = list(result.kept)
    if damaged := len(faults.contents) + len(faults.unmade):
        lines.append(f"{damaged:,} of its contents were damaged; they are embedded again")
    if faults.tallies.get("media", 0) > 0:
        lines.append(f"{faults.tallies['media']:,} paths were lost; 'mmsearch doctor --repair' looks for their files")
    if others := sum(map(len, faults.rows.values())) + sum(map(len, faults.dangling.values())):
        lines.append(f"{others:,} other rows were damaged and have been repaired")
    for line in lines:
        _log.warning("%s: %s", catalog.file, line)
