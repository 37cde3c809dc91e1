"""Where a library keeps the spaces that were adapted to it: LIBRARY/adapted/FINGERPRINT."""

from __future__ import annotations

from pathlib import Path

from mmsearch.catalog import Catalog
from mmsearch.layout import ADAPTED as ADAPTED_LAYOUT
from mmsearch.layout import OwnFolder
from mmsearch.spaces import ADAPTED


def adapted_folder(library: Path) -> Path:
    """Return where a library keeps the spaces that it was adapted to."""
    return library / "adapted"


def adapted_place(catalog: Catalog, library: Path) -> OwnFolder:
    """Return that folder with what mmsearch keeps in it."""
    return OwnFolder(adapted_folder(library), ADAPTED_LAYOUT, catalog.library_id)


def check_adapted(catalog: Catalog, library: Path) -> None:
    """Raise `LinkError` where a link is in the way of a space that a profile of the library names."""
    place = adapted_place(catalog, library)
    for row in catalog.profiles():
        if row.name.startswith(ADAPTED):
            place.check(place.path / row.name.removeprefix(ADAPTED))


def tidy(catalog: Catalog, library: Path) -> None:
    """Remove the spaces of profiles that the catalog no longer knows. The caller holds the lock."""
    known = {row.name.removeprefix(ADAPTED) for row in catalog.profiles()}
    place = adapted_place(catalog, library)
    place.remove(place.path, lambda name: name not in known)
    place.remove_temporary()
