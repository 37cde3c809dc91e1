"""Make the sounds and clips in `data/samples`: sounds are synthesised, clips pan over its photos with these sounds.

python docs/make_samples.py
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from av.container import OutputContainer
from numpy.typing import NDArray
from PIL import Image

Wave = NDArray[np.float64]
Rng = np.random.Generator
Sound = Callable[[Rng, int], Wave]
"""Takes a length in samples; returns the sound at any loudness."""

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
RATE, FPS, SIZE = 24_000, 25, (360, 240)
HUSH = ((50, 0), (500, -6), (4000, -18), (8000, -25))
"""The spectrum of a quiet place, as (Hz, dB)."""
VOWELS = np.array([(730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410), (300, 870, 2240)])
"""Three formants each, in Hz, of a man's voice (Peterson and Barney, 1952)."""


def level(wave: Wave) -> Wave:
    """Return the wave at a standard deviation of 1."""
    return wave / wave.std()


def noise(rng: Rng, size: int, *curve: tuple[float, float]) -> Wave:
    """Return noise of a spectrum given by (Hz, dB) points."""
    hz = np.fft.rfftfreq(size, 1 / RATE)
    gain_db = np.interp(np.log(hz + 1), np.log([at for at, _ in curve]), [gain for _, gain in curve])
    return level(np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * 10 ** (gain_db / 20), size))


def hits(size: int, times_s: Wave, gains: Wave | float = 1.0) -> Wave:
    """Return impulses; those outside the wave are left out."""
    at, out = (times_s * RATE).astype(int), np.zeros(size)
    inside = (at >= 0) & (at < size)
    np.add.at(out, at[inside], np.broadcast_to(gains, at.shape)[inside])
    return out


def ring(struck: Wave, *modes: tuple[float, float, float]) -> Wave:
    """Return what impulses set ringing: damped sines, as (Hz, decay in s, gain)."""
    t = np.arange(int(RATE * 5 * max(decay for _, decay, _ in modes))) / RATE
    tail = np.sum([gain * np.sin(2 * np.pi * hz * t) * np.exp(-t / decay) for hz, decay, gain in modes], axis=0)
    size = len(struck) + len(t)
    return np.fft.irfft(np.fft.rfft(struck, size) * np.fft.rfft(tail, size), size)[: len(struck)]


def drift(rng: Rng, size: int, hz: float, depth: float) -> Wave:
    """Return a smooth random curve around 0 that changes about `hz` times a second."""
    x = np.arange(size) / RATE * hz
    points, before, part = rng.standard_normal(int(x[-1]) + 2), x.astype(int), (1 - np.cos(np.pi * (x % 1))) / 2
    return depth * (points[before] * (1 - part) + points[before + 1] * part)


def bump(size: int, start_s: float, length_s: float, attack: float = 0.2, power: float = 1.0) -> Wave:
    """Return an envelope that rises for a share `attack` of its length, then falls; 0 outside."""
    x = (np.arange(size) / RATE - start_s) / length_s
    rise, fall = np.clip(x / attack, 0, 1), np.clip((x - attack) / (1 - attack), 0, 1)
    return np.where((x > 0) & (x < 1), np.sin(np.pi / 2 * rise) * np.maximum(np.cos(np.pi / 2 * fall), 0), 0) ** power


def tone(pitch: Wave, *formants: tuple[Wave | float, float, float], floor: float, tilt: float) -> Wave:
    """Return the harmonics of a pitch curve, coloured by formants (Hz, width in Hz, gain), falling with `tilt`."""
    phase, out = 2 * np.pi * np.cumsum(pitch) / RATE, np.zeros(len(pitch))
    for number in range(1, int(8000 / pitch.min()) + 1):
        hz = number * pitch
        gain = floor + sum(peak / (1 + ((hz - centre) / width) ** 2) for centre, width, peak in formants)
        out += np.where(hz < 8000, gain, 0) * np.sin(number * phase) / number**tilt
    return level(out)


def echoed(wave: Wave, *echoes: tuple[float, float]) -> Wave:
    """Return the wave with its echoes, as (delay in s, gain)."""
    return wave + sum(gain * np.pad(wave, (int(late * RATE), 0))[: len(wave)] for late, gain in echoes)


def curve(size: int, *points: tuple[float, float]) -> Wave:
    """Return straight lines through (s, value)."""
    return np.interp(np.arange(size) / RATE, [at for at, _ in points], [value for _, value in points])


