"""The folder of a library's adapted spaces: LIBRARY/adapted/FINGERPRINT."""

from __future__ import annotations

from pathlib import Path

from mmsearch.catalog import Catalog
from mmsearch.files import is_link
from mmsearch.layout import ADAPTED as ADAPTED_LAYOUT
from mmsearch.layout import OwnFolder
from mmsearch.spaces import ADAPTED


def adapted_folder(library: Path) -> Path:
    """Return the folder of a library's adapted spaces."""
    return library / "adapted"


def adapted_place(catalog: Catalog, library: Path) -> OwnFolder:
    """Return the folder of adapted spaces with its layout."""
    return OwnFolder(adapted_folder(library), ADAPTED_LAYOUT, catalog.library_id)


def check_adapted(catalog: Catalog, library: Path) -> None:
    """Raise `LinkError` if a link is in the way of an adapted space of the library's models."""
    place = adapted_place(catalog, library)
    for row in catalog.profiles():
        if row.name.startswith(ADAPTED):
            place.check(place.path / row.name.removeprefix(ADAPTED))


def tidy(catalog: Catalog, library: Path) -> None:
    """Remove the adapted spaces of models that the catalog no longer knows. The caller holds the lock.

    If the folder is a link, they are kept: a copy of the library may share them, and they can't be made again.
    """
    known = {row.name.removeprefix(ADAPTED) for row in catalog.profiles()}
    place = adapted_place(catalog, library)
    if not is_link(place.path):
        place.remove(place.path, lambda name: name not in known)
    place.remove_temporary()
