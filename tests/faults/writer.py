"""Changes media and the library that holds them until its standard input ends: `python writer.py LIBRARY MEDIA`."""

from __future__ import annotations

import json
import random
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.media_maker import COLOURS, encoded, plain, put

import mmsearch
from mmsearch import Settings

WORDS = ("lighthouse", "harbour", "tractor", "violin", "pumpkin", "glacier", "lantern", "bicycle", "parrot", "castle")
FEWEST, MOST = 20, 60
PAUSE_S = 0.3


def write(media: Path, number: int, chance: random.Random) -> None:
    """Write a picture or a note."""
    if number % 2:
        colour = chance.choice(list(COLOURS.values()))
        put(media, f"{number}.png", encoded(plain(colour, 16 + number % 40, 16), "PNG"))
    else:
        put(media, f"{number}.txt", " ".join(chance.sample(WORDS, 4)) + f" {number}")


def main() -> None:
    """Add, change, remove and forget files, and print how many runs there were."""
    library_folder, media = map(Path, sys.argv[1:])
    chance, runs, number = random.Random(7), 0, 10_000
    with mmsearch.open(library_folder, settings=Settings(workers=1)) as library:
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            files = sorted(media.iterdir())
            what = chance.choice(("add", "change", "remove", "forget"))
            if (what == "add" and len(files) < MOST) or len(files) < FEWEST:
                for _ in range(chance.randint(1, 5)):
                    number += 1
                    write(media, number, chance)
            elif what == "change":
                file = chance.choice(files)
                write(media, int(file.stem), chance)
            elif what == "remove":
                for file in chance.sample(files, 3):
                    file.unlink()
            elif what == "forget":
                file = chance.choice(files)
                library.forget(file)
                file.unlink()
            library.index(media)
            runs += 1
    sys.stdout.write(json.dumps({"runs": runs}) + "\n")


if __name__ == "__main__":
    main()
