"""Measure memory and time of a text query in a large library: `python benchmarks/large.py /tmp/large --rows 1000000`.

The library has random vectors in the space of `mini`, one for each picture. The first call makes it, later ones reuse
it. Every query runs in a separate process, whose anonymous memory is read from /proc/self/status (Linux only).
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import mmsearch
from mmsearch.types import View

_BATCH = 50_000
_QUERY = """
import re, sys, threading, time
import mmsearch
from pathlib import Path

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

peak, done = [0.0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], memory("RssAnon"))

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
began = time.perf_counter()
with mmsearch.open(sys.argv[1]) as library:
    hits = library.query(sys.argv[2])
    cold = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(5):
        library.query(sys.argv[2])
    warm = (time.perf_counter() - began) / 5
done.set()
print(f"{peak[0]:.0f} MB anonymous at most, cold {cold:.2f} s, warm {1000 * warm:.0f} ms, {len(hits)} hits")
"""


def make(folder: Path, rows: int) -> None:
    """Fill a new library with random unit vectors, as after an index run."""
    with mmsearch.open(folder, model="mini") as library:
        model = library.seen()
        space, key = model.profile.spaces[0], model.profile.key
        space_id = model.catalog.add_space(space.name, space.fingerprint, space.dim)
    rng = np.random.default_rng(0)
    connection = sqlite3.connect(folder / "catalog.sqlite")
    with connection:
        for start in range(1, rows + 1, _BATCH):
            ids = range(start, min(start + _BATCH, rows + 1))
            vectors = rng.standard_normal((len(ids), space.dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            blobs, draws = vectors.astype("<f2"), rng.integers(0, 2**61, len(ids)).tolist()
            for statement, values in (
                ("content (id, hash, modality) VALUES (?, ?, 'image')", ((i, b"%032d" % i) for i in ids)),
                ("embedded (content_id, profile_id, key) VALUES (?, 1, ?)", ((i, key) for i in ids)),
                (
                    "media (path, content_id, size_bytes, mtime_ns, sidecars, device) VALUES (?, ?, 1, 1, '', '0')",
                    ((b"/photos/%08d.jpg" % i, i) for i in ids),
                ),
                ("segment (id, content_id, silent, profile_id) VALUES (?, ?, 0, 1)", ((i, i) for i in ids)),
                (
                    "embedding (id, segment_id, space_id, view, modality, draw, vector) "
                    "VALUES (?, ?, ?, ?, 'image', ?, ?)",
                    (
                        (i, i, space_id, View.VISUAL.value, draw, blob.tobytes())
                        for i, draw, blob in zip(ids, draws, blobs, strict=True)
                    ),
                ),
            ):
                connection.executemany(f"INSERT INTO {statement}", values)
        connection.execute("INSERT INTO revision (token, profile_id) VALUES (12345, 1)")
    connection.close()


def main() -> None:
    """Make the library if it doesn't exist, update its indexes, and run several queries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    if not options.folder.exists():
        make(options.folder, options.rows)
    with mmsearch.open(options.folder) as library:
        model, began = library.seen(), time.perf_counter()
        model.indexes.catch_up(model.profile)
    print(f"indexes updated in {time.perf_counter() - began:.1f} s")
    for _ in range(options.times):
        subprocess.run([sys.executable, "-c", _QUERY, options.folder, "a red car"], check=True)


if __name__ == "__main__":
    main()
