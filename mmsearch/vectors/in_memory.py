"""An index in memory that grows with the catalog: for what no file holds yet, while another process writes."""

from __future__ import annotations

import numpy as np

from mmsearch.vectors.base import Codes, Fetch, Ids, finite_codes
from mmsearch.vectors.faiss_index import FaissIndex, codes_of, index_of
from mmsearch.vectors.generation import Generation

_ROWS = 2**15
"""Rows that are fetched at once, and the size up to which generations are joined."""


def follow(held: FaissIndex, live: Ids, fetch: Fetch) -> FaissIndex:
    """Return the index in memory of the sorted `live` ids; only what `held` lacks of them is fetched.

    `held` is an earlier result, or an index of nothing. Vectors that aren't finite are left out.
    """
    generations = held.generations
    known = np.concatenate([np.empty(0, np.int64), *(generation.ids for generation in generations)])
    if np.isin(live, np.setdiff1d(known, held.ids())).any():  # a deleted id is back: it may have another vector
        generations, known = (), known[:0]
    joined = list(generations)
    new = np.setdiff1d(live, known)
    for start in range(0, len(new), _ROWS):
        ids, codes = finite_codes(*fetch(new[start : start + _ROWS]))
        _append(joined, ids, codes)
    return FaissIndex(held.dim, joined, np.setdiff1d(known, live))


def _append(generations: list[Generation], ids: Ids, codes: Codes) -> None:
    """Append a generation, joined with the last one while both are small: else each refresh would leave one behind."""
    rows = codes.view(np.uint8).reshape(len(ids), 2 * codes.shape[1])
    if generations and len(generations[-1].ids) + len(ids) <= _ROWS:
        last = generations.pop()
        before = np.frombuffer(codes_of(last.index), np.uint8).reshape(len(last.ids), -1)
        order = np.argsort(np.concatenate([last.ids, ids]))
        rows = np.concatenate([before, rows])[order]
        ids = np.concatenate([last.ids, ids])[order]
    if len(ids):
        generations.append(Generation(ids, index_of(codes.shape[1], rows, ids)))
