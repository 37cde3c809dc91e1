"""What unrelated queries reach in a library: the measure of hubs and of confidence, kept beside its indexes."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog import Catalog
from mmsearch.errors import LinkError, MMSearchError, one_line
from mmsearch.files import Layout, read_bounded, remove_temporary, unpack_arrays, write_whole
from mmsearch.indexes import Indexes
from mmsearch.search.scoring import (
    Background,
    Reach,
    bank,
    estimate_background,
    evidence,
    fit_reach,
    hubness,
)
from mmsearch.spaces import Profile, Space, Vectors, cache_folder, embed
from mmsearch.types import View

_log = logging.getLogger(__name__)
LEAST_SEGMENTS = 100
"""A smaller library has no confidence: too little in it is unrelated to a query."""
SAMPLE = 512
"""How many contents of a library its backgrounds are estimated from."""
FORMAT = 3
_MOST_BYTES = 2**25
"""Larger than any file of the bank: 512 queries of 4,096 dimensions take 4 MiB."""
_DEPTH = 48
_KEPT = 7 / 8
"""As long as so much of a view's sample is what it was, it keeps its calibration: the best of 9/8 as many lies 0.03
deviations higher."""


@dataclass(frozen=True, slots=True)
class BankScores:
    """The bank's queries as one view of the library answers them.

    Confidence compares one query with others, and to be far from everything is no merit: so the mean of all backgrounds
    is that of the bank, and the spread of each is drawn half-way to the bank's (by their geometric mean).
    """

    vectors: Vectors  # (queries, dim)
    stds: NDArray[np.float32]  # (queries,)
    mean: float
    std: float
    reach: Reach
    count: int  # of what they were asked of

    def background(self, own: Background) -> Background:
        """Return what a query is measured against whose own background is known."""
        return Background(self.mean, (own.std * self.std) ** 0.5)

    def z(self, items: Vectors) -> NDArray[np.float32]:
        """Return (queries, n) for items (n, dim)."""
        return np.asarray((self.vectors @ items.T - self.mean) / self.stds[:, None], np.float32)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the bank finds in a library as a profile sees it.

    The bank is of texts. What a picture or a sound reaches by chance it can't tell: among a library's own photos most
    have others of their kind, so that they are no unrelated queries either.
    """

    catalog: Catalog
    profile: Profile
    indexes: Indexes

    def bank_scores(self, space: Space, view: View, revision: int | None = None) -> BankScores | None:
        """Return what the bank finds in a view, None where it wasn't asked (yet) of a view of this size."""
        try:
            file = self.indexes.file(space, view, "bank.npz")
            asked = _asked(file, file.lstat().st_mtime_ns, space.dim)
        except (LinkError, OSError):
            return None
        # A run that was killed before its end may have left a view much smaller or larger than it was measured.
        return (
            asked
            if asked and asked.count / 2 < self.indexes.get(space, view, revision).count < asked.count * 2
            else None
        )

    def catch_up(self) -> None:
        """Ask the bank anew in every view of whose sample an eighth is new or gone; the caller holds the lock.

        The cost of that, over a library's growth, is in proportion to what is new. What fails is warned of: what was
        indexed is found all the same.
        """
        try:
            enough = self.catalog.count_segments() >= LEAST_SEGMENTS
            for space in self.profile.spaces:
                for view in space.front_ends:
                    self._catch_up(space, view, enough=enough)
        except (MMSearchError, OSError) as error:
            _log.warning("how sure a hit is can't be measured in %s: %s", self.indexes.folder, one_line(error))

    def _catch_up(self, space: Space, view: View, *, enough: bool) -> None:
        file = self.indexes.file(space, view, "bank.npz")
        space_id = self.catalog.space_id(space.name, space.fingerprint, space.dim)
        sample = np.empty((0, space.dim), np.float32)
        if enough and space_id is not None and self.profile.space_for(View.TEXT, view) is space:
            sample = self.catalog.sample(space_id, view, SAMPLE, space.dim)
        if not len(sample):
            self.indexes.remove(file)
            return
        marks = np.asarray([zlib.crc32(row.tobytes()) for row in sample], np.int64)
        stored = _read(file)
        known = stored["marks"] if stored and "marks" in stored and _fit(stored, space.dim) else np.empty(0, np.int64)
        if len(np.intersect1d(known, marks)) < _KEPT * max(len(known), len(np.unique(marks))):
            self._ask(space, view, sample, marks, file)

    def _ask(self, space: Space, view: View, sample: Vectors, marks: NDArray[np.int64], file: Path) -> None:
        vectors, prior = _texts(space), Background(*space.background(View.TEXT, view))
        backgrounds = [estimate_background(cosines, prior) for cosines in vectors @ sample.T]
        mean = float(np.median([one.mean for one in backgrounds]))
        std = float(np.median([one.std for one in backgrounds]))
        stds = np.asarray([(one.std * std) ** 0.5 for one in backgrounds], np.float32)
        count = self.indexes.get(space, view).count
        scores = BankScores(vectors, stds, mean, std, Reach(0.0, 1.0), count)
        reach = fit_reach(self._best(space, view, scores, item_distribution(sample, space, view)))
        numbers = np.asarray([mean, std, reach.median, reach.spread, count])
        stored = {"marks": np.unique(marks), "numbers": numbers, "stds": stds, "vectors": vectors.astype(np.float16)}
        _write(file, stored)

    def _best(self, space: Space, view: View, scores: BankScores, pairs: Background) -> NDArray[np.float32]:
        """Return (queries,) the evidence of each query's best answer."""
        _, ids = self.indexes.get(space, view).search(scores.vectors, _DEPTH, None)
        known, items = self.catalog.vectors(np.unique(ids[ids >= 0]), space.dim)
        if view is View.AUDIO:  # silence answers nothing
            segments = self.catalog.segments_of(known.tolist())
            rows = self.catalog.segment_rows(segments.values())
            heard = [i in segments and segments[i] in rows and not rows[segments[i]].silent for i in known.tolist()]
            known, items = known[heard], items[heard]
        z = scores.z(items)
        hubs = hubness(z)
        best = []
        for n, row in enumerate(ids):
            at = np.searchsorted(known, np.sort(row[np.isin(row, known)]))
            if len(at):
                best.append(evidence(z[n, at], hubs[at], items[at], pairs).max())
        return np.asarray(best or [0.0], np.float32)


