"""Scores → ranks: pure functions on NumPy arrays."""

from mmsearch.ranking.agreement import agreement, rerank
from mmsearch.ranking.grouping import best_of_each, near_duplicates
from mmsearch.ranking.scale import Background, estimate_background, fuse, standardise

__all__ = [
    "Background",
    "agreement",
    "best_of_each",
    "estimate_background",
    "fuse",
    "near_duplicates",
    "rerank",
    "standardise",
]
