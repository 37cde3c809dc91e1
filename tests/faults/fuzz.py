"""Mutants indexed by the real thing: worker processes, their limits, the catalog."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mutants import FORMATS, Mutant, captioned, mutants
from support.media_maker import COLOURS, encoded, plain, put
from usage import Peak

import mmsearch
from mmsearch import Limits, Settings

SHARE = 40
"""How many of each format one run meets."""
DECODE_S = 20.0
"""What decoding one mutant may take; all of them are small."""
LARGEST_BYTES = 2_500_000_000
"""What the processes of a run may take together."""


@dataclass(slots=True)
class Fuzzed:
    """What became of the mutants, by format: how many, how many were taken in, and what is wrong."""

    mutants: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    wounds: Counter[str] = field(default_factory=Counter)
    slow: int = 0
    crashed: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def fuzz(folder: Path, each: int, *, model: str, workers: int, told: Callable[[str], None]) -> Fuzzed:
    """Index `each` mutants of every format, and as many damaged captions, below a folder; return what came of it."""
    fuzzed, began = Fuzzed(), time.monotonic()
    for start in range(0, each, SHARE):
        numbers = range(start, min(start + SHARE, each))
        some = [mutant for kind in FORMATS for mutant in mutants(kind, numbers)] + list(captioned(numbers))
        _index(folder / str(start), some, model, workers, fuzzed)
        told(f"{fuzzed.mutants.total():,} mutants, {fuzzed.kept.total():,} of them could be read")
    fuzzed.seconds = time.monotonic() - began
    if fuzzed.peak_bytes > LARGEST_BYTES:
        fuzzed.problems.append(f"memory: a run took {fuzzed.peak_bytes / 1e9:.1f} GB")
    return fuzzed


def _index(folder: Path, some: list[Mutant], model: str, workers: int, fuzzed: Fuzzed) -> None:
    media = folder / "media"
    for mutant in some:
        put(media, mutant.name, mutant.content)
    good = {put(media, f"good-{name}.png", encoded(plain(value), "PNG")) for name, value in COLOURS.items()}
    settings = Settings(workers=workers, limits=Limits(decode_s=DECODE_S))
    try:
        with Peak() as peak, mmsearch.open(folder / "library", model=model, settings=settings) as library:
            library.index(media)
            failures = {failure.path: failure.reason for failure in library.failures()}
    except Exception as error:
        fuzzed.problems.append(f"run {folder.name} ended with {type(error).__name__}: {error}")
        return
    fuzzed.peak_bytes = max(fuzzed.peak_bytes, peak.bytes)
    held = _held(folder / "library")
    for mutant in (mutant for mutant in some if mutant.wound != "none"):
        path, kind = media / mutant.name, mutant.name.partition("-")[0]
        kept = path.with_suffix(".png") in held if kind == "json" else path in held
        fuzzed.mutants[kind] += 1
        fuzzed.wounds[mutant.wound] += 1
        fuzzed.kept[kind] += kept
        if not kept and path not in failures:
            fuzzed.problems.append(f"{mutant.name} ({mutant.wound}) is neither held nor among the failures")
    fuzzed.problems += [f"{path.name}, a good file, isn't held" for path in sorted(good - held)]
    fuzzed.problems += [f"run {folder.name}: {words}" for words in _odd_vectors(folder / "library")]
    fuzzed.slow += sum("more than" in reason and " s" in reason for reason in failures.values())
    fuzzed.crashed += sum("crashed" in reason or "killed" in reason for reason in failures.values())
    shutil.rmtree(folder)


def _held(library: Path) -> set[Path]:
    with closing(sqlite3.connect(library / "catalog.sqlite")) as catalog:
        return {Path(path.decode("utf-8", "surrogateescape")) for (path,) in catalog.execute("SELECT path FROM media")}


def _odd_vectors(library: Path) -> Iterator[str]:
    with closing(sqlite3.connect(library / "catalog.sqlite")) as catalog:
        blobs = [blob for (blob,) in catalog.execute("SELECT vector FROM embedding")]
    for size in {len(blob) for blob in blobs}:
        rows = np.stack([np.frombuffer(blob, "<f2").astype(np.float32) for blob in blobs if len(blob) == size])
        norms = np.linalg.norm(rows, axis=1)
        if not np.isfinite(rows).all() or np.abs(norms - 1).max() > 0.01:
            yield f"a vector isn't finite, or of the length {norms[np.argmax(np.abs(norms - 1))]}"
