"""Measure speed and memory of indexing a long video: a synthetic film in 1080p with sound.

    python benchmarks/video.py [--minutes 60] [--clean] [--model mini] [--workers N]

One minute is drawn (ten scenes with a slow pan, film grain, and noise as sound) and encoded as by cameras and editors:
H.264 at 25 frames per second, a key frame at least every 10 s, about 8 Mbit/s, AAC. Without grain (`--clean`), as in
animated films and screen recordings, it has a tenth of the bits and is decoded faster. The film repeats that minute,
without encoding it again. The command runs as a user starts it; memory is summed over all its processes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from speed import timed

WIDTH, HEIGHT, FPS = 1920, 1080, 25
SCENES, SCENE_S = 10, 6
RATE_HZ = 48_000
TURN_S = Fraction(301, 5)
"""Distance between two copies of the minute: time stamps must increase, and a codec's first ones are negative."""


def _scene(seed: int) -> NDArray[np.int16]:
    """Draw a picture a little larger than a frame."""
    draw = np.random.default_rng(seed)
    picture = Image.new("RGB", (WIDTH + 200, HEIGHT + 120), tuple(draw.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(picture)
    for _ in range(60):
        x, y, size = (int(n) for n in draw.integers(0, (WIDTH, HEIGHT, 400)))
        pen.ellipse((x, y, x + size, y + size), fill=tuple(draw.integers(0, 256, 3).tolist()))
    return np.asarray(picture, np.int16)


def make_minute(file: Path, *, clean: bool) -> None:
    """Encode a minute of scenes."""
    draw = np.random.default_rng(0)
    most = 0 if clean else 12
    grain = [draw.integers(-most, most + 1, (HEIGHT, WIDTH, 1), dtype=np.int16) for _ in range(5)]
    with av.open(str(file), "w") as container:
        rate = {"crf": "23"} if clean else {"b": "8M", "maxrate": "10M", "bufsize": "16M"}
        options = {"preset": "veryfast", **rate}
        pictures = container.add_stream("libx264", rate=FPS, options=options)
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=RATE_HZ, layout="stereo")
        for scene in range(SCENES):
            wide = _scene(scene)
            for n in range(SCENE_S * FPS):
                x, y = n, n // 2
                view = np.clip(wide[y : y + HEIGHT, x : x + WIDTH] + grain[n % 5], 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(view, format="rgb24")
                frame.pts = scene * SCENE_S * FPS + n
                container.mux(pictures.encode(frame))
                noise = draw.normal(0, 0.05, (2, RATE_HZ // FPS)).astype(np.float32)
                samples = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
                samples.sample_rate, samples.pts = RATE_HZ, frame.pts * (RATE_HZ // FPS)
                container.mux(sound.encode(samples))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))


def repeat(minute: Path, file: Path, times: int) -> None:
    """Copy the packets of a minute `times` times, one copy after the other."""
    with av.open(str(minute)) as source, av.open(str(file), "w") as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for turn in range(times):
            source.seek(0)
            for packet in source.demux():
                if packet.dts is None or packet.pts is None or packet.time_base is None:
                    continue
                later = round(turn * TURN_S / packet.time_base)
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
                packet.stream = copies[packet.stream.index]
                container.mux(packet)


def main() -> None:
    """Make the film, index it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--clean", action="store_true", help="without film grain")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, minute = Path(name, "media"), Path(name, "minute.mp4")
        folder.mkdir()
        make_minute(minute, clean=arguments.clean)
        repeat(minute, folder / "film.mp4", arguments.minutes)
        size = (folder / "film.mp4").stat().st_size
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        length_s = float(TURN_S * arguments.minutes)
        bit_rate = size * 8 / (1e6 * length_s)
        print(f"{arguments.minutes} minutes of {WIDTH} x {HEIGHT}, {bit_rate:.1f} Mbit/s, {cores} cores", flush=True)
        options = ["--workers", str(arguments.workers)] if arguments.workers else []
        command = ["index", str(folder), "--model", arguments.model, *options]
        seconds, peak = timed(command, Path(name, "library"), memory=True)
        print(f"index {seconds:.1f} s, {length_s / seconds:.1f} x real time, peak {peak:,.0f} MB")


if __name__ == "__main__":
    main()