def rain(rng: Rng, size: int) -> Wave:
    """Return rain on leaves and stone: a hiss, and drops that ring."""
    out = noise(rng, size, (80, -30), (400, -12), (1500, 0), (6000, 2), (11000, -6))
    out *= 1 + drift(rng, size, 2, 0.06)
    for hz in rng.uniform(1200, 8000, 14):
        count = int(size / RATE * rng.uniform(15, 45))
        drops = hits(size, rng.uniform(0, size / RATE, count), rng.pareto(2.5, count) + 0.1)
        out += rng.uniform(0.15, 0.4) * level(ring(drops, (hz, rng.uniform(0.0015, 0.006), 1), (hz * 1.6, 0.002, 0.5)))
    return out


def siren(rng: Rng, size: int) -> Wave:
    """Return a siren that wails between houses."""
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / RATE / 3.6)
    wail = tone(560 + 820 * swing**0.8, (1200, 900, 1), (2900, 600, 0.5), floor=0.05, tilt=0.6)
    return echoed(wail, (0.071, 0.35), (0.133, 0.25), (0.217, 0.18)) + 0.12 * noise(rng, size, *HUSH)


def clock(rng: Rng, size: int) -> Wave:
    """Return a wall clock: tick and tock, once a second each."""
    out = 0.004 * noise(rng, size, *HUSH)
    tick = ((2350, 0.006, 1), (3900, 0.004, 0.8), (6100, 0.002, 0.6), (700, 0.010, 0.25))
    tock = ((1900, 0.007, 0.9), (3300, 0.004, 0.7), (5400, 0.003, 0.4), (560, 0.012, 0.3))
    for first_s, modes in ((0.1, tick), (0.6, tock)):
        times = np.arange(first_s, size / RATE, 1.0)
        for late, gain in ((0, 1), (0.011, 0.35), (0.028, 0.2)):  # the teeth of the escapement
            out += ring(hits(size, times + late, gain * rng.uniform(0.9, 1.1, len(times))), *modes)
    return out


def strokes(rng: Rng, size: int, hz: float, jitter: float, pattern: tuple[float, ...]) -> tuple[Wave, Wave]:
    """Return strokes of about this rate, and an envelope (0 to 1) that each of them starts."""
    times = np.cumsum(rng.normal(1 / hz, jitter / hz, int(size / RATE * hz * 1.2) + 9))
    struck = hits(size, times, np.resize(pattern, len(times)) * rng.normal(1, 0.08, len(times)))
    swell = np.abs(ring(struck, (8, 0.02, 1)))
    return struck, swell / swell.max()


def engine(rng: Rng, size: int) -> Wave:
    """Return a car engine of four unequal cylinders, idling."""
    struck, swell = strokes(rng, size, 17, 0.045, (1, 0.82, 0.93, 0.74))
    puffs = ring(struck, (48, 0.03, 1), (96, 0.02, 0.9), (175, 0.012, 0.8), (320, 0.008, 0.7), (610, 0.004, 0.33))
    clatter = ring(np.roll(struck, 288), (1450, 0.003, 0.6), (2600, 0.002, 0.5), (4200, 0.0015, 0.3))
    air = noise(rng, size, (60, 0), (300, 0), (1500, -8), (5000, -20), (11000, -30))
    return level(puffs) + 0.45 * level(clatter) + 0.42 * air * (0.12 + swell)


def jackhammer(rng: Rng, size: int) -> Wave:
    """Return a jackhammer on concrete."""
    struck, swell = strokes(rng, size, 10.5, 0.034, (1,))
    modes = ((85, 0.012, 1.2), (230, 0.008, 1), (760, 0.006, 0.9), (1480, 0.006, 1), (2750, 0.005, 0.9))
    rubble = noise(rng, size, (100, -10), (800, 0), (4000, -2), (10000, -10))
    air = noise(rng, size, (60, 0), (2000, -8), (10000, -20))
    return level(ring(struck, *modes, (4100, 0.004, 0.6), (6300, 0.003, 0.4))) + 1.9 * swell * rubble + 0.33 * air


