"""Scores → ranks: pure functions on NumPy arrays."""

from mmsearch.ranking.agreement import (
    LEAST,
    POSITIVES,
    STRENGTH,
    agreeing,
    agreement,
    how_many,
    positives,
    rerank,
    strength,
    trust,
)
from mmsearch.ranking.bank import bank
from mmsearch.ranking.confidence import HUB_SHARE, Reach, evidence, fit_reach
from mmsearch.ranking.grouping import best_of_each, near_duplicates
from mmsearch.ranking.hubness import hubness
from mmsearch.ranking.scale import Background, estimate_background, fuse, standardise

__all__ = [
    "HUB_SHARE",
    "LEAST",
    "POSITIVES",
    "STRENGTH",
    "Background",
    "Reach",
    "agreeing",
    "agreement",
    "bank",
    "best_of_each",
    "estimate_background",
    "evidence",
    "fit_reach",
    "fuse",
    "how_many",
    "hubness",
    "near_duplicates",
    "positives",
    "rerank",
    "standardise",
    "strength",
    "trust",
]
