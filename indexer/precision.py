"""Whether a library's pictures are encoded with weights of 8 bits: only after a trial on the first of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmsearch.catalog import Catalog
from mmsearch.errors import one_line
from mmsearch.extras import is_installed, missing
from mmsearch.spaces import FrontEnd, OnnxSpace, Prepared, Profile, Vectors, int8_tower, load_profile
from mmsearch.types import View

TRIED = 512
"""How many images a trial takes."""
NEAREST = 10
LEAST_OVERLAP = 0.9
"""How much of the nearest ten has to be the same by either precision, on average over the images."""
LEAST_SPEEDUP = 1.3
"""What `auto` asks for; a processor without instructions for 8 bits may be slower with them."""
_INT8, _FP32 = "int8", "fp32"
_log = logging.getLogger(__name__)


def with_precision(profile: Profile, catalog: Catalog, asked: str) -> Profile:
    """Return the profile as a run encodes with it, in the precision that is asked for: auto, fp32 or int8.

    What a trial found is remembered by the catalog, and `auto` keeps to it.
    """
    space = profile.spaces[0]
    if type(space) is not OnnxSpace or not space.is_exported or View.VISUAL not in space.front_ends:
        if asked == _INT8:
            _log.info("%s is encoded as it is: int8 is for exported models on a CPU", profile.name)
        return profile
    known = catalog.precision
    if asked != _FP32 and not is_installed("onnx"):  # which makes towers of 8 bits; exact ones suit any library
        if asked == _INT8:
            raise missing("onnx", "encoding with --precision int8")
        return profile
    if asked == _FP32:
        if known.startswith(_INT8):
            catalog.set_precision(f"{_FP32}, as asked")
        return profile
    if known and asked == "auto" and not known.startswith(_INT8):  # what was found wanting isn't tried in every run
        return profile
    own = load_profile(profile.name, pins=profile.pins)  # queries stay exact, in this process too
    space = own.spaces[0]
    assert isinstance(space, OnnxSpace)
    if known.startswith(_INT8):
        space.replace_tower(View.VISUAL, int8_tower(space))
        return own
    trial = _Trial(space, catalog, at_any_speed=asked == _INT8)
    return replace(own, spaces=(trial, *own.spaces[1:]))


class _Trial:
    """A space that encodes exactly until it has seen enough pictures to tell what 8 bits would make of them."""

    def __init__(self, space: OnnxSpace, catalog: Catalog, *, at_any_speed: bool) -> None:
        self.name, self.dim, self.fingerprint, self.pin = space.name, space.dim, space.fingerprint, space.pin
        self.front_ends: Mapping[View, FrontEnd] = space.front_ends
        self.background = space.background
        self._space = space
        self._catalog = catalog
        self._at_any_speed = at_any_speed
        self._inputs: list[Prepared] = []
        self._vectors: list[Vectors] = []
        self._seconds = 0.0
        self._decided = False

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs."""
        began = time.monotonic()
        vectors = self._space.encode(view, inputs)
        if view is View.VISUAL and not self._decided:
            room = TRIED - len(self._inputs)
            self._inputs += inputs[:room]
            self._vectors += list(vectors[:room])
            self._seconds += (time.monotonic() - began) * min(room / max(len(inputs), 1), 1.0)
            if len(self._inputs) == TRIED:
                self._decide()
        return vectors

    def _decide(self) -> None:
        self._decided = True
        exact, inputs = np.stack(self._vectors), self._inputs
        self._vectors, self._inputs = [], []
        kept = self._space.tower_file(View.VISUAL)
        _log.info("trying int8 on the first %d images", TRIED)
        try:
            self._space.replace_tower(View.VISUAL, int8_tower(self._space))
            began = time.monotonic()
            agreed = overlap(exact, self._space.encode(View.VISUAL, inputs))
            speedup = self._seconds / max(time.monotonic() - began, 1e-9)
        except Exception as error:  # whatever it is, exact vectors need none of it
            self._space.replace_tower(View.VISUAL, kept)
            _log.warning("int8 can't be tried (%s); going on in fp32", one_line(error))
            return
        found = f"the nearest {NEAREST} of {TRIED} images agree to {agreed:.0%}, {speedup:.1f} times as fast"
        if agreed >= LEAST_OVERLAP and (self._at_any_speed or speedup >= LEAST_SPEEDUP):
            self._catalog.set_precision(f"{_INT8}: {found}")
        else:
            self._space.replace_tower(View.VISUAL, kept)
            self._catalog.set_precision(f"{_FP32}: with int8, {found}")
        _log.info("images are encoded in %s", self._catalog.precision)


def overlap(exact: Vectors, rough: Vectors) -> float:
    """Return how much of each row's nearest ten others is the same by either of two (n, dim) sets of unit rows."""
    nearest = []
    for rows in (exact, rough):
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -np.inf)
        nearest.append(np.argpartition(-cosines, NEAREST, axis=1)[:, :NEAREST])
    same = [len(set(one.tolist()) & set(other.tolist())) for one, other in zip(*nearest, strict=True)]
    return float(np.mean(same)) / NEAREST
