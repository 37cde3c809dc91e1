"""What a library holds, counted: see `types.Status`."""

from __future__ import annotations

import os
from pathlib import Path

from mmsearch.catalog import Catalog, ProfileRow
from mmsearch.files import size_of
from mmsearch.indexes import Indexes
from mmsearch.spaces import Profile
from mmsearch.types import Status


def describe(folder: Path, catalog: Catalog, row: ProfileRow, loaded: tuple[Profile, Indexes] | None) -> Status:
    """Return what the library in a folder holds, as the profile `row` sees it that answers.

    Without that profile, `loaded` with its indexes, nothing is said of indexes and of files that are out of date.
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