def speaker(rng: Rng, size: int, pitch_hz: float, scale: float) -> Wave:
    """Return one voice: phrases of syllables, each with a vowel of its own, some begun with a hiss."""
    knots, loudness, hiss = [(0.0, VOWELS[0])], [(0.0, 0.0)], np.zeros(size)
    t = rng.uniform(0, 0.4)
    while t < size / RATE:
        for _ in range(rng.integers(5, 12)):
            lasts, vowel, gain = rng.uniform(0.12, 0.26), VOWELS[rng.integers(len(VOWELS))] * scale, rng.uniform(0.5, 1)
            knots += [(t + 0.3 * lasts, vowel), (t + 0.7 * lasts, vowel)]
            loudness += [(t, 0.02), (t + 0.25 * lasts, gain), (t + 0.7 * lasts, 0.8 * gain), (t + 0.95 * lasts, 0.03)]
            if rng.random() < 0.4:
                hiss += rng.uniform(0.2, 0.7) * bump(size, t - 0.06, rng.uniform(0.05, 0.1), 0.4)
            t += lasts
        loudness.append((t, 0))
        t += rng.uniform(0.2, 0.6)
    first, second, third = (curve(size, *((at, float(vowel[k])) for at, vowel in knots)) for k in range(3))
    pitch = pitch_hz * np.exp(drift(rng, size, 3, 0.12) + drift(rng, size, 30, 0.012))
    formants = ((first, 70, 1), (second, 100, 0.6), (third, 150, 0.3), (3600 * scale, 250, 0.15))
    voiced = tone(pitch, *formants, floor=0.002, tilt=0.5)
    fricative = noise(rng, size, (500, -40), (2500, -12), (5000, 0), (9000, -3))
    return level(voiced * curve(size, *loudness)) + 0.25 * hiss * fricative


def babble(rng: Rng, size: int) -> Wave:
    """Return people who talk at once in a room."""
    people = ((115, 1, 1), (205, 1.15, 0.9), (98, 0.97, 0.7), (180, 1.12, 0.6))
    voices = np.sum([gain * speaker(rng, size, pitch_hz, scale) for pitch_hz, scale, gain in people], axis=0)
    return level(echoed(voices, (0.031, 0.3), (0.057, 0.3), (0.083, 0.3))) + 0.03 * noise(rng, size, *HUSH)


def dog(rng: Rng, size: int) -> Wave:
    """Return a dog that barks in a yard."""
    out, t = 0.003 * noise(rng, size, *HUSH), 0.25
    while t < size / RATE - 0.4:
        lasts = rng.uniform(0.16, 0.22)
        glide = curve(size, (t, 420), (t + 0.3 * lasts, 720), (t + lasts, 380)) * rng.uniform(0.93, 1.07)
        pitch = glide * np.exp(drift(rng, size, 120, 0.05))
        voiced = tone(pitch, (900, 350, 1), (1700, 400, 0.8), (3000, 600, 0.3), floor=0.05, tilt=0.4)
        breath = noise(rng, size, (200, -20), (900, 0), (2500, -2), (8000, -18))
        out += (voiced + 0.5 * breath) * bump(size, t, lasts, 0.18)
        t += rng.choice([0.38, 0.45, 0.9])
    return echoed(out, (0.06, 0.15))


def rooster(rng: Rng, size: int) -> Wave:
    """Return a rooster that crows."""
    out = 0.003 * noise(rng, size, *HUSH)
    for t in np.arange(0.3, size / RATE - 1.9, 2.9):
        steps = ((0, 480), (0.12, 560), (0.3, 520), (0.45, 760), (0.6, 800), (0.8, 950), (1.3, 900), (1.8, 520))
        pitch = curve(size, *((t + at, hz) for at, hz in steps)) * np.exp(drift(rng, size, 60, 0.02))
        syllables = ((0, 0.18, 0.7), (0.22, 0.18, 0.8), (0.44, 0.26, 1), (0.72, 1.15, 1.1))
        envelope = np.sum([gain * bump(size, t + at, lasts) for at, lasts, gain in syllables], axis=0)
        voiced = tone(pitch, (1500, 500, 1), (2800, 700, 0.8), (4500, 800, 0.3), floor=0.08, tilt=0.3)
        rough = voiced * (1 + drift(rng, size, 90, 0.25))
        out += envelope * (rough + 0.1 * noise(rng, size, (500, -20), (2500, 0), (8000, -10)))
    return out


def fire(rng: Rng, size: int) -> Wave:
    """Return a wood fire: a low roar, and crackles."""
    out = 0.05 * noise(rng, size, (40, 0), (200, -3), (1000, -16), (8000, -28)) * (1 + drift(rng, size, 4, 0.2))
    for hz in rng.uniform(1500, 7000, 10):
        count = int(size / RATE * rng.uniform(3, 9))
        gains = 0.12 * rng.pareto(1.6, count).clip(0, 10) + 0.03
        cracks = hits(size, rng.uniform(0, size / RATE, count), gains)
        out += ring(cracks, (hz, rng.uniform(0.0008, 0.003), 1), (hz * 0.37, 0.002, 0.5))
    return out


