"""The protocol of a joint embedding space: front ends prepare payloads, and towers encode them."""

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
"""A payload after a tower's front end: a small array that is cheap to send between processes."""

Vectors = NDArray[np.float32]
"""(n, dim), L2-normalised rows."""

_SAMPLE_RATE_HZ = 16_000
"""The rate at which sounds are decoded if no tower takes any."""
_SIDE_MARGIN = 2
"""A JPEG is decoded at this multiple of the tower's side at least, so that reduced decoding changes no ranking."""


class FrontEnd(Protocol):
    """The cheap first step of a tower: payload → array. It is picklable and has no weights, so workers can run it."""

    def __call__(self, payload: Payload) -> Prepared:
        """Return the input of `Space.encode` for this payload."""
        ...


@runtime_checkable
class TextFrontEnd(FrontEnd, Protocol):
    """The front end of a text tower, with the length of its passages."""

    max_tokens: int
    """The longest passage in tokens, special ones excluded."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, special ones excluded."""
        ...


@runtime_checkable
class ImageFrontEnd(FrontEnd, Protocol):
    """The front end of an image tower, with the size of its input."""

    side: int
    """The longer side of the tower's input in pixels."""


@runtime_checkable
class SoundFrontEnd(FrontEnd, Protocol):
    """The front end of a sound tower, with the rate of its input."""

    sample_rate_hz: int
    """Samples per second of the mono waveform that it takes."""


class Space(Protocol):
    """A joint embedding space: towers that map texts, pictures and sounds to unit vectors of one dimension.

    Vectors of two spaces, or of two fingerprints of one, are never compared.
    """

    name: str
    dim: int
    fingerprint: str
    """Changes with the weights and with the preprocessing."""
    pin: str
    """A reference by which `load_profile` opens the same space again: its source and the state of that."""
    front_ends: Mapping[View, FrontEnd]
    """The front end of each view that the space has a tower for."""

    def encode(self, view: View, inputs: Sequence[Prepared]) -> Vectors:
        """Return (n, dim) float32, L2-normalised rows, in input order; (0, dim) for no inputs."""
        ...

    def background(self, query: View, item: View) -> tuple[float, float]:
        """Return the score distribution: mean and standard deviation of the cosine of unrelated payloads."""
        ...


def decoding_needs(front_ends: Iterable[FrontEnd]) -> tuple[int, int, Callable[[str], int], int]:
    """Return the decoding parameters that towers need.

    These are the minimum picture side in pixels, the longest passage in tokens with a function that counts a text's
    tokens so that passages fit every text tower, and the sample rate in hertz. Files and queries are decoded with the
    same parameters, so that a query by an indexed file has that file's vector. Raises `ModelError` without a text
    tower, or if sound towers have different rates.
    """
    ends = list(front_ends)
    texts = [end for end in ends if isinstance(end, TextFrontEnd)]
    if not texts:
        raise ModelError("a model needs a text tower, which decides how texts are cut; choose another with --model")
    side = max((end.side for end in ends if isinstance(end, ImageFrontEnd)), default=1)
    rates = {end.sample_rate_hz for end in ends if isinstance(end, SoundFrontEnd)} or {_SAMPLE_RATE_HZ}
    if len(rates) > 1:
        raise ModelError(f"its sound towers want different sample rates ({sorted(rates)}); choose another with --model")
    longest = texts[0].max_tokens

    def count(text: str) -> int:
        """Return the largest share of a tower's passage that a text takes, scaled to the first tower's tokens."""
        return max(-(-end.count_tokens(text) * longest // end.max_tokens) for end in texts)

    return _SIDE_MARGIN * side, longest, texts[0].count_tokens if len(texts) == 1 else count, rates.pop()


def embed(space: Space, view: View, payloads: Sequence[Payload]) -> Vectors:
    """Prepare and encode payloads. Returns (n, dim) float32, L2-normalised rows, in input order.

    Raises `ModelError` if the space has no tower for the view.
    """
    front_end = space.front_ends.get(view)
    if front_end is None:
        raise WrongModelError(f"the space {space.name} has no tower for the {view} view; use another model")
    return space.encode(view, [front_end(payload) for payload in payloads])


def normalise(vectors: NDArray[Any]) -> Vectors:
    """Return the rows scaled to unit length, as float32; a row of zeros stays zero."""
    rows = np.asarray(vectors, dtype=np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12), dtype=np.float32)
