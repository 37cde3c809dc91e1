"""Collects the status of a library: see `types.Status`."""

from __future__ import annotations

import os
from pathlib import Path

from mmsearch.catalog import Catalog, ProfileRow
from mmsearch.files import size_of
from mmsearch.indexes import Indexes
from mmsearch.spaces import Profile
from mmsearch.types import Status


def describe(folder: Path, catalog: Catalog, row: ProfileRow, loaded: tuple[Profile, Indexes] | None) -> Status:
    """Return the status of the library in a folder, whose current model is `row`.

    `loaded` is that model with its indexes. Without it, indexes and the number of outdated files aren't reported.
    """
    change = catalog.change
    others = [other for other in catalog.profiles() if other.id != row.id]
    profile, indexes = loaded or (None, None)
    return Status(
        library=folder.absolute(),
        profile=row.name,
        media=catalog.count_media(),
        segments=catalog.count_segments(),
        failures=len(catalog.failures_under()),
        indexes=indexes.status(profile) if indexes and profile else (),
        bytes=size_of(folder),
        outdated=catalog.count_outdated(profile.key) if profile else 0,
        unfinished=catalog.count_unfinished(),
        changing_to=next((other.name for other in others if other.id == change), None),
        changed=catalog.beside(change).count_whole() if change is not None else 0,
        kept_models=tuple(other.name for other in others if other.id != change),
        precision=catalog.precision,
        roots={Path(os.fsdecode(path)): exclude for path, exclude in catalog.roots()},
    )