def waves(rng: Rng, size: int) -> Wave:
    """Return waves that break on a beach."""
    out = 0.18 * noise(rng, size, (40, 0), (300, -3), (2000, -15), (10000, -30))
    for t in np.arange(-2, size / RATE, 5.6):
        swell = bump(size, t + rng.uniform(-0.3, 0.3), 5.6, 0.35, 1.5)
        out += 1.1 * swell * noise(rng, size, (40, -6), (200, 0), (800, -4), (3000, -14), (10000, -26))
        out += 0.16 * swell**2 * noise(rng, size, (300, -20), (1500, -3), (4000, 0), (10000, -8))
    return out


def music(rng: Rng, size: int) -> Wave:
    """Return plucked strings over four chords, with a drum."""
    beat_s, chords, out = 0.3, ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)), np.zeros(size)
    for i in range(int(size / RATE / beat_s)):
        chord, start = chords[i // 8 % 4], int(i * beat_s * RATE)
        notes = [(64 + chord[rng.integers(3)] + 12 * (rng.random() < 0.3), 1.0)]
        notes += [(40 + chord[0], 1.0)] if i % 2 == 0 else [(52 + step, 0.35) for step in chord]
        t = np.arange(size - start) / RATE
        for note, gain in notes:
            hz = 440 * 2 ** ((note - 69) / 12)
            out[start:] += gain * sum(np.sin(2 * np.pi * hz * k * t) * np.exp(-t * (2.5 + k)) / k for k in range(1, 9))
    beats = np.arange(0, size / RATE, beat_s)
    return level(out) + 0.6 * level(ring(hits(size, beats, np.resize([1, 0.3, 0.6, 0.3], len(beats))), (90, 0.06, 1)))


def silence(_: Rng, size: int) -> Wave:
    """Return no sound at all."""
    return np.zeros(size)


SOUNDS: dict[str, tuple[Sound, float]] = {
    "babble.opus": (babble, 7),
    "clock.flac": (clock, 5),
    "dog.ogg": (dog, 4),
    "engine.m4a": (engine, 6),
    "fire.mp3": (fire, 6),
    "jackhammer.opus": (jackhammer, 5),
    "music.m4a": (music, 8),
    "rain.ogg": (rain, 7),
    "rooster.mp3": (rooster, 6),
    "siren.mp3": (siren, 8),
    "waves.ogg": (waves, 8),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A photo for some seconds, with a sound; the picture moves towards `focus` (0 to 1 from the upper left)."""

    photo: str
    seconds: float
    sound: Sound
    focus: tuple[float, float]
    says: str = ""


CLIPS: dict[str, list[Scene]] = {
    "animals.mp4": [
        Scene("tiger.jpg", 5, rain, (0.45, 0.3)),
        Scene("hens.jpg", 4.2, rooster, (0.4, 0.5)),
        Scene("sheep.jpg", 4.8, dog, (0.5, 0.3)),
    ],
    "city.mkv": [
        Scene("skyline.jpg", 5, jackhammer, (0.75, 0.5), "On the building site, work begins early."),
        Scene("bridge.jpg", 5.4, siren, (0.4, 0.4), "At night, an ambulance crosses the river."),
        Scene("eiffel_tower.jpg", 4.6, babble, (0.5, 0.2), "Visitors wait below the tower."),
    ],
    "concert.webm": [Scene("orchestra.jpg", 5, babble, (0.5, 0.6)), Scene("mariachi.jpg", 6, music, (0.7, 0.6))],
    "holiday.mp4": [
        Scene("room.jpg", 5, clock, (0.6, 0.6)),
        Scene("sunset.jpg", 6.4, waves, (0.6, 0.5)),
        Scene("coffee.jpg", 3.6, babble, (0.45, 0.4)),
    ],
    "launch.mp4": [
        Scene("rocket.jpg", 5, engine, (0.5, 0.6), "Two hours to go: the tanks are being filled."),
        Scene("astronaut.jpg", 5, babble, (0.4, 0.1), "The commander takes a last question from the press."),
        Scene("earth.png", 4, silence, (0.5, 0.5), "And then there is only the blue planet, and silence."),
    ],
}
"""What is said becomes subtitles: inside a Matroska file, else in a file beside the clip."""

AUDIO = {".opus": "libopus", ".webm": "libopus", ".mp3": "libmp3lame", ".flac": "flac"}
VIDEO = {  # x264's mbtree depends on what lies in memory behind a row of blocks: two runs would differ
    "libx264": {"crf": "30", "preset": "veryslow", "mbtree": "0", "g": "75", "flags": "+bitexact"},
    "libvpx-vp9": {"crf": "47", "b": "0", "cpu-used": "2", "g": "75", "flags": "+bitexact"},
}


def play(sound: Sound, seed: str, seconds: float) -> Wave:
    """Return a sound in [-1, 1], the same for the same seed, without a click at its ends."""
    size = round(seconds * RATE)
    wave = sound(np.random.default_rng(list(seed.encode())), size)
    wave *= 0.8 / max(np.abs(wave).max(), 1e-9)
    return wave * curve(size, (0, 0), (0.02, 1), (seconds - 0.02, 1), (seconds, 0))


def show(scene: Scene) -> Iterator[av.VideoFrame]:
    """Yield the frames of a scene: the photo cut to the clip's shape, slowly growing."""
    photo = Image.open(SAMPLES / "photos" / scene.photo).convert("RGB")
    whole, focus, count = np.array(photo.size), np.array(scene.focus), round(scene.seconds * FPS)
    most = min(whole / SIZE)
    for part in np.arange(count) / count:
        shown = np.array(SIZE) * most * (0.999 - 0.18 * part)
        corner = np.clip((0.5 + part * (focus - 0.5)) * whole - shown / 2, 0, whole - shown)
        picture = photo.resize(SIZE, Image.Resampling.BICUBIC, box=(*corner, *(corner + shown)))
        yield av.VideoFrame.from_image(picture)


def subtitles(scenes: list[Scene]) -> str:
    """Return the text of an .srt: what each scene says, from half a second after its cut to half a second before."""
    lines, cut_s = [], 0.0
    for number, scene in enumerate(scenes, 1):
        start, end = (f"00:00:{at:06.3f}".replace(".", ",") for at in (cut_s + 0.5, cut_s + scene.seconds - 0.5))
        lines.append(f"{number}\n{start} --> {end}\n{scene.says}\n")
        cut_s += scene.seconds
    return "\n".join(lines)


def copied(out: OutputContainer, file: io.BytesIO, kind: str) -> list[av.Packet]:
    """Return the packets of the one stream in a file, as a new stream of `out`."""
    with av.open(file, format=kind) as source:
        stream = out.add_stream_from_template(source.streams[0])
        packets = [packet for packet in source.demux() if packet.dts is not None]
    for packet in packets:
        packet.stream = stream
    return packets


def heard(out: OutputContainer, suffix: str, wave: Wave) -> list[av.Packet]:
    """Encode a wave as a new stream of `out`."""
    if suffix == ".ogg":  # the encoder packs it with a random number in each page; packed again, it has none
        file = io.BytesIO()
        soundfile.write(file, wave, RATE, format="OGG", subtype="VORBIS", compression_level=0.7)
        file.seek(0)
        return copied(out, file, "ogg")
    stream = out.add_stream(AUDIO.get(suffix, "aac"), RATE, layout="mono", options={"flags": "+bitexact"})
    if suffix != ".flac":
        stream.bit_rate = 40_000
    frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], "s16", "mono")
    frame.sample_rate = RATE
    return [*stream.encode(frame), *stream.encode(None)]


