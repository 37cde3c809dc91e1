"""What a joint embedding space is: front ends that prepare payloads, and towers that encode them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import ModelError, WrongModelError
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.types import Payload

Prepared = NDArray[Any]
"""A payload as a tower's front end leaves it: a small array that is cheap to send between processes."""

Vectors = NDArray[np.float32]
"""(n, dim), L2-normalised rows."""

_SAMPLE_RATE_HZ = 16_000
"""The rate at which sounds are decoded where no tower takes any."""
_SIDE_MARGIN = 2
"""A JPEG is decoded at no less than this times the tower's side: a reduced decoding then changes no ranking."""


class FrontEnd(Protocol):
    """The cheap first step of a tower: payload → array. Picklable and without weights, so that workers can run it."""

    def __call__(self, payload: Payload) -> Prepared:
        """Return the array that `Space.encode` takes for this payload."""
        ...


@runtime_checkable
class TextFrontEnd(FrontEnd, Protocol):
    """The front end of a text tower also says what fits the tower."""

    max_tokens: int
    """The longest passage, in tokens that carry words."""

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text takes, without the special ones."""
        ...


@runtime_checkable
class ImageFrontEnd(FrontEnd, Protocol):
    """The front end of an image tower also says how large a picture it uses."""

    side: int
    """The side of the square that the tower sees, in pixels."""


@runtime_checkable
class SoundFrontEnd(FrontEnd, Protocol):
    """The front end of a sound tower also says how it wants to be fed."""

    sample_rate_hz: int
    """Samples a second of the mono waveform that it takes."""


class Space(Protocol):
    """A joint embedding space: towers that map texts, pictures and sounds to unit vectors of one dimension.

    Vectors of two spaces, or of two fingerprints of one, are never compared.
    """

    name: str
    dim: int
    fingerprint: str
    """Changes with the weights and with the preprocessing."""
    pin: str
    """Names the space so that `load_profile` makes it again: its source, and which state of it."""
    front_ends: Mapping[View, FrontEnd]
    """One for each view that the space has a tower for."""

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs."""
        ...

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return mean and standard deviation of the cosine between unrelated payloads of these two views."""
        ...


def decoding_needs(front_ends: Iterable[FrontEnd]) -> tuple[int, int, Callable[[str], int], int]:
    """Return what towers ask of decoding.

    That is the least picture side in pixels, the longest passage and how it is counted so that it fits every text
    tower, and the rate of sounds in hertz. Raises `ModelError` without a text tower, or where sound towers differ in
    their rate.

    Files and queries are decoded by the same needs, so that a file asks with the very vector it is found by.
    """
    ends = list(front_ends)
    texts = [end for end in ends if isinstance(end, TextFrontEnd)]
    if not texts:
        raise ModelError("a model needs a text tower to cut passages by; choose another with --model")
    side = max((end.side for end in ends if isinstance(end, ImageFrontEnd)), default=1)
    rates = {end.sample_rate_hz for end in ends if isinstance(end, SoundFrontEnd)} or {_SAMPLE_RATE_HZ}
    if len(rates) > 1:
        raise ModelError(f"its sound towers want different sample rates ({sorted(rates)}); choose another with --model")
    most = texts[0].max_tokens

    def count(text: str) -> int:
        """Return the share of its tower that a text takes where that is largest, in tokens of the first tower."""
        return max(-(-end.count_tokens(text) * most // end.max_tokens) for end in texts)

    return _SIDE_MARGIN * side, most, texts[0].count_tokens if len(texts) == 1 else count, rates.pop()


def embed(space: Space, view: View, payloads: Sequence[Payload]) -> Vectors:
    """Prepare and encode payloads. Returns (n, dim) float32, L2-normalised rows, in input order.

    Raises `ModelError` where the space has no tower for the view.
    """
    front_end = space.front_ends.get(view)
    if front_end is None:
        raise WrongModelError(f"the space {space.name} has no tower for the {view} view; use another model")
    return space.encode(view, [front_end(payload) for payload in payloads])


def normalise(vectors: NDArray[Any]) -> Vectors:
    """Return the rows scaled to unit length, as float32; a row of zeros stays one."""
    rows = np.asarray(vectors, dtype=np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12), dtype=np.float32)
