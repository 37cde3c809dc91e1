"""Towers in torch, as a loader hands them to the exporter and to the CUDA space."""

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

_LEAST_BYTES = 2**29
_TIMES_WEIGHTS = 6
"""Memory that loading takes for each byte of weights: halves become singles, and two copies are there at a time."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries of models log and warn about off the terminal."""
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
    """Let this process take no more memory, while a model is built and loaded, than its weights account for.

    A configuration of a few bytes may describe a model of any size. The limit is Linux's; elsewhere there is none.
    Raises `ModelError` for a `MemoryError`; torch's own errors are left to the caller.
    """
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + _LEAST_BYTES + _TIMES_WEIGHTS * weights.stat().st_blocks * 512
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
    """One tower: a module that takes one batch of inputs and returns (n, dim), not yet normalised.

    `example` is a batch of two inputs: (2, 3, h, w) float32 pixels after mean and std; (2, t) int64 token ids, padded;
    (2, frames, bands) float32 log-mel. `spec` is its section of `spec.json`, all that its front end needs to know, but
    for the file's name.
    """

    module: Module
    example: Tensor
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Towers:
    """A loaded model.

    `tokenizer` is a `tokenizer.json` without padding and truncation; `tokenize` is the model's own way from texts to
    padded ids (n, t), by which the former is checked. `arrays` are further files (name.npy) that front ends need.
    """

    dim: int
    towers: Mapping[View, Tower]
    tokenizer: str
    tokenize: Callable[[Sequence[str]], NDArray[np.int64]]
    arrays: Mapping[str, NDArray[np.float32]]
