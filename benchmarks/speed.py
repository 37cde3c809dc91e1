"""Measure speed and memory of the main commands on synthetic files: indexing, a run with nothing to do, a cold query.

    python benchmarks/speed.py [--photos 5000] [--passages 5000] [--photo-side 640] [--model mini]

Every command runs in a separate process, as a user starts it. Memory is the proportional set size, summed over the
process and its children and sampled every 50 ms (Linux only). Queries run several times; the median, minimum and
maximum are printed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path

from PIL import Image, ImageDraw

MMSEARCH = [sys.executable, "-m", "mmsearch"]
RUNS = 9
WORDS = [
    "river",
    "bridge",
    "night",
    "red",
    "car",
    "dog",
    "snow",
    "coffee",
    "garden",
    "rain",
    "street",
    "child",
    "piano",
]


def make_photos(folder: Path, count: int, side: int) -> None:
    """Draw distinct pictures of coloured shapes."""
    folder.mkdir(parents=True)
    draw_random = random.Random(0)
    for number in range(count):
        picture = Image.new("RGB", (side, side * 3 // 4), tuple(draw_random.choices(range(256), k=3)))
        pen = ImageDraw.Draw(picture)
        for _ in range(6):
            x, y = draw_random.randrange(side), draw_random.randrange(side)
            size = draw_random.randrange(4, side // 2)
            pen.ellipse((x, y, x + size, y + size), fill=tuple(draw_random.choices(range(256), k=3)))
        picture.save(folder / f"{number:06d}.jpg", quality=85)


def make_notes(folder: Path, passages: int) -> None:
    """Write notes of ten paragraphs each."""
    folder.mkdir(parents=True)
    choose = random.Random(0)
    for number in range(passages // 10):
        paragraphs = (" ".join(choose.choices(WORDS, k=30)) + "." for _ in range(10))
        (folder / f"{number:06d}.txt").write_text("\n\n".join(paragraphs))


def make_sound(file: Path) -> Path:
    """Write five seconds of noise."""
    samples = random.Random(0).randbytes(2 * 5 * 44_100)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(44_100)
        out.writeframes(samples)
    return file


def family(process_id: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    try:
        children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
        # Workers are started by a thread, so every thread's children count.
        for task in os.scandir(f"/proc/{process_id}/task"):
            children += Path(task.path, "children").read_text().split()
    except OSError:
        return [process_id]
    return [process_id, *(p for child in set(children) for p in family(int(child)))]


def _proportional_mb(process_id: int) -> float:
    total = 0
    for member in family(process_id):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total / 1024


def timed(arguments: list[str], library: Path, *, memory: bool = False) -> tuple[float, float]:
    """Run one command; return its duration in seconds and, with `memory`, its peak memory in MB (else 0)."""
    environment = {**os.environ, "MMSEARCH_LIBRARY": str(library)}
    began = time.perf_counter()
    process = subprocess.Popen([*MMSEARCH, *arguments], env=environment, stdout=subprocess.DEVNULL)
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _proportional_mb(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    if memory and sys.platform == "linux":
        watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - began
    done.set()
    if code not in (0, 1):
        raise SystemExit(f"{arguments} ended with {code}")
    return seconds, peak[0]


def main() -> None:
    """Make the files, run the commands, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=int, default=5_000)
    parser.add_argument("--passages", type=int, default=5_000)
    parser.add_argument("--photo-side", type=int, default=640)
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, library = Path(name, "media"), Path(name, "library")
        make_photos(folder / "photos", arguments.photos, arguments.photo_side)
        make_notes(folder / "notes", arguments.passages)
        files = arguments.photos + arguments.passages // 10
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        segments = arguments.photos + arguments.passages
        print(f"{files:,} files, {segments:,} segments, model {arguments.model}, {cores} cores")
        seconds, peak = timed(["index", str(folder), "--model", arguments.model], library, memory=True)
        print(f"index                {seconds:7.2f} s, {files / seconds:.0f} files/s, peak {peak:,.0f} MB")
        seconds, _ = timed(["index", str(folder)], library)
        print(f"index, nothing to do {seconds:7.2f} s")
        photo = str(folder / "photos" / "000000.jpg")
        sound = str(make_sound(Path(name, "query.wav")))
        queries = {
            "text": ["red car"],
            "image": [photo],
            "sound": [sound],
            "text, --in image": ["dog", "--in", "image"],
        }
        for label, query in queries.items():
            runs = [timed(["query", "--json", *query], library)[0] for _ in range(RUNS)]
            print(f"cold query, {label:<17} {statistics.median(runs):5.2f} s  ({min(runs):.2f} to {max(runs):.2f})")


if __name__ == "__main__":
    main()
