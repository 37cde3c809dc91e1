"""Turns scores into ranks and confidences: pure functions on NumPy arrays."""

from mmsearch.search.scoring.agreement import (
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
from mmsearch.search.scoring.bank import bank
from mmsearch.search.scoring.confidence import HUB_SHARE, Reach, evidence, fit_reach
from mmsearch.search.scoring.grouping import best_of_each, near_duplicates
from mmsearch.search.scoring.hubness import hubness
from mmsearch.search.scoring.scale import Background, estimate_background, fuse, standardise

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
