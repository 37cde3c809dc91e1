"""Looks, before an index run changes anything, whether every row of the catalog is what was written."""

from __future__ import annotations

import logging

from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.checking import Faults, find_faults
from mmsearch.catalog.mending import Mended, Mender, rebuild_search_trees, record
from mmsearch.catalog.seal import is_sealed
from mmsearch.errors import CatalogError

_log = logging.getLogger(__name__)


def mend_if_broken(catalog: Catalog) -> set[bytes]:
    """Check a catalog whose seal is broken, mend it, and return the paths whose files are to be embedded again.

    The caller holds the library's lock. Raises `CatalogError` where the file itself is damaged.
    """
    if is_sealed(catalog.file):
        return set()
    faults = find_faults(catalog.file)
    if faults.file and rebuild_search_trees(catalog.file):
        _log.warning("%s: its search trees were damaged and are rebuilt", catalog.file)
        faults = find_faults(catalog.file)
    if faults.file:
        raise CatalogError(f"{catalog.file} is damaged ({faults.file[0][:100]}); run 'mmsearch doctor --repair'")
    mended = mend(catalog, faults)
    tell(catalog, faults, mended)
    return mended.again


def mend(catalog: Catalog, faults: Faults) -> Mended:
    """Mend a catalog's rows, and record its checksums if an older version wrote it. The caller holds the lock."""
    mender = Mender(catalog)
    if faults and mender.restore(faults):
        faults = find_faults(catalog.file)
    mended = mender.mend(faults) if faults else Mended()
    if faults.unrecorded:
        record(catalog)
    return mended


def tell(catalog: Catalog, faults: Faults, mended: Mended) -> None:
    """Warn of what was found."""
    lines = list(mended.kept)
    if damaged := len(faults.contents) + len(faults.unmade):
        lines.append(f"{damaged:,} of its contents weren't what was written; they are embedded again")
    if faults.tallies.get("media", 0) > 0:
        lines.append(f"{faults.tallies['media']:,} paths were lost; 'mmsearch doctor --repair' looks for their files")
    if others := sum(map(len, faults.rows.values())) + sum(map(len, faults.dangling.values())):
        lines.append(f"{others:,} other rows were damaged and are mended")
    for line in lines:
        _log.warning("%s: %s", catalog.file, line)
