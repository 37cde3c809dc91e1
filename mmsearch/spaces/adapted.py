"""Spaces that are another's towers, each with a small head after it: what `mmsearch adapt` makes of a collection.

    FOLDER/spec.json   dim; of each view the tower that its head follows; the digest of the heads; what they gained
    FOLDER/heads.npz   of each view w1 (hidden, in), b1, w2 (dim, hidden), b2, and skip (dim, in) where in isn't dim

A head moves a vector a little: h(v) = normalise(v + W₂·gelu(W₁·v + b₁) + b₂). It is applied in NumPy, to what a tower
makes of a file as well as to a vector that is stored already. The towers may be of several spaces, so that a head
can also take a tower of one space into another: v is then skip·v in the sum.
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
"""The most hidden units of a head; `mmsearch adapt` gives it 128."""
_NEEDED = {"w1", "b1", "w2", "b2"}
_BEFORE = Layout(folders={re.compile("before"): HEADS})
_CURVE = float(np.sqrt(2 / np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """The weights of one head: w1 (hidden, in), b1 (hidden,), w2 (dim, hidden), b2 (dim,), float32.

    `skip` (dim, in) stands for the identity where a tower's vectors are of another dimension than the space's.
    """

    w1: Weights
    b1: Weights
    w2: Weights
    b2: Weights
    skip: Weights | None = None

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return (n, dim) float32, L2-normalised, for vectors (n, in)."""
        inner = vectors @ self.w1.T + self.b1
        # The tanh form of gelu (Hendrycks and Gimpel 2016, arXiv:1606.08415), for NumPy has no erf.
        bent = 0.5 * inner * (1 + np.tanh(_CURVE * (inner + 0.044715 * inner**3)))
        straight = vectors if self.skip is None else vectors @ self.skip.T
        return normalise(straight + bent @ self.w2.T + self.b2)

    def named(self, view: View) -> list[tuple[str, Weights]]:
        """Return its arrays by the names that they have in a file."""
        names = (field.name for field in fields(self))
        return [(f"{view}.{name}", array) for name in names if (array := getattr(self, name)) is not None]

    @classmethod
    def identity(cls, dim: int) -> HeadWeights:
        """Return a head that leaves every vector where it is."""
        none = np.zeros((1, dim), np.float32)
        return cls(none, none[:, 0], none.T, none[0])

    def check(self, dim: int) -> None:
        """Raise `ValueError` where the shapes don't fit each other and the dimension, or a number is none."""
        if self.w1.ndim != 2 or self.w1.shape[0] > MOST_HIDDEN or self.w1.shape[1] > MOST_DIM:
            raise ValueError("its heads are of other shapes than the spec says")
        hidden, entering = self.w1.shape
        shapes = (self.b1.shape, self.w2.shape, self.b2.shape)
        straight = (dim, entering) if self.skip is None else self.skip.shape
        if (
            shapes != ((hidden,), (dim, hidden), (dim,))
            or straight != (dim, entering)
            or (self.skip is None and entering != dim)
        ):
            raise ValueError("its heads are of other shapes than the spec says")
        if not all(np.isfinite(array).all() for _, array in self.named(View.TEXT)):
            raise ValueError("its heads hold what is no finite number")


