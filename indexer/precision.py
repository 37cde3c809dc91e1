"""Decides whether a library's images are encoded with 8-bit weights, after a trial on its first images."""

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

TRIAL_IMAGES = 512
NEIGHBOURS = 10
MIN_OVERLAP = 0.9
"""Share of an image's ten nearest neighbours that both precisions must have in common, on average."""
MIN_SPEEDUP = 1.3
"""Speed-up that `auto` requires; a processor without 8-bit instructions may be slower with int8."""
_INT8, _FP32 = "int8", "fp32"
_log = logging.getLogger(__name__)


def with_precision(profile: Profile, catalog: Catalog, asked: str) -> Profile:
    """Return the model for encoding in the requested precision: auto, fp32 or int8.

    The catalog remembers the result of a trial, and `auto` uses it.
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
    if known and asked == "auto" and not known.startswith(_INT8):  # a failed trial isn't repeated in every run
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
    """A space that encodes in fp32 until it has enough images to compare int8 with it, then in the better precision."""

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
            room = TRIAL_IMAGES - len(self._inputs)
            self._inputs += inputs[:room]
            self._vectors += list(vectors[:room])
            self._seconds += (time.monotonic() - began) * min(room / max(len(inputs), 1), 1.0)
            if len(self._inputs) == TRIAL_IMAGES:
                self._decide()
        return vectors

    def _decide(self) -> None:
        self._decided = True
        exact, inputs = np.stack(self._vectors), self._inputs
        self._vectors, self._inputs = [], []
        kept = self._space.tower_file(View.VISUAL)
        _log.info("trying int8 on the first %d images", TRIAL_IMAGES)
        try:
            self._space.replace_tower(View.VISUAL, int8_tower(self._space))
            began = time.monotonic()
            agreed = overlap(exact, self._space.encode(View.VISUAL, inputs))
            speedup = self._seconds / max(time.monotonic() - began, 1e-9)
        except Exception as error:  # int8 is optional: any error means fp32
            self._space.replace_tower(View.VISUAL, kept)
            _log.warning("int8 can't be tried (%s); continuing in fp32", one_line(error))
            return
        result = f"the nearest {NEIGHBOURS} of {TRIAL_IMAGES} images agree to {agreed:.0%}, {speedup:.1f} times as fast"
        if agreed >= MIN_OVERLAP and (self._at_any_speed or speedup >= MIN_SPEEDUP):
            self._catalog.set_precision(f"{_INT8}: {result}")
        else:
            self._space.replace_tower(View.VISUAL, kept)
            self._catalog.set_precision(f"{_FP32}: with int8, {result}")
        _log.info("images are encoded in %s", self._catalog.precision)


def overlap(exact: Vectors, rough: Vectors) -> float:
    """Return the mean share of a row's ten nearest rows that two encodings (n, dim) of unit rows have in common."""
    nearest = []
    for rows in (exact, rough):
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -np.inf)
        nearest.append(np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS])
    common = [len(set(left.tolist()) & set(right.tolist())) for left, right in zip(*nearest, strict=True)]
    return float(np.mean(common)) / NEIGHBOURS