def seen(out: OutputContainer, suffix: str, scenes: list[Scene]) -> list[av.Packet]:
    """Encode scenes as a new stream of `out`."""
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    stream = out.add_stream(codec, FPS, options=VIDEO[codec])
    stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
    stream.codec_context.thread_count = 1
    return [p for scene in scenes for frame in show(scene) for p in stream.encode(frame)] + stream.encode(None)


def write(file: Path, wave: Wave, scenes: list[Scene]) -> None:
    """Encode and interleave; without times, random numbers or threads, so that each run writes the same bytes."""
    with av.open(file, "w", options={"fflags": "+bitexact"}) as out:
        packets = seen(out, file.suffix, scenes) if scenes else []
        packets += heard(out, file.suffix, wave)
        if scenes and scenes[0].says:
            if file.suffix == ".mkv":
                packets += copied(out, io.BytesIO(subtitles(scenes).encode()), "srt")
            else:
                file.with_suffix(".srt").write_text(subtitles(scenes), encoding="utf-8")
        # FLAC's last packet has no time: it only carries the digest for the header.
        out.mux(sorted(packets, key=lambda packet: math.inf if packet.dts is None else packet.dts * packet.time_base))


def main() -> None:
    """Write every sound and every clip."""
    for folder in ("sounds", "clips"):
        (SAMPLES / folder).mkdir(exist_ok=True)
    for name, (sound, seconds) in SOUNDS.items():
        write(SAMPLES / "sounds" / name, play(sound, name, seconds), [])
    for name, scenes in CLIPS.items():
        wave = np.concatenate([play(scene.sound, name + scene.photo, scene.seconds) for scene in scenes])
        write(SAMPLES / "clips" / name, wave, scenes)


if __name__ == "__main__":
    main()