class AdaptedSpace:
    """The space of an adapted folder. Its front ends and its towers are those of the spaces that it stands on.

    `open_base` makes such a space from its pin. Raises `ModelError` where the folder isn't whole, or a base has become
    another since.
    """

    def __init__(self, name: str, folder: Path, open_base: Callable[[str], Space]) -> None:
        self.name = name
        spec = read_adapted_spec(folder)
        self.dim, self.profile, self._background = spec.dim, spec.profile, spec.background
        """`profile` is the profile that was adapted."""
        self.fingerprint = fingerprint_of(spec.dim, spec.towers, spec.heads_digest)
        self.pin = name if name.endswith(self.fingerprint) else f"{name}#{self.fingerprint}"
        opened = {pin: open_base(pin) for pin in sorted({pin for pin, _ in spec.towers.values()})}
        self._towers = {view: opened[pin] for view, (pin, _) in spec.towers.items()}
        self.front_ends: Mapping[View, FrontEnd] = {}
        for view, (pin, wanted) in spec.towers.items():
            base = opened[pin]
            if base.fingerprint != wanted or view not in base.front_ends:
                raise ModelError(
                    f"{name} was made over {base.name} as it was, and that is another now; go back with 'mmsearch "
                    f"index PATH --model {self.profile or base.name}', then run 'mmsearch adapt' again"
                )
        try:
            self._heads = _read_heads(folder, spec, {view: base.dim for view, base in self._towers.items()})
        except (OSError, ValueError, TypeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise ModelError(
                f"{folder} is no whole adapted space ({one_line(reason)}); run 'mmsearch adapt'"
            ) from error
        self._take_front_ends()

    @property
    def bases(self) -> tuple[Space, ...]:
        """The spaces whose towers it uses, each once."""
        return tuple({id(base): base for base in self._towers.values()}.values())

    def hear_at(self, sample_rate_hz: int) -> None:
        """Take waveforms of another rate from now on: decoding has but one rate for all spaces."""
        for base in self.bases:
            if isinstance(base, OnnxSpace):
                base.hear_at(sample_rate_hz)
        self._take_front_ends()

    def _take_front_ends(self) -> None:
        self.front_ends = {view: base.front_ends[view] for view, base in self._towers.items()}

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs."""
        if view not in self._towers:
            raise WrongModelError(f"the space {self.name} has no tower for the {view} view; use another --model")
        return self.head(view, self._towers[view].encode(view, inputs))

    def head(self, view: View, vectors: Vectors) -> Vectors:
        """Return what the space makes of vectors (n, in) of a view's own tower: (n, dim) float32, L2-normalised."""
        return self._heads[view](vectors)

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return mean and standard deviation of the cosine as measured when it was adapted, else those of its base."""
        known = self._background.get(_pair(query, item))
        if known is not None:
            return float(known[0]), float(known[1])
        one, other = self._towers.get(query), self._towers.get(item)
        return one.background(query, item) if one is not None and one is other else (0.0, self.dim**-0.5)


def fingerprint_of(dim: int, towers: Mapping[View, tuple[str, str]], digest: str) -> str:
    """Return the name of what a space computes: its towers, (pin, fingerprint) of each view, and its heads' digest."""
    defining = [dim, {view.value: fingerprint for view, (_, fingerprint) in sorted(towers.items())}, digest]
    return hashlib.blake2b(json.dumps(defining).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Adapted:
    """What an adapted space is written from: the spaces it stands on, its heads, and what there is to say of them."""

    bases: Mapping[View, Space]
    profile: str
    heads: Mapping[View, HeadWeights]
    background: Mapping[tuple[View, View], tuple[float, float]]
    gained: Mapping[str, Any]

    def write_to(self, place: Path) -> str:
        """Write the space into a folder that is there, its spec last, and return its fingerprint."""
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
            "background": {_pair(*pair): found for pair, found in self.background.items()},
            "profile": self.profile,
            "gained": dict(self.gained),
        }
        write_whole(place / _HEADS, content.getvalue())
        write_whole(place / SPEC, json.dumps(spec, indent=1).encode())
        return fingerprint_of(dim, towers, digest)

    def write(self, folder: Path) -> str:
        """Write the space into `folder/FINGERPRINT` and return the fingerprint; killed anywhere, all of it or nothing.

        The caller sees that nobody else writes there. What processes that were killed have left is removed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        remove_own(folder, folder, ADAPTED, lambda name: name.startswith(BUILDING))
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder))
        fingerprint = self.write_to(building)
        building.chmod(0o755)  # mkdtemp's are for their owner alone
        sync_folder(building)
        place = folder / fingerprint
        if place.exists():  # the same heads, perhaps damaged since: a name can't be given to a second folder
            place.rename(building / "before")
        building.rename(place)
        remove_own(place, folder, _BEFORE, lambda _: True)
        sync_folder(folder)
        return fingerprint


def _read_heads(folder: Path, spec: AdaptedSpec, entering: Mapping[View, int]) -> dict[View, HeadWeights]:
    """Return the heads of a folder. Raises `OSError`, and `ValueError` where they aren't what the spec says.

    `entering` are the dimensions of the towers, by which the size of the file is bounded.
    """
    most = sum(MOST_HIDDEN * (width + spec.dim + 1) + spec.dim * (width + 1) for width in entering.values()) * 8 + 2**16
    file = folder / spec.heads_file
    raw = read_bounded(file, most)
    if hashlib.sha256(raw).hexdigest() != spec.heads_digest:
        raise ValueError(f"{file.name} isn't what the spec says")
    parts: dict[View, dict[str, Weights]] = {}
    for key, array in unpack_arrays(raw, file, len(raw)).items():  # written without compression
        view, _, name = key.partition(".")
        if array.dtype.kind != "f":
            raise ValueError(f"{file.name} holds something else than weights")
        parts.setdefault(View(view), {})[name] = np.asarray(array, np.float32)
    if any(not _NEEDED <= arrays.keys() <= _NEEDED | {"skip"} for arrays in parts.values()):
        raise ValueError(f"{file.name} holds other parts than those of a head")
    heads = {view: HeadWeights(**arrays) for view, arrays in parts.items()}
    if set(heads) != set(spec.towers):
        raise ValueError("it hasn't one head for each tower")
    for view, head in heads.items():
        head.check(spec.dim)
        if head.w1.shape[1] != entering[view]:
            raise ValueError("a head isn't of the dimension of its tower")
    return heads


def _pair(one: View, other: View) -> str:
    return "-".join(sorted((one.value, other.value)))
