"""The heads of an adapted space while they are trained, and the arrays that `spaces/adapted.py` runs them from."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.spaces import HeadWeights

HIDDEN = 128
"""Enough to turn a space a little, and too few to learn a collection by heart."""


class Head(nn.Module):
    """h(v) = normalise(v + W₂·gelu(W₁·v + b₁) + b₂), rows of (n, in) to (n, dim). Before its first step it is v itself.

    Where `into` isn't `dim`, a matrix without bias stands for the identity. `features` and `project` are what every
    tower has: here nothing comes before the projection.
    """

    def __init__(self, dim: int, hidden: int = HIDDEN, into: int | None = None) -> None:
        super().__init__()
        into = dim if into is None else into
        self.dim, self.width = dim, into
        self.skip = nn.Identity() if into == dim else nn.Linear(into, dim, bias=False)
        self.inner = nn.Linear(into, hidden)
        self.outer = nn.Linear(hidden, dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def features(self, vectors: Tensor) -> Tensor:
        """Return the vectors of the frozen tower as they are."""
        return vectors

    def project(self, vectors: Tensor) -> Tensor:
        """Return (n, dim), L2-normalised rows."""
        return self(vectors)  # type: ignore[no-any-return]

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (n, dim), L2-normalised rows."""
        moved = self.outer(F.gelu(self.inner(vectors), approximate="tanh"))
        return F.normalize(self.skip(vectors) + moved, dim=1)

    def weights(self) -> HeadWeights:
        """Return its weights as NumPy arrays of their own."""
        tensors = (self.inner.weight, self.inner.bias, self.outer.weight, self.outer.bias)
        w1, b1, w2, b2 = (_array(tensor) for tensor in tensors)
        return HeadWeights(w1, b1, w2, b2, _array(self.skip.weight) if isinstance(self.skip, nn.Linear) else None)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).numpy().copy()
