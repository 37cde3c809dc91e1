"""A library's space made its own: from the catalog's vectors to heads, a space folder, and a converted catalog.

LIBRARY/adapted/FINGERPRINT/    spec.json, heads.npz: `adapted:FINGERPRINT`, wherever the library is moved to
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.adapted_spaces import adapted_folder, adapted_place
from mmsearch.catalog import Catalog, StoredContent
from mmsearch.errors import UsageError, unwritable
from mmsearch.spaces import ADAPTED, Adapted, AdaptedSpace, HeadWeights, Profile, load_profile
from mmsearch.types import AdaptReport, Progress, View

LEAST_PAIRS = 50
"""With fewer contents that have two sides there is nothing to tell a gain by."""
_Report = Callable[[Progress], None]


def adapt_profile(
    catalog: Catalog, profile: Profile, library: Path, progress: _Report | None = None
) -> tuple[AdaptReport, Profile | None]:
    """Train heads over a profile's first space; return what came of it, and the adapted profile if anything was gained.

    Its space is on the disk by then; the catalog is as it was. The caller holds the lock. Raises `UsageError` where
    there is too little to learn from, or the library isn't in a state to be adapted.
    """
    from mmsearch.adaptation.pairs import collect

    began = time.monotonic()
    space = profile.spaces[0]
    _refuse_unready(catalog, profile, library)
    collection = collect(catalog, space, read=_teller(progress))
    if collection.pairs < LEAST_PAIRS:
        raise UsageError(
            f"there is too little to learn from in {library}: {collection.captioned} pictures or clips with a caption "
            f"and {collection.sounding} clips with sound, where {LEAST_PAIRS} in all are needed; put photo.txt with a "
            "caption beside photo.jpg, or add clips with sound, and run 'mmsearch index' again"
        )
    from mmsearch.adaptation.fit import adapt  # brings torch, for which no refusal has to wait

    collection = collection.telling()
    outcome = adapt(collection, progress=_teller(progress))
    seconds = round(time.monotonic() - began, 3)
    report = AdaptReport(False, profile.name, collection.pairs, outcome.overall, outcome.gains, seconds)
    if outcome.heads is None:
        return report, None
    as_it_was = HeadWeights.identity(space.dim)
    made = Adapted(
        bases=dict.fromkeys(space.front_ends, space),
        profile=profile.name,
        heads={view: outcome.heads.get(view, as_it_was) for view in space.front_ends},
        background=outcome.background,
        gained={gain.direction: [gain.metric, gain.before, gain.after] for gain in outcome.gains},
    )
    catalog.library_id(make=True)
    try:
        adapted_place(catalog, library).prepare()
        name = ADAPTED + made.write(adapted_folder(library))
    except OSError as error:
        message = f"{error.filename or library}: {error.strerror or error}; mend that and run 'mmsearch adapt' again"
        raise unwritable(error, message) from error
    new = load_profile(name, pins=(name, *profile.pins[1:]), own=adapted_folder(library))
    return replace(report, adapted=True, model=name), new


def _refuse_unready(catalog: Catalog, profile: Profile, library: Path) -> None:
    first = profile.spaces[0]
    if isinstance(first, AdaptedSpace):
        raise UsageError(
            f"{library} is adapted already; go back with 'mmsearch index PATH --model {first.profile} --library "
            f"{library}', which reads only what is new, then run 'mmsearch adapt' again"
        )
    change = next((row.name for row in catalog.profiles() if row.id == catalog.change), None)
    if change is not None and not change.startswith(ADAPTED):
        raise UsageError(
            f"{library} is changing to the model {change!r}; finish that with 'mmsearch index PATH --model {change}', "
            f"or call it off with --model {profile.name}"
        )
    if lacking := catalog.count_lacking(profile.key):
        raise UsageError(
            f"{lacking:,} of the files in {library} aren't embedded to their end; run 'mmsearch index' on them again, "
            "or drop them with 'mmsearch forget'"
        )


def convert(old: Catalog, profile: Profile, new: Catalog, adapted: Profile, progress: _Report | None = None) -> None:
    """Embed all that one profile has embedded as the adapted profile does, from its vectors alone.

    What the first space has is moved by the heads, what others have is copied. In steps that are whole in themselves:
    one that was killed is gone on with. (Here the mean of a shot's frames is moved, where a file that is read anew
    gives the mean of its moved frames; near the identity that is nearly the same.)
    """
    space = adapted.spaces[0]
    assert isinstance(space, AdaptedSpace)
    ids = {
        known: new.add_space(own.name, own.fingerprint, own.dim)
        for before, own in zip(profile.spaces, adapted.spaces, strict=True)
        if (known := old.space_id(before.name, before.fingerprint, before.dim)) is not None
    }
    first = old.space_id(profile.spaces[0].name, profile.spaces[0].fingerprint, profile.spaces[0].dim)
    done = new.embedded_by(adapted.key)
    total = sum(old.count_media().values())
    tell, count = _teller(progress), 0
    for page in old.stored():
        left = [content for content in page if content.id not in done]
        new.copy_in(_moved(left, space, first, ids), adapted.key)
        count += len(page)
        if tell:
            tell(min(count, total), total)


def _moved(
    contents: Iterable[StoredContent], space: AdaptedSpace, first: int | None, ids: dict[int, int]
) -> list[StoredContent]:
    """Return contents as an adapted profile holds them; the vectors of one view are moved together."""
    rows: dict[View, list[NDArray[np.float32]]] = {view: [] for view in View}
    vectors = [vector for content in contents for segment in content.segments for vector in segment.views]
    for vector in vectors:
        if vector.space_id == first:
            rows[vector.view].append(vector.vector.astype(np.float32))
    moved = {view: iter(space.head(view, np.stack(some))) for view, some in rows.items() if some}
    return [
        replace(
            content,
            segments=tuple(
                segment.with_views(
                    tuple(
                        replace(
                            vector,
                            space_id=ids[vector.space_id],
                            vector=next(moved[vector.view]) if vector.space_id == first else vector.vector,
                        )
                        for vector in segment.views
                    )
                )
                for segment in content.segments
            ),
        )
        for content in contents
    ]


@contextmanager
def called_off_on_failure(new: Catalog) -> Iterator[None]:
    """Take a profile that a library was changing to out of its catalog again where anything goes wrong meanwhile."""
    try:
        yield
    except BaseException:  # also Ctrl-C
        new.call_off(new.profile_id)
        raise


def _teller(progress: _Report | None) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(Progress(done, total, 0, ""))
