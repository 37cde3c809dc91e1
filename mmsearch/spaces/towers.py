"""Towers in torch, as loaders return them to the exporter and to the CUDA space."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.errors import ModelError
from mmsearch.types import View

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_BASE_BYTES = 2**29
_TIMES_WEIGHTS = 6
"""Memory for each byte of weights on disk: half precision becomes single, and two copies exist at a time."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the log lines and warnings of model libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def bounded_memory(weights: Path) -> Iterator[None]:
    """Limit the memory of this process, while a model is built and loaded, by the size of its weights.

    A configuration of a few bytes may describe a model of any size. The limit exists only on Linux. Raises `ModelError`
    for a `MemoryError`; the caller handles torch's own errors.
    """
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + _BASE_BYTES + _TIMES_WEIGHTS * weights.stat().st_blocks * 512
    if before[0] == resource.RLIM_INFINITY or limit < before[0]:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    except MemoryError:
        raise ModelError(f"the model of {weights} takes more memory than its weights account for") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@dataclass(frozen=True, slots=True)
class Tower:
    """One tower: a module that takes a batch of inputs and returns (n, dim), not normalised.

    `example` is a batch of two inputs: (2, 3, h, w) float32 standardised pixels, (2, t) int64 padded token ids, or
    (2, frames, bands) float32 log-mel. `spec` is the tower's section of `spec.json` without its file name.
    """

    module: Module
    example: Tensor
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Towers:
    """A loaded model.

    `tokenizer` is a `tokenizer.json` without padding and truncation. `tokenize` is the model's own function from texts
    to padded ids (n, t), with which the former is verified. `arrays` are further files (name.npy) of the front ends.
    """

    dim: int
    towers: Mapping[View, Tower]
    tokenizer: str
    tokenize: Callable[[Sequence[str]], NDArray[np.int64]]
    arrays: Mapping[str, NDArray[np.float32]]
