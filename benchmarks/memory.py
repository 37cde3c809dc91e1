"""Measure the peak memory of index runs and queries over files that are made to need much memory.

    python benchmarks/memory.py [--workers 8] [--keep DIR]

Every command runs in a separate process, as a user starts it. Memory is sampled every 10 ms (Linux only): the sum of
the private memory of the process and its children, plus the largest file mapping of one process, since the others share
it. This approximates the proportional set size, which takes too long to read while memory use changes quickly.

The files are small: pictures that unpack to a hundred megabytes and more, clips with large frames, sounds with many
channels, long texts.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from speed import MMSEARCH, family

SAMPLE_S, SLOW_S = 0.01, 0.03
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}


def png(width: int, height: int, colour_type: int, depth: int = 8) -> bytes:
    """Return a black picture, which deflate compresses about a thousand times."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = bytes(1 + width * CHANNELS[colour_type] * depth // 8)
    packer = zlib.compressobj(9)
    body = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def make_pictures(folder: Path) -> None:
    """Make 9 MB of pictures; different last bytes give each its own hash."""
    bodies = [png(15_800, 15_800, RGB), png(15_800, 15_800, RGBA), png(12_000, 12_000, GREY, 16)]
    bodies += [png(10_000, 10_000, RGB), png(8_000, 8_000, GREY_ALPHA), png(6_000, 6_000, RGB)]
    number = 0
    while sum(file.stat().st_size for file in folder.iterdir()) < 9_000_000:
        for body in bodies:
            (folder / f"{number:03d}.png").write_bytes(body + b"%d" % number)
            number += 1


def make_clips(folder: Path) -> None:
    """Make clips with large frames: short ones, which one thread decodes, and a long one, which several decode."""
    for number, (width, height, seconds) in enumerate([(7_680, 4_320, 2), (7_680, 4_320, 3), (3_840, 2_160, 70)]):
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast", "crf": "40", "g": "9"})
            stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "yuv420p", Fraction(1, 1)
            for time_s in range(seconds):
                pixels = np.full((height, width, 3), (time_s * 37 % 256, number * 80, 99), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))


def make_sounds(folder: Path) -> None:
    """Make sounds with many channels or a high sample rate."""
    for number, (channels, rate_hz) in enumerate([(8, 96_000), (8, 192_000), (2, 384_000), (1, 655_350)]):
        samples = np.random.default_rng(number).normal(0, 0.001, (rate_hz * 60, channels)).astype(np.float32)
        soundfile.write(folder / f"{number}.flac", np.round(samples, 3), rate_hz, subtype="PCM_16")


def make_texts(folder: Path) -> None:
    """Make texts that nearly reach the limits of bytes and of passages."""
    for number in range(8):
        (folder / f"{number}.txt").write_bytes(b"%d word " % number * (31 * 2**20 // 7))
        (folder / f"many-{number}.txt").write_bytes((b"%d stops here.\n\n" % number) * 19_000)


def used_mb(process_id: int) -> float:
    """Return the memory of a process and its descendants, in MB."""
    private, mapped = 0, 0
    for member in family(process_id):
        try:
            _, resident, shared, *_ = map(int, Path(f"/proc/{member}/statm").read_text().split())
        except (OSError, ValueError):
            continue
        private, mapped = private + resident - shared, max(mapped, shared)
    return (private + mapped) * PAGE_BYTES / 1e6


def peak_of(command: list[str]) -> tuple[int, float, float]:
    """Run a command; return its exit code, its duration in seconds and its peak memory in MB."""
    began, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([*MMSEARCH, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        sampled = time.perf_counter()
        total = used_mb(process.pid)
        # A slow sample would add memory that two processes used at different times.
        if time.perf_counter() - sampled < SLOW_S:
            peak = max(peak, total)
        time.sleep(SAMPLE_S)
    return process.returncode, time.perf_counter() - began, peak


@contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    """Yield the named folder, or a temporary one."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main() -> None:
    """Make the files, run the commands, print their peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="Make the files here, or use those that are here.")
    parser.add_argument("--only", choices=["pictures", "clips", "sounds", "texts", "queries"], default=None)
    arguments = parser.parse_args()
    if sys.platform != "linux":
        raise SystemExit("this benchmark reads /proc, which exists only on Linux")
    makers: dict[str, Callable[[Path], None]] = {
        "pictures": make_pictures,
        "clips": make_clips,
        "sounds": make_sounds,
        "texts": make_texts,
    }
    with folder_for(arguments.keep) as folder, tempfile.TemporaryDirectory() as libraries:
        for kind, make in makers.items():
            media = folder / kind
            if not media.is_dir():
                media.mkdir()
                make(media)
            if arguments.only not in (None, kind):
                continue
            size = sum(file.stat().st_size for file in media.iterdir()) / 1e6
            command = ["index", str(media), "--library", f"{libraries}/{kind}", "--model", "mini"]
            code, seconds, peak = peak_of([*command, "--workers", str(arguments.workers)])
            print(
                f"index {kind:<9} {arguments.workers} workers, {size:6.1f} MB of files: "
                f"exit {code}, {seconds:6.1f} s, peak {peak:6,.0f} MB",
                flush=True,
            )
        if arguments.only not in (None, "queries"):
            return
        library = f"{libraries}/asked"
        peak_of(["index", str(folder / "pictures" / "005.png"), "--library", library, "--model", "mini"])
        for file in [
            *sorted((folder / "pictures").iterdir())[:6],
            *(sorted((folder / k).iterdir())[0] for k in makers),
        ]:
            code, seconds, peak = peak_of(["query", str(file), "--library", library])
            name = f"{file.parent.name}/{file.name}"
            size = file.stat().st_size / 1e6
            print(f"query {name:<17} {size:6.1f} MB: exit {code}, {seconds:6.1f} s, peak {peak:6,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
