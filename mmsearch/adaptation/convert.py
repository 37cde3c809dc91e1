"""Adapts a library's first space: trains heads, writes the adapted space, and converts the catalog's vectors.

LIBRARY/adapted/FINGERPRINT/    spec.json and heads.npz of the space `adapted:FINGERPRINT`, which moves with the library
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
from mmsearch.catalog import Catalog, StoredContent, StoredVector
from mmsearch.errors import UsageError, unwritable
from mmsearch.spaces import ADAPTED, Adapted, AdaptedSpace, HeadWeights, Profile, load_profile
from mmsearch.types import AdaptReport, Progress, View

MIN_PAIRS = 50
"""With fewer pairs, no gain can be measured reliably."""
_Report = Callable[[Progress], None]


def adapt_profile(
    catalog: Catalog, profile: Profile, library: Path, progress: _Report | None = None
) -> tuple[AdaptReport, Profile | None]:
    """Train heads over a model's first space; return a report, and the adapted model if it is better, else None.

    The adapted space is written to the library's folder; the catalog doesn't change yet. The caller holds the lock.
    Raises `UsageError` if there are too few pairs, or the library isn't in a state to be adapted.
    """
    from mmsearch.adaptation.pairs import collect

    began = time.monotonic()
    space = profile.spaces[0]
    _refuse_unready(catalog, profile, library)
    collection = collect(catalog, space, read=_teller(progress))
    if collection.pairs < MIN_PAIRS:
        raise UsageError(
            f"there is too little to learn from in {library}: {collection.captioned} pictures or clips with a caption "
            f"and {collection.sounding} clips with sound, where {MIN_PAIRS} in all are needed; put photo.txt with a "
            "caption beside photo.jpg, or add clips with sound, and run 'mmsearch index' again"
        )
    from mmsearch.adaptation.fit import adapt  # imports torch, which the errors above don't wait for

    collection = collection.without_rare_kinds()
    outcome = adapt(collection, progress=_teller(progress))
    seconds = round(time.monotonic() - began, 3)
    report = AdaptReport(False, profile.name, collection.pairs, outcome.overall, outcome.gains, seconds)
    if outcome.heads is None:
        return report, None
    identity = HeadWeights.identity(space.dim)
    files = Adapted(
        bases=dict.fromkeys(space.front_ends, space),
        profile=profile.name,
        heads={view: outcome.heads.get(view, identity) for view in space.front_ends},
        background=outcome.background,
        gained={gain.direction: [gain.metric, gain.before, gain.after] for gain in outcome.gains},
    )
    catalog.library_id(make=True)
    try:
        adapted_place(catalog, library).prepare()
        name = ADAPTED + files.write(adapted_folder(library))
    except OSError as error:
        message = f"{error.filename or library}: {error.strerror or error}; fix that and run 'mmsearch adapt' again"
        raise unwritable(error, message) from error
    new = load_profile(name, pins=(name, *profile.pins[1:]), own=adapted_folder(library))
    return replace(report, adapted=True, model=name), new


def _refuse_unready(catalog: Catalog, profile: Profile, library: Path) -> None:
    first = profile.spaces[0]
    if isinstance(first, AdaptedSpace):
        raise UsageError(
            f"{library} is adapted already; go back with 'mmsearch index PATH --model {first.profile} --library "
            f"{library}', which reads only new files, then run 'mmsearch adapt' again"
        )
    change = next((row.name for row in catalog.profiles() if row.id == catalog.change), None)
    if change is not None and not change.startswith(ADAPTED):
        raise UsageError(
            f"{library} is changing to the model {change!r}; finish that with 'mmsearch index PATH --model {change}', "
            f"or cancel it with --model {profile.name}"
        )
    if lacking := catalog.count_lacking(profile.key):
        raise UsageError(
            f"{lacking:,} of the files in {library} aren't embedded completely; run 'mmsearch index' on them again, "
            "or drop them with 'mmsearch forget'"
        )


def convert(old: Catalog, profile: Profile, new: Catalog, adapted: Profile, progress: _Report | None = None) -> None:
    """Convert the vectors of a model to those of the adapted model, without decoding any file.

    Vectors of the first space pass through the heads, those of other spaces are copied. Each page of contents is
    committed by itself, so that an interrupted conversion can be continued. (For a shot, the head is applied to the
    mean of its frames, whereas a newly indexed file gets the mean over the converted frames. Heads are close to the
    identity, so the difference is small.)
    """
    space = adapted.spaces[0]
    assert isinstance(space, AdaptedSpace)
    new_ids = {
        old_id: new.add_space(after.name, after.fingerprint, after.dim)
        for before, after in zip(profile.spaces, adapted.spaces, strict=True)
        if (old_id := old.space_id(before.name, before.fingerprint, before.dim)) is not None
    }
    first = old.space_id(profile.spaces[0].name, profile.spaces[0].fingerprint, profile.spaces[0].dim)
    done = new.embedded_by(adapted.key)
    total = sum(old.count_media().values())
    tell, count = _teller(progress), 0
    for page in old.stored():
        left = [content for content in page if content.id not in done]
        new.copy_in(_converted(left, space, first, new_ids), adapted.key)
        count += len(page)
        if tell:
            tell(min(count, total), total)


def _converted(
    contents: Iterable[StoredContent], space: AdaptedSpace, first: int | None, new_ids: dict[int, int]
) -> list[StoredContent]:
    """Return contents with the vectors of the adapted model; a head is applied to all vectors of its view at once."""
    rows: dict[View, list[NDArray[np.float32]]] = {view: [] for view in View}
    for content in contents:
        for segment in content.segments:
            for vector in segment.views:
                if vector.space_id == first:
                    rows[vector.view].append(vector.vector.astype(np.float32))
    heads_output = {view: iter(space.head(view, np.stack(vectors))) for view, vectors in rows.items() if vectors}

    def convert_vector(vector: StoredVector) -> StoredVector:
        row = next(heads_output[vector.view]) if vector.space_id == first else vector.vector
        return replace(vector, space_id=new_ids[vector.space_id], vector=row)

    converted = []
    for content in contents:
        segments = [segment.with_views(tuple(map(convert_vector, segment.views))) for segment in content.segments]
        converted.append(replace(content, segments=tuple(segments)))
    return converted


@contextmanager
def cancelled_on_failure(new: Catalog) -> Iterator[None]:
    """Remove the model that a library is changing to from its catalog if the context raises."""
    try:
        yield
    except BaseException:  # also Ctrl-C
        new.cancel_change(new.profile_id)
        raise


def _teller(progress: _Report | None) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(Progress(done, total, 0, ""))
