"""What a filter costs in a large library: `python benchmarks/filters.py /tmp/filtered --rows 1000000`.

The library is that of benchmarks/large.py, whose items get dates, places, cameras, sizes, lengths, names and folders.
It is made on the first call and kept. Each filter is timed in turns with the same query without one, in one process. A
line says what the first query with that filter took, which reads the columns that it asks for, and the ratio of the
medians of those that follow, each with another filter of its kind, so that none was evaluated before.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from large import make as make_large

import mmsearch

_BATCH = 50_000
_KINDS = ("image", "image", "image", "image", "video", "audio")
_ENDINGS = {"image": ("jpg", "heic"), "video": ("mp4", "mov"), "audio": ("m4a", "mp3")}
_CAMERAS = ("Google Pixel 6", "Apple iPhone 12", "Canon EOS 5D", "NIKON D750", None)


def make(folder: Path, rows: int) -> None:
    """Make the library: facts are drawn by a fixed seed."""
    make_large(folder, rows)
    rng = np.random.default_rng(1)
    connection = sqlite3.connect(folder / "catalog.sqlite")
    with connection:
        for start in range(1, rows + 1, _BATCH):
            ids = range(start, min(start + _BATCH, rows + 1))
            items = [_item(i, rng) for i in ids]
            for statement, names in (
                ("UPDATE content SET modality = :kind WHERE id = :id", ("kind", "id")),
                ("UPDATE embedding SET modality = :kind WHERE id = :id", ("kind", "id")),
                ("UPDATE media SET path = :path, size_bytes = :bytes, mtime_ns = :mtime WHERE id = :id", ()),
                (
                    "INSERT INTO file_facts "
                    "(content_id, version, taken_at, latitude, longitude, camera, width, height, duration_s) "
                    "VALUES (:id, 1, :taken, :latitude, :longitude, :camera, :width, :height, :duration)",
                    (),
                ),
            ):
                connection.executemany(statement, [{n: item[n] for n in names or item} for item in items])
    connection.close()


def _item(number: int, rng: np.random.Generator) -> dict[str, object]:
    kind = _KINDS[number % len(_KINDS)]
    year, month, day = 2000 + int(rng.integers(25)), 1 + int(rng.integers(12)), 1 + int(rng.integers(28))
    name = f"/photos/{year}/{month:02}-trip{rng.integers(40)}/IMG_{number:08}.{_ENDINGS[kind][number % 2]}"
    has_place, has_date = rng.random() < 0.6, rng.random() < 0.9
    return {
        "id": number,
        "kind": kind,
        "path": name.encode(),
        "bytes": int(rng.integers(10**5, 10**7)),
        "mtime": 10**9 * int(rng.integers(10**9, 17 * 10**8)),
        "taken": f"{year}-{month:02}-{day:02}T{rng.integers(24):02}:30:00" if has_date else None,
        "latitude": float(rng.uniform(-60, 70)) if has_place else None,
        "longitude": float(rng.uniform(-180, 180)) if has_place else None,
        "camera": _CAMERAS[int(rng.integers(len(_CAMERAS)))],
        "width": None if kind == "audio" else 4000,
        "height": None if kind == "audio" else 1000 + int(rng.integers(3000)),
        "duration": None if kind == "image" else float(rng.uniform(1, 600)),
    }


def filters() -> Iterator[tuple[str, list[str]]]:
    """Yield the kinds of filters, each with several of a kind."""
    turns = range(9)
    yield "kind", ["kind:video", "kind:image", "kind:audio", "-kind:video", "-kind:image", "-kind:audio"]
    yield "date", [f"after:{2001 + n}-06 before:{2003 + n}" for n in turns]
    yield "folder", [f"under:{2001 + n}" for n in turns]
    yield "trip", [f"under:trip{n}" for n in turns]
    yield "name *.heic", [f"name:*{n}.heic" for n in turns]
    yield "name IMG_0…*", [f"name:img_00{n}*" for n in turns]
    yield "name *…*", [f"name:*{n}{n}1*" for n in turns]
    yield "camera", ["camera:pixel", "camera:apple", "camera:canon", "camera:nikon", "-camera:pixel", "-camera:canon"]
    yield "near", [f"near:{40 + n},{10 + n},500km" for n in turns]
    yield "longer", [f"longer:{60 * (n + 1)}" for n in turns]
    yield "larger", [f"larger:{n + 1}MB" for n in turns]
    yield "all of these", [f"under:20* (after:{2003 + n} or camera:pixel) -near:45,10,900km larger:1MB" for n in turns]
    yield "one in a million", [f"name:img_{123456 + 7 * n:08}.*" for n in turns]


def main() -> None:
    """Make the library where there is none, and print a line for each kind of filter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    if not options.folder.exists():
        make(options.folder, options.rows)
    with mmsearch.open(options.folder) as library:
        seen = library.seen()
        seen.indexes.catch_up(seen.profile)
        for _ in range(3):
            library.query("a red car")
        for name, texts in filters():
            with_s, without_s = [], []
            for text in texts:
                chosen = mmsearch.Filter.parse(text)
                without_s.append(_timed(library, None))
                with_s.append(_timed(library, chosen))
            medians = statistics.median(with_s[1:]), statistics.median(without_s[1:])
            print(
                f"{name:<18} first {1000 * with_s[0]:6.0f} ms, then {1000 * medians[0]:6.0f} ms, "
                f"without {1000 * medians[1]:6.0f} ms, ratio {medians[0] / medians[1]:.2f}"
            )


def _timed(library: mmsearch.Library, chosen: mmsearch.Filter | None) -> float:
    began = time.perf_counter()
    library.query("a red car", filter=chosen)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