@lru_cache(maxsize=32)
def _asked(file: Path, _mtime_ns: int, dim: int) -> BankScores | None:
    stored = _read(file)
    if stored is None or not _fit(stored, dim):
        return None
    mean, std, median, spread, count = stored["numbers"].tolist()
    return BankScores(
        stored["vectors"].astype(np.float32), stored["stds"], mean, std, Reach(median, spread), int(count)
    )


def is_usable(file: Path, dim: int) -> bool:
    """Return whether what a view's bank found can be read, and is of this dimension and finite."""
    stored = _read(file)
    return stored is not None and "marks" in stored and _fit(stored, dim)


def _fit(stored: dict[str, NDArray[Any]], dim: int) -> bool:
    """Return whether arrays are those of one measurement, and numbers that can be used."""
    if not stored.keys() >= {"vectors", "stds", "numbers"}:
        return False
    vectors, stds, numbers = stored["vectors"], stored["stds"], stored["numbers"]
    floats = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (vectors, stds, numbers))
    shapes = vectors.ndim == 2 and vectors.shape[1] == dim and stds.shape == vectors.shape[:1] and numbers.shape == (5,)
    return floats and shapes and len(stds) > 0 and bool((stds > 0).all()) and numbers[1] > 0 and numbers[3] > 0


def item_distribution(sample: Vectors, space: Space, view: View) -> Background:
    """Return the background of two unrelated items in one view of this collection."""
    few = sample[:256]
    return estimate_background((few @ few.T)[np.triu_indices(len(few), 1)], Background(*space.background(view, view)))


def _texts(space: Space) -> Vectors:
    """Return the vectors of the project's bank: they take a large model half a minute, so its cache keeps them."""
    texts = bank()
    digest = hashlib.blake2b("\n".join((space.fingerprint, *texts)).encode(), digest_size=16)
    file = cache_folder() / "banks" / f"{digest.hexdigest()}.npz"
    known = _read(file)
    if known is not None and "vectors" in known and known["vectors"].shape == (len(texts), space.dim):
        return np.asarray(known["vectors"], np.float32)
    vectors = np.concatenate([embed(space, View.TEXT, texts[at : at + 64]) for at in range(0, len(texts), 64)])
    remove_temporary(file.parent, file.parent, Layout(re.compile(rf"\.{re.escape(file.name)}\.\d+")))
    with suppress(OSError):  # without a cache it is done again another time
        _write(file, {"vectors": vectors.astype(np.float16)})
    return vectors


def _read(file: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a file of `_write`, None where it is missing, torn, too large or of another format."""
    try:
        arrays = unpack_arrays(read_bounded(file, _MOST_BYTES, follow_links=False), file, _MOST_BYTES)
    except (OSError, ValueError):
        return None
    return arrays if np.array_equal(arrays.get("format", 0), FORMAT) else None


def _write(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, format=FORMAT, **arrays)  # type: ignore[arg-type]
    write_whole(file, content.getvalue())
