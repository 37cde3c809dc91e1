"""An index in memory that follows the catalog while another process writes, and the index files are behind."""

from __future__ import annotations

import numpy as np

from mmsearch.vectors.base import Codes, Fetch, Ids, finite_codes
from mmsearch.vectors.faiss_index import FaissIndex, codes_of, index_of
from mmsearch.vectors.generation import Generation

_ROWS = 2**15
"""Rows that are fetched at once, and the size up to which generations are joined."""


def follow(earlier: FaissIndex, live: Ids, fetch: Fetch) -> FaissIndex:
    """Return an index in memory of the sorted `live` ids; only vectors that `earlier` lacks are fetched.

    `earlier` is a previous result, or an empty index. Vectors that aren't finite are left out.
    """
    generations = earlier.generations
    known = np.concatenate([np.empty(0, np.int64), *(generation.ids for generation in generations)])
    if np.isin(live, np.setdiff1d(known, earlier.ids())).any():  # a deleted id returned, maybe with another vector
        generations, known = (), known[:0]
    joined = list(generations)
    new = np.setdiff1d(live, known)
    for start in range(0, len(new), _ROWS):
        ids, codes = finite_codes(*fetch(new[start : start + _ROWS]))
        _append(joined, ids, codes)
    return FaissIndex(earlier.dim, joined, np.setdiff1d(known, live))


def _append(generations: list[Generation], ids: Ids, codes: Codes) -> None:
    """Append a generation, or join it with the last one if both are small, so that refreshes don't pile up."""
    rows = codes.view(np.uint8).reshape(len(ids), 2 * codes.shape[1])
    if generations and len(generations[-1].ids) + len(ids) <= _ROWS:
        last = generations.pop()
        before = np.frombuffer(codes_of(last.index), np.uint8).reshape(len(last.ids), -1)
        order = np.argsort(np.concatenate([last.ids, ids]))
        rows = np.concatenate([before, rows])[order]
        ids = np.concatenate([last.ids, ids])[order]
    if len(ids):
        generations.append(Generation(ids, index_of(codes.shape[1], rows, ids)))
