"""Adapted spaces: the towers of other spaces, each followed by a small head. `mmsearch adapt` makes them.

    FOLDER/spec.json   dim; for each view the tower before its head; the digest of the heads; their measured gains
    FOLDER/heads.npz   for each view w1 (hidden, in), b1, w2 (dim, hidden), b2, and skip (dim, in) if in isn't dim

A head changes a vector slightly: h(v) = normalise(v + W₂·gelu(W₁·v + b₁) + b₂). It is computed in NumPy, for a tower's
output as well as for stored vectors. The towers may belong to several spaces; a head can map a tower of one space into
another by using skip·v instead of v in the sum.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import ModelError, WrongModelError, one_line
from mmsearch.files import Layout, read_bounded, remove_own, sync_folder, unpack_arrays, write_whole
from mmsearch.layout import ADAPTED, BUILDING, HEADS
from mmsearch.spaces.base import FrontEnd, Prepared, Space, Vectors, normalise
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.spec import MOST_DIM, SPEC, AdaptedSpec, read_adapted_spec
from mmsearch.types import View

Weights = NDArray[np.float32]
_HEADS = "heads.npz"
MOST_HIDDEN = 2048
"""Maximum number of hidden units of a head; `mmsearch adapt` uses 128."""
_REQUIRED_ARRAYS = {"w1", "b1", "w2", "b2"}
_BEFORE = Layout(folders={re.compile("before"): HEADS})
_GELU_SCALE = float(np.sqrt(2 / np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """The weights of one head: w1 (hidden, in), b1 (hidden,), w2 (dim, hidden), b2 (dim,), float32.

    `skip` (dim, in) replaces the identity if the tower's vectors have another dimension than the space.
    """

    w1: Weights
    b1: Weights
    w2: Weights
    b2: Weights
    skip: Weights | None = None

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return (n, dim) float32, L2-normalised, for vectors (n, in)."""
        inner = vectors @ self.w1.T + self.b1
        # The tanh approximation of gelu (Hendrycks and Gimpel 2016, arXiv:1606.08415), since NumPy has no erf.
        activated = 0.5 * inner * (1 + np.tanh(_GELU_SCALE * (inner + 0.044715 * inner**3)))
        residual = vectors if self.skip is None else vectors @ self.skip.T
        return normalise(residual + activated @ self.w2.T + self.b2)

    def named(self, view: View) -> list[tuple[str, Weights]]:
        """Return the arrays with their names in the file of heads."""
        names = (field.name for field in fields(self))
        return [(f"{view}.{name}", array) for name in names if (array := getattr(self, name)) is not None]

    @classmethod
    def identity(cls, dim: int) -> HeadWeights:
        """Return a head that leaves every vector unchanged."""
        zeros = np.zeros((1, dim), np.float32)
        return cls(zeros, zeros[:, 0], zeros.T, zeros[0])

    def check(self, dim: int) -> None:
        """Raise `ValueError` if the shapes don't fit each other or the dimension, or a weight isn't finite."""
        if self.w1.ndim != 2 or self.w1.shape[0] > MOST_HIDDEN or self.w1.shape[1] > MOST_DIM:
            raise ValueError("its heads have other shapes than the spec says")
        hidden, width = self.w1.shape
        shapes = (self.b1.shape, self.w2.shape, self.b2.shape)
        skip_shape = (dim, width) if self.skip is None else self.skip.shape
        if (
            shapes != ((hidden,), (dim, hidden), (dim,))
            or skip_shape != (dim, width)
            or (self.skip is None and width != dim)
        ):
            raise ValueError("its heads have other shapes than the spec says")
        if not all(np.isfinite(array).all() for _, array in self.named(View.TEXT)):
            raise ValueError("its heads hold weights that aren't finite")


