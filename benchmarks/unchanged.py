"""Check that a change of the code changes no answer: record the hits of 300 queries, and compare two recordings.

    python benchmarks/unchanged.py record MEDIA LIBRARY FILE    index MEDIA into LIBRARY, write hits of queries to FILE
    python benchmarks/unchanged.py compare BEFORE AFTER         print the differences; exit 1 if there are any

Record with the old code, then with the new code on a copy of the same library (or a new one), and compare. The queries
are fixed texts, and photos, sounds, clips and notes of MEDIA, chosen by a hash of their paths, each for several kinds
of files. Scores and confidences may differ by 1e-4, and hits may swap ranks only if their scores tie.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmsearch
from mmsearch.media import by_name

TOLERANCE = 1e-4
PER_KIND = 60
KINDS = ("image", "video", "audio", "text")
WORDS = (
    "a dog running through the grass",
    "rain on a roof",
    "children playing football",
    "red car",
    "guitar",
    "sunflower",
    "a man on a bicycle",
    "thunder",
    "Hund am Strand",
    "un chat noir",
    "most přes řeku",
    "brass band",
)


def queries(media: Path) -> Iterator[tuple[str, Any, set[str]]]:
    """Yield a name, the term and the wanted kinds (empty: all) of each query."""
    for words in WORDS:
        for kind in (*KINDS, ""):
            yield f"text {words!r} in {kind or 'any'}", words, {kind} if kind else set()
    by_kind: dict[str, list[Path]] = {}
    for file in sorted(media.rglob("*")):
        if modality := by_name(file.name):
            by_kind.setdefault(modality.value, []).append(file)
    for own, files in by_kind.items():
        files.sort(key=lambda file: hashlib.sha256(str(file.relative_to(media)).encode()).digest())
        for n, file in enumerate(files[:PER_KIND]):
            wanted = {KINDS[n % 4]} if n % 5 else set()
            yield f"{own} {file.relative_to(media)} in {'+'.join(wanted) or 'any'}", file, wanted


def record(media: Path, library: Path, out: Path) -> None:
    """Index `media` and write the hits of all queries."""
    with mmsearch.open(library, model="mini") as opened, out.open("w", encoding="utf-8") as file:
        report = opened.index(media)
        sys.stderr.write(f"{report.added + report.updated:,} files indexed, {report.failed} failed\n")
        for name, query, wanted in queries(media):
            for cut in (False, True):
                hits = opened.query(query, k=10, modalities=wanted or None, cut=cut)
                rows = [[str(h.path), h.score, h.confidence, h.view, h.start_s, h.end_s, h.text] for h in hits]
                file.write(json.dumps({"query": f"{name}{', cut' if cut else ''}", "hits": rows}) + "\n")


def differences(before: list[Any], after: list[Any]) -> Iterator[str]:
    """Yield the differences between two lists of hits."""
    if len(before) != len(after):
        yield f"{len(before)} hits, now {len(after)}"
    for rank, (old, new) in enumerate(zip(before, after, strict=False), 1):
        if abs(old[1] - new[1]) > TOLERANCE:
            yield f"rank {rank}: score {old[1]:.5f}, now {new[1]:.5f}"
        elif old[0] == new[0] and (old[3:] != new[3:] or abs((old[2] or 0) - (new[2] or 0)) > TOLERANCE):
            yield f"rank {rank}: {old[2:]}, now {new[2:]}"
        elif old[0] != new[0] and not any(o[0] == new[0] and abs(o[1] - new[1]) <= TOLERANCE for o in before):
            tied_at_end = abs(old[1] - before[-1][1]) <= TOLERANCE  # a tie may be cut off at k
            if not tied_at_end:
                yield f"rank {rank}: {old[0]}, now {new[0]}"


def compare(before: Path, after: Path) -> int:
    """Print the differences of two recordings; return the number of queries that differ."""
    old, new = (
        {row["query"]: row["hits"] for row in map(json.loads, file.read_text("utf-8").splitlines())}
        for file in (before, after)
    )
    changed = 0
    for query in old.keys() | new.keys():
        lines = list(differences(old.get(query, []), new.get(query, [])))
        changed += bool(lines)
        for line in lines[:3]:
            print(f"{query}: {line}")
    print(f"{len(old)} answers before, {len(new)} after; {changed} differ")
    return changed


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    for name in ("media", "library", "out"):
        recording.add_argument(name, type=Path)
    comparing = commands.add_parser("compare")
    for name in ("before", "after"):
        comparing.add_argument(name, type=Path)
    options = parser.parse_args()
    if options.command == "record":
        record(options.media.resolve(), options.library, options.out)
    elif compare(options.before, options.after):
        sys.exit(1)


if __name__ == "__main__":
    main()
