"""Measure the time that ranking adds to a query at 100,000 segments, and that its calibration adds to an index run.

    python benchmarks/ranking_cost.py [--segments 100000] [--photos 2000]

Queries run in pairs on one open library of random vectors: without agreement and confidence, then with the defaults.
The calibration runs the query bank; its time is measured after an index run on synthetic photos, and on the library of
random vectors. The bank's own vectors, which are cached, are timed separately.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from unittest import mock

import numpy as np
from speed import WORDS, make_photos

import mmsearch
from mmsearch.catalog import Catalog, NewContent, NewMedia
from mmsearch.folder import CATALOG
from mmsearch.library import Library
from mmsearch.records import Segment
from mmsearch.search import calibration
from mmsearch.search.query import make_query
from mmsearch.spaces import Profile, load_profile, normalise
from mmsearch.types import Modality, View

ROUNDS = 5
KINDS = 400
_PART = 1_000


def make_library(folder: Path, profile: Profile, segments: int) -> None:
    """Commit photos with random vectors around the centres of classes."""
    random = np.random.default_rng(0)
    with mmsearch.open(folder, model=profile.name):
        pass
    space = profile.spaces[0]
    centres = random.standard_normal((KINDS, space.dim))
    with closing(Catalog(folder / CATALOG)) as catalog:
        space_id = catalog.add_space(space.name, space.fingerprint, space.dim)
        for first in range(0, segments, _PART):
            drawn = centres[random.integers(0, KINDS, _PART)] + 1.5 * random.standard_normal((_PART, space.dim))
            contents = []
            for n, vector in enumerate(normalise(drawn), first):
                path = NewMedia(b"/made/%07d" % n, 1, 1, "", "1")
                segment = Segment({(space_id, View.VISUAL): vector})
                contents.append(NewContent(b"%016d" % n, Modality.IMAGE, [segment], [path]))
            catalog.commit(contents, profile.key)


def time_queries(library: Library) -> None:
    """Print the time of a text query without ranking steps, with the defaults and with re-ranking, in pairs."""
    seconds: dict[str, list[float]] = {"plain": [], "default": [], "re-ranked": []}
    for turn in range(ROUNDS + 1):  # the first one warms up
        for word in WORDS:
            for way, taken in seconds.items():
                query = make_query(word, rerank={"plain": False, "default": None, "re-ranked": True}[way])
                no_bank = mock.patch.object(calibration.Calibration, "bank_scores", return_value=None)
                began = time.perf_counter()
                if way == "plain":
                    with no_bank:
                        library.answer(query)
                else:
                    library.answer(query)
                if turn:
                    taken.append(time.perf_counter() - began)
    plain = statistics.median(seconds["plain"])
    for way, taken in seconds.items():
        added = 1e3 * statistics.median(b - a for a, b in zip(seconds["plain"], taken, strict=True))
        print(
            f"text query, {way:<10} {1e3 * statistics.median(taken):6.1f} ms, {added:+.1f} ms ({plain * 1e3:.1f} plain)"
        )


def main() -> None:
    """Make the libraries, time index runs and queries, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--photos", type=int, default=2_000)
    arguments = parser.parse_args()
    durations: list[float] = []
    catch_up = calibration.Calibration.catch_up

    def timed(self: calibration.Calibration) -> None:
        began = time.perf_counter()
        catch_up(self)
        durations.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as name, mock.patch.object(calibration.Calibration, "catch_up", timed):
        os.environ["MMSEARCH_CACHE"] = str(Path(name, "cache"))
        profile = load_profile("mini")
        began = time.perf_counter()
        calibration._texts(profile.spaces[0])
        print(f"vectors of the bank, once a model: {time.perf_counter() - began:.2f} s")
        make_photos(Path(name, "photos"), arguments.photos, 640)
        with mmsearch.open(Path(name, "real"), model="mini") as library:
            report = library.index(Path(name, "photos"))
            last = durations[-1]
            share = last / (report.seconds + last)
            print(f"{report.added:,} photos indexed in {report.seconds:.1f} s; calibration {last:.2f} s, {share:.1%}")
        make_library(Path(name, "made"), profile, arguments.segments)
        with mmsearch.open(Path(name, "made")) as library:
            began = time.perf_counter()
            library.index(Path(name, "photos"))
            seconds = time.perf_counter() - began
            last = durations[-1]
            print(f"{arguments.segments:,} random segments: calibration {last:.2f} s of a run of {seconds:.1f} s")
            library.index(Path(name, "photos"))
            print(f"nothing new: calibration {durations[-1]:.3f} s")
            time_queries(library)


if __name__ == "__main__":
    main()