class AdaptedSpace:
    """The space of an adapted folder. It uses the front ends and towers of its base spaces.

    `open_base` opens a base space by its pin. Raises `ModelError` if the folder is damaged, or a base space has changed
    since the space was adapted.
    """

    def __init__(self, name: str, folder: Path, open_base: Callable[[str], Space]) -> None:
        self.name = name
        spec = read_adapted_spec(folder)
        self.dim, self.profile, self._background = spec.dim, spec.profile, spec.background
        """`profile` is the name of the model that was adapted."""
        self.fingerprint = fingerprint_of(spec.dim, spec.towers, spec.heads_digest)
        self.pin = name if name.endswith(self.fingerprint) else f"{name}#{self.fingerprint}"
        opened = {pin: open_base(pin) for pin in sorted({pin for pin, _ in spec.towers.values()})}
        self._towers = {view: opened[pin] for view, (pin, _) in spec.towers.items()}
        self.front_ends: Mapping[View, FrontEnd] = {}
        for view, (pin, wanted) in spec.towers.items():
            base = opened[pin]
            if base.fingerprint != wanted or view not in base.front_ends:
                raise ModelError(
                    f"{name} was adapted from {base.name}, which has changed since; go back with 'mmsearch index PATH "
                    f"--model {self.profile or base.name}', then run 'mmsearch adapt' again"
                )
        try:
            self._heads = _read_heads(folder, spec, {view: base.dim for view, base in self._towers.items()})
        except (OSError, ValueError, TypeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise ModelError(
                f"{folder} isn't a complete adapted space ({one_line(reason)}); run 'mmsearch adapt'"
            ) from error
        self._update_front_ends()

    @property
    def bases(self) -> tuple[Space, ...]:
        """The spaces whose towers are used, without duplicates."""
        return tuple({id(base): base for base in self._towers.values()}.values())

    def set_sample_rate(self, sample_rate_hz: int) -> None:
        """Accept waveforms of another rate from now on, since sounds are decoded at one rate for all spaces."""
        for base in self.bases:
            if isinstance(base, OnnxSpace):
                base.set_sample_rate(sample_rate_hz)
        self._update_front_ends()

    def _update_front_ends(self) -> None:
        self.front_ends = {view: base.front_ends[view] for view, base in self._towers.items()}

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs."""
        if view not in self._towers:
            raise WrongModelError(f"the space {self.name} has no tower for the {view} view; use another --model")
        return self.head(view, self._towers[view].encode(view, inputs))

    def head(self, view: View, vectors: Vectors) -> Vectors:
        """Apply the head of a view to vectors (n, in) of its tower; return (n, dim) float32, L2-normalised."""
        return self._heads[view](vectors)

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return the score distribution, mean and standard deviation, as measured when the space was adapted.

        Where it wasn't measured, it is that of the base space if both views share one, else that of random vectors.
        """
        known = self._background.get(_pair(query, item))
        if known is not None:
            return float(known[0]), float(known[1])
        query_base, item_base = self._towers.get(query), self._towers.get(item)
        if query_base is not None and query_base is item_base:
            return query_base.background(query, item)
        return 0.0, self.dim**-0.5


def fingerprint_of(dim: int, towers: Mapping[View, tuple[str, str]], digest: str) -> str:
    """Return the fingerprint of an adapted space from its towers, (pin, fingerprint) by view, and its heads' digest."""
    defining = [dim, {view.value: fingerprint for view, (_, fingerprint) in sorted(towers.items())}, digest]
    return hashlib.blake2b(json.dumps(defining).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Adapted:
    """The content of an adapted space to be written: base spaces, heads, score distributions and measured gains."""

    bases: Mapping[View, Space]
    profile: str
    heads: Mapping[View, HeadWeights]
    background: Mapping[tuple[View, View], tuple[float, float]]
    gained: Mapping[str, Any]

    def write_to(self, place: Path) -> str:
        """Write the space into an existing folder, its spec last, and return its fingerprint."""
        content = io.BytesIO()
        arrays = dict(named for view, head in self.heads.items() for named in head.named(view))
        np.savez(content, **arrays)  # type: ignore[arg-type]
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        towers = {view: (base.pin, base.fingerprint) for view, base in self.bases.items()}
        dim = len(next(iter(self.heads.values())).b2)
        spec = {
            "dim": dim,
            "towers": {view: {"pin": pin, "fingerprint": state} for view, (pin, state) in towers.items()},
            "heads": {"file": _HEADS, "digest": digest},
            "background": {_pair(*pair): distribution for pair, distribution in self.background.items()},
            "profile": self.profile,
            "gained": dict(self.gained),
        }
        write_whole(place / _HEADS, content.getvalue())
        write_whole(place / SPEC, json.dumps(spec, indent=1).encode())
        return fingerprint_of(dim, towers, digest)

    def write(self, folder: Path) -> str:
        """Write the space into `folder/FINGERPRINT`, completely or not at all, and return the fingerprint.

        The caller makes sure that no other process writes there. Leftovers of killed processes are removed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        remove_own(folder, folder, ADAPTED, lambda name: name.startswith(BUILDING))
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder))
        fingerprint = self.write_to(building)
        building.chmod(0o755)  # mkdtemp makes it accessible to its owner only
        sync_folder(building)
        target = folder / fingerprint
        if target.exists():  # the same heads, perhaps damaged: a folder can't be renamed onto another one
            target.rename(building / "before")
        building.rename(target)
        remove_own(target, folder, _BEFORE, lambda _: True)
        sync_folder(folder)
        return fingerprint


def _read_heads(folder: Path, spec: AdaptedSpec, tower_dims: Mapping[View, int]) -> dict[View, HeadWeights]:
    """Return the heads of a folder. Raises `OSError`, and `ValueError` if they aren't those of the spec.

    `tower_dims` are the dimensions of the towers' vectors, which bound the size of the file.
    """
    max_weights = sum(MOST_HIDDEN * (dim + spec.dim + 1) + spec.dim * (dim + 1) for dim in tower_dims.values())
    file = folder / spec.heads_file
    raw = read_bounded(file, max_weights * 8 + 2**16)
    if hashlib.sha256(raw).hexdigest() != spec.heads_digest:
        raise ValueError(f"{file.name} has another digest than the spec says")
    parts: dict[View, dict[str, Weights]] = {}
    for key, array in unpack_arrays(raw, file, len(raw)).items():  # the file isn't compressed
        view, _, name = key.partition(".")
        if array.dtype.kind != "f":
            raise ValueError(f"{file.name} holds arrays that aren't weights")
        parts.setdefault(View(view), {})[name] = np.asarray(array, np.float32)
    if any(not _REQUIRED_ARRAYS <= arrays.keys() <= _REQUIRED_ARRAYS | {"skip"} for arrays in parts.values()):
        raise ValueError(f"{file.name} lacks arrays of a head, or has others")
    heads = {view: HeadWeights(**arrays) for view, arrays in parts.items()}
    if set(heads) != set(spec.towers):
        raise ValueError("it doesn't have one head for each tower")
    for view, head in heads.items():
        head.check(spec.dim)
        if head.w1.shape[1] != tower_dims[view]:
            raise ValueError("a head doesn't have the dimension of its tower")
    return heads


def _pair(first: View, second: View) -> str:
    return "-".join(sorted((first.value, second.value)))
