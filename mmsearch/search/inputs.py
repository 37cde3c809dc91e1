"""What a query may ask with: a text, a file, the bytes of one, a picture, or a vector."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import QueryError
from mmsearch.spaces import Vectors, normalise

if TYPE_CHECKING:
    from mmsearch.types import Picture, QueryInput

_CHANNELS = (1, 3, 4)


class InputKind(Enum):
    """How an input of a query becomes a query item."""

    TEXT = "text"
    FILE = "file"
    BYTES = "bytes"
    """The content of a file."""
    PICTURE = "picture"
    """A picture of Pillow, or an array of pixels."""
    VECTOR = "vector"
    """A vector of one of the model's spaces."""


def kind_of(item: object) -> InputKind:
    """Return what an input is. Raises `QueryError` for anything that no query can ask with."""
    if isinstance(item, str):
        return InputKind.TEXT
    if isinstance(item, Path):
        return InputKind.FILE
    if isinstance(item, bytes):
        return InputKind.BYTES
    if isinstance(item, np.ndarray):
        return _kind_of_array(item)
    if is_picture(item):
        return InputKind.PICTURE
    raise QueryError(
        f"a query can't ask with a {type(item).__name__}; give a str, a Path, bytes, a picture, or a NumPy array"
    )


def _kind_of_array(array: NDArray[Any]) -> InputKind:
    is_float = np.issubdtype(array.dtype, np.floating)
    if array.ndim == 1 and is_float:
        if not np.isfinite(array).all() or not array.any():
            raise QueryError("a vector has to be of finite numbers, and not all of them 0")
        return InputKind.VECTOR
    shaped = array.size and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS))
    if shaped and (array.dtype == np.uint8 or (is_float and array.min() >= 0 and array.max() <= 1)):
        return InputKind.PICTURE
    raise QueryError(
        f"an array of shape {array.shape} and type {array.dtype} is neither a vector (one dimension, floats) nor a "
        "picture ((height, width) or (height, width, channels), uint8 or floats from 0 to 1)"
    )


def is_several(items: object) -> TypeGuard[Iterable[Any]]:
    """Return whether these are several inputs, and not one."""
    return isinstance(items, Iterable) and not isinstance(items, str | bytes | np.ndarray) and not is_picture(items)


def is_picture(item: object) -> TypeGuard[Picture]:
    """Return whether this is a picture of Pillow, without loading Pillow: who has one has loaded it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(item, pillow.Image)


def as_picture(item: QueryInput) -> Picture:
    """Return an input that is a picture as files are decoded: upright, RGB. Raises `MediaError`."""
    from mmsearch.media.image import from_pixels, upright

    if isinstance(item, np.ndarray):
        return from_pixels(item)
    if not is_picture(item):
        raise TypeError(f"a {type(item).__name__} is no picture")
    return upright(item)


def as_vector(array: NDArray[Any]) -> Vectors:
    """Return a vector (dim,) as float32 of length 1."""
    largest = np.abs(array).max()  # its square may be more than float32 holds
    return normalise(np.asarray(array / largest, np.float32))
