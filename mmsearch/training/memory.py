"""What training remembers between steps: banks of instances, queues of keys, and a network that follows another.

All of it lives in buffers, so that a checkpoint restores it to the bit.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NONE = -1
"""In a row of ids, or for a tag: there is none."""


class MemoryBank(nn.Module):
    """One L2-normalised entry (dim,) an instance, random at first, then a running mean of its embeddings.

    AVID's (Morgado, Vasconcelos and Misra 2021, arXiv:2004.12943). `entries` and `negatives` return copies, so that a
    batch can be scored first and remembered afterwards.
    """

    memory: Tensor
    """(instances, dim) float32."""
    partition: Tensor
    """Z of the noise-contrastive loss over these entries, a float32 scalar, frozen once set; 0 is not yet set."""

    def __init__(self, instances: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.randn(instances, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("memory", F.normalize(drawn, dim=1))
        self.register_buffer("partition", torch.zeros(()))

    def __len__(self) -> int:
        return len(self.memory)

    @torch.no_grad()
    def update(self, rows: Tensor, embeddings: Tensor, momentum: float = 0.5) -> None:
        """Move the entries of rows (b,) towards embeddings (b, dim), normalised, and normalise; after scoring only.

        A row that a batch holds several times moves once, towards the mean of its embeddings.
        """
        rows, inverse, counts = torch.unique(rows.to(self.memory.device), return_inverse=True, return_counts=True)
        sums = torch.zeros_like(self.memory[rows]).index_add_(0, inverse, embeddings.to(self.memory))
        moved = momentum * self.memory[rows] + (1 - momentum) * sums / counts[:, None]
        self.memory[rows] = F.normalize(moved, dim=1)

    def entries(self, rows: Tensor) -> Tensor:
        """Return the entries of rows, ids of any shape: (*shape, dim)."""
        return self.memory[rows.to(self.memory.device)]

    def negatives(self, rows: Tensor, count: int, random: torch.Generator, exclude: Tensor | None = None) -> Tensor:
        """Return (b, count, dim), for each row entries of other instances; see `draw_others`."""
        return self.entries(draw_others(len(self), rows, count, random, exclude))


def draw_others(
    instances: int, rows: Tensor, count: int, random: torch.Generator, exclude: Tensor | None = None
) -> Tensor:
    """Return (b, count) int64 ids below `instances`, for each of rows (b,) drawn uniformly and with replacement.

    Never the row itself, nor one of its `exclude` (b, p): CMA's positives, padded with −1. The ids are on the device of
    `random`. ValueError where a row has no other instance left.
    """
    banned = rows[:, None] if exclude is None else torch.cat([rows[:, None], exclude.to(rows)], dim=1)
    banned = banned.to(random.device).sort(dim=1).values
    repeated = torch.zeros_like(banned, dtype=torch.bool)
    repeated[:, 1:] = banned[:, 1:] == banned[:, :-1]
    void = repeated | (banned < 0) | (banned >= instances)
    left = instances - (~void).sum(dim=1, keepdim=True)
    if len(rows) and int(left.min()) < 1:
        raise ValueError(f"of {instances} instances none is left to draw a negative from")
    # The u-th instance that is left has as many banned ones below it as there are j with banned_j − j ≤ u: a shift
    # instead of a second draw, so each is exactly as likely. Void ids sort behind all that can be drawn.
    width = banned.shape[1]
    banned = banned.masked_fill(void, instances + width).sort(dim=1).values
    below = banned - torch.arange(width, device=banned.device)
    # Of 2^62 values the remainder favours none by more than instances / 2^62.
    drawn = torch.randint(2**62, (len(rows), count), generator=random, device=random.device) % left
    return drawn + torch.searchsorted(below, drawn, right=True)


def mine_positives(
    visual: Tensor,
    audio: Tensor,
    count: int,
    chunk: int = 1024,
    mode: Literal["both", "visual", "audio"] = "both",
) -> Tensor:
    """Return (n, min(count, n − 1)) int64, for each instance the others that agree with it most, best first.

    CMA's ρ_ij = min(v_i·v_j, a_i·a_j) of two memories (n, dim), rows L2-normalised (arXiv:2004.12943, section 4); the
    modes "visual" and "audio" look at one alone. `chunk` times n scores of each are held at a time.
    """
    views = {"both": (visual, audio), "visual": (visual,), "audio": (audio,)}[mode]
    n = len(views[0])
    count = max(min(count, n - 1), 0)
    mined = torch.empty((n, count), dtype=torch.int64, device=views[0].device)
    for start in range(0, n, chunk):
        rows = torch.arange(start, min(start + chunk, n), device=mined.device)
        with torch.no_grad():
            rho = views[0][rows] @ views[0].T
            for view in views[1:]:
                rho = torch.minimum(rho, view[rows] @ view.T)
            rho[rows - start, rows] = -torch.inf
            mined[rows] = rho.topk(count, dim=1).indices
    return mined


class Queue(nn.Module):
    """The last `size` keys (dim,), first in first out, each with a tag id and an instance id, −1 for none.

    MoCo's (He et al. 2020, arXiv:1911.05722): negatives of the steps before, by a network that changes slowly.
    """

    keys: Tensor
    tags: Tensor
    ids: Tensor
    pushed: Tensor
    """How many keys were ever kept, an int64 scalar; the next goes to this place modulo the size."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue holds at least one key, not {size}")
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("tags", torch.full((size,), NONE))
        self.register_buffer("ids", torch.full((size,), NONE))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> int:
        """How many keys it holds."""
        return min(int(self.pushed), len(self.keys))

    @torch.no_grad()
    def push(self, keys: Tensor, tags: Tensor, ids: Tensor) -> None:
        """Take in keys (b, dim) with tags (b,) and ids (b,), oldest first; the oldest held make room for them."""
        if not len(keys) == len(tags) == len(ids):
            raise ValueError(f"{len(keys)} keys with {len(tags)} tags and {len(ids)} ids")
        size = len(self.keys)
        keys, tags, ids = keys[-size:], tags[-size:], ids[-size:]
        places = (self.pushed + torch.arange(len(keys), device=self.pushed.device)) % size
        for held, new in ((self.keys, keys), (self.tags, tags), (self.ids, ids)):
            held[places] = new.to(held)
        self.pushed += len(keys)

    def contents(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return copies of keys (filled, dim), tags (filled,) and ids (filled,), of one order but not by age."""
        filled = self.filled
        return self.keys[:filled].clone(), self.tags[:filled].clone(), self.ids[:filled].clone()


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the target's parameters to momentum · its own + (1 − momentum) · the online network's; copy its buffers.

    MoCo's momentum encoder. ValueError where one has more of them than the other.
    """
    for own, new in zip(target.parameters(), online.parameters(), strict=True):
        own.lerp_(new, 1 - momentum)
    for held, other in zip(target.buffers(), online.buffers(), strict=True):
        held.copy_(other)
