"""Asks one Library many queries and prints its memory and open files on the way: `python life.py FOLDER COUNT`.

It prints one JSON object: {"queries", "seconds", "marks": [[queries, bytes in memory, open files], …]}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.media_maker import COLOURS, encoded, plain, put
from usage import descriptors, resident

import mmsearch
from mmsearch import Settings

MARKS = 20
WARM_UP = 110
"""Queries before the first mark: caches fill, and libraries are loaded."""
FILE_EVERY = 100
"""Every so often a picture is asked with."""


def main() -> None:
    """Live, and print what it took."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    media = folder / "media"
    for name, value in COLOURS.items():
        put(media, f"{name}.png", encoded(plain(value), "PNG"))
    put(media, "many.txt", "\n\n".join(f"Note {number}." for number in range(110)))  # enough for confidence
    marks = []
    with mmsearch.open(folder / "library", model="hashing", settings=Settings(workers=1)) as library:
        library.index(media)
        began = time.monotonic()
        for number in range(count + WARM_UP):
            if number >= WARM_UP and (number - WARM_UP) % max(1, count // MARKS) == 0:
                marks.append([number - WARM_UP, resident(), descriptors()])
            kinds = {"image"} if number % 10 else None
            item = media / "red.png" if number % FILE_EVERY == FILE_EVERY - 1 else f"a red note {number}"
            library.query(item, k=3, modalities=kinds)
        marks.append([count, resident(), descriptors()])
        seconds = time.monotonic() - began
    sys.stdout.write(json.dumps({"queries": count, "seconds": round(seconds, 1), "marks": marks}) + "\n")


if __name__ == "__main__":
    main()
