"""Sounds that are odd or broken, by name: what is in them, and what must become of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np

from support.clip_maker import (
    HIGH,
    LOW,
    MIDDLE,
    Tones,
    clip_bytes,
    cover,
    cut,
    id3,
    sound_bytes,
    spoiled,
    streamed_bytes,
    wave,
    with_wav_sizes,
)
from support.media_maker import RED
from support.odd_media import Fate, Odd, hears, nonsense

Make = Callable[[], bytes]

SOUNDS_HIGH = (hears("high", 0, 3),)


def song(container: str, codec: str, rate: int = 44_100, muxer: dict[str, str] | None = None, hz: float = HIGH) -> Make:
    """Return the maker of three seconds of one tone, in stereo."""
    return lambda: clip_bytes(Tones([(hz, 3)], codec, rate, "stereo"), container=container, options=muxer)


def wav(rate: int, channels: int = 1, subtype: str = "PCM_16", kind: str = "WAV") -> Make:
    """Return the maker of three seconds of a high tone."""
    return lambda: sound_bytes([(HIGH, 3)], rate, channels, kind, subtype)


def wild_floats(subtype: str) -> bytes:
    """Return a high tone of which some samples are no numbers, infinite, or far out of range."""
    samples = wave([(HIGH, 3)], 44_100)
    samples[1000:1010], samples[50_000:50_010], samples[60_000:60_010] = np.nan, np.inf, -np.inf
    samples[70_000:90_000] *= 40
    return sound_bytes(samples, 44_100, subtype=subtype)


def with_rate(rate: int) -> bytes:
    """Return a WAV file that says it has this sample rate."""
    raw = sound_bytes([(HIGH, 0.5)], 16_000)
    at = raw.index(b"fmt ") + 12
    return raw[:at] + struct.pack("<I", rate) + raw[at + 4 :]


def with_channels(channels: int) -> bytes:
    """Return a WAV file that says it has so many channels."""
    raw = sound_bytes([(HIGH, 0.5)], 16_000)
    at = raw.index(b"fmt ") + 10
    return raw[:at] + struct.pack("<H", channels) + raw[at + 2 :]


def waves() -> Iterator[Odd]:
    """Yield WAV files of every shape."""
    for name, make in {
        "8-channels.wav": wav(44_100, 8),
        "mono.wav": wav(22_050),
        "8-khz.wav": wav(8_000),
        "192-khz.wav": wav(192_000, 2),
        "8-bit.wav": wav(16_000, subtype="PCM_U8"),
        "24-bit.wav": wav(48_000, 2, "PCM_24"),
        "float-32.wav": wav(44_100, 2, "FLOAT"),
        "float-64.wav": wav(44_100, 2, "DOUBLE"),
        "mu-law.wav": wav(8_000, subtype="ULAW"),
        "adpcm.wav": wav(16_000, subtype="IMA_ADPCM"),
        "rf64.wav": wav(16_000, kind="RF64"),
        "extensible.wav": wav(16_000, 2, kind="WAVEX"),
        "wild-32.wav": lambda: wild_floats("FLOAT"),
        "wild-64.wav": lambda: wild_floats("DOUBLE"),
        "endless-header.wav": lambda: with_wav_sizes(sound_bytes([(HIGH, 3)], 44_100, 2), 0xFFFFFFFF),
        "zero-header.wav": lambda: with_wav_sizes(sound_bytes([(HIGH, 3)], 44_100, 2), 0xFFFFFFFF).replace(
            b"RIFF\xff\xff\xff\xff", b"RIFF\0\0\0\0", 1
        ),
        "streamed.wav": lambda: streamed_bytes(Tones([(HIGH, 3)], "pcm_s16le"), container="wav"),
    }.items():
        yield Odd(name, make, SOUNDS_HIGH)


def kinds() -> Iterator[Odd]:
    """Yield good sounds of every container and codec, under right and wrong names."""
    brand = {"brand": "M4A "}
    mp3 = song("mp3", "libmp3lame")
    with_cover = Tones([(HIGH, 3)], "aac"), cover(RED)
    for name, make in {
        "song.mp3": mp3,
        "song.flac": song("flac", "flac"),
        "song.ogg": song("ogg", "vorbis"),
        "song.opus": song("ogg", "libopus", 48_000),
        "song.m4a": song("ipod", "aac"),
        "song.aac": song("adts", "aac"),
        "lossless.m4a": song("ipod", "alac"),
        "opus-in.ogg": song("ogg", "libopus", 24_000),
        "fragmented.m4a": song("mp4", "aac", muxer={"movflags": "frag_keyframe+empty_moov", **brand}),
        "tagged.mp3": lambda: id3(300_000, RED) + mp3(),
        "with-cover.m4a": lambda: clip_bytes(*with_cover, container="mp4", options=brand),
        "with-cover-unbranded.m4a": lambda: clip_bytes(*with_cover, container="mp4"),
        "matroska-in.mp3": song("matroska", "libmp3lame"),
        "wav-in.mp3": wav(32_000),
        "ogg-in.wav": song("ogg", "vorbis", 48_000),
        "flac-in.ogg": song("flac", "flac", 48_000),
        "mp3-in.wav": song("mp3", "libmp3lame", 48_000),
        "adts-in.m4a": song("adts", "aac", 48_000),
        "m4a-in.aac": song("ipod", "aac", 48_000),
        "m4a-in.mp3": song("ipod", "aac", 32_000),
        "aiff-in.wav": wav(44_100, 2, kind="AIFF"),
    }.items():
        yield Odd(name, make, SOUNDS_HIGH)
    yield Odd("wav-in.mp4", wav(24_000), SOUNDS_HIGH)
    yield Odd("mp3-in.avi", song("mp3", "libmp3lame", 32_000), SOUNDS_HIGH)


def lengths() -> Iterator[Odd]:
    """Yield sounds that are very short, silent, or several windows long."""
    yield Odd("low.wav", lambda: sound_bytes([(LOW, 3)]), (hears("low", 0, 3),))
    yield Odd("middle.flac", lambda: sound_bytes([(MIDDLE, 3)], kind="FLAC"), (hears("middle", 0, 3),))
    yield Odd("5-ms.wav", lambda: sound_bytes([(HIGH, 0.005)], 44_100), (hears("high", 0, 0.005),))
    yield Odd("silent.wav", lambda: sound_bytes([(None, 3)]))
    yield Odd("silent.m4a", lambda: clip_bytes(Tones([(None, 3)]), container="ipod"))
    long = [(LOW, 10), (HIGH, 10), (MIDDLE, 5)]
    heard = (hears("low", 0, 10, 2.5), hears("high", 10, 20, 2.5), hears("middle", 20, 25, 5))
    both = (hears("low", 0, 10, 2.6), hears("high", 10, 20, 2.6))
    yield Odd("joined.mp3", lambda: joined("mp3", "libmp3lame"), both)
    yield Odd("changing.mp3", lambda: joined("mp3", "libmp3lame", 48_000, "stereo"), both)
    yield Odd("changing.aac", lambda: joined("adts", "aac", 48_000, "stereo"), both)
    yield Odd("25-s.wav", lambda: sound_bytes(long), heard)
    yield Odd("25-s.m4a", lambda: clip_bytes(Tones(long), container="ipod"), heard)


def index_first() -> bytes:
    """Return ten seconds of AAC in an MP4 file that begins with its index."""
    return clip_bytes(Tones([(HIGH, 10)]), container="ipod", options={"movflags": "faststart"})


def noisy_flac() -> bytes:
    """Return ten seconds that don't compress."""
    return sound_bytes([(HIGH, 5), ("noise", 5)], kind="FLAC")


def joined(container: str, codec: str, rate: int = 44_100, layout: str = "mono") -> bytes:
    """Return ten low seconds and ten high ones as two files in one; the second may have another rate and layout."""
    low = clip_bytes(Tones([(LOW, 10)], codec, 44_100, "mono"), container=container)
    return low + clip_bytes(Tones([(HIGH, 10)], codec, rate, layout), container=container)


def damaged() -> Iterator[Odd]:
    """Yield sounds that break off, or are spoiled in the middle: what can be heard of them is."""
    ten = [(HIGH, 10)]
    half = (hears("high", 0, 6),)
    yield Odd("broken-off.flac", lambda: cut(noisy_flac(), 0.6), (hears("high", 0, 6, 3),), fate=Fate.KEPT_AND_FAILED)
    mp3, ogg = Tones(ten, "libmp3lame"), Tones(ten, "vorbis", layout="stereo")
    fate = Fate.EITHER_WAY_KEPT  # whether these know what they lack depends on the container
    yield Odd("broken-off.mp3", lambda: cut(clip_bytes(mp3, container="mp3"), 0.6), half, fate=fate)
    yield Odd("broken-off.ogg", lambda: cut(clip_bytes(ogg, container="ogg"), 0.6), half, fate=fate)
    yield Odd("broken-off.wav", lambda: cut(sound_bytes(ten), 0.6), half, fate=fate)
    yield Odd("broken-off.aac", lambda: cut(clip_bytes(Tones(ten), container="adts"), 0.6), half, fate=fate)
    yield Odd("broken-off.m4a", lambda: cut(index_first(), 0.6), half, fate=Fate.KEPT_AND_FAILED)
    most = (hears("high", 0, 10, 6),)
    yield Odd("spoiled.mp3", lambda: spoiled(clip_bytes(mp3, container="mp3"), 0.6, 0.7), most, fate=fate)
    yield Odd("spoiled.flac", lambda: spoiled(noisy_flac(), 0.7, 0.8), most, fate=fate)
    yield Odd("spoiled.ogg", lambda: spoiled(clip_bytes(ogg, container="ogg"), 0.6, 0.7), most, fate=fate)
    yield Odd("spoiled.wav", lambda: spoiled(sound_bytes(ten), 0.7, 0.71), (hears("high", 0, 10),), fate=fate)


def broken() -> Iterator[Odd]:
    """Yield what is no sound at all."""
    yield from nonsense("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac")
    lost: dict[str, Make] = {
        "head-only.wav": lambda: sound_bytes([(HIGH, 1)])[:44],
        "no-samples.wav": lambda: sound_bytes(np.zeros(0, np.float32)),
        "no-samples.flac": lambda: sound_bytes(np.zeros(0, np.float32), kind="FLAC"),
        "head-only.flac": lambda: sound_bytes([(HIGH, 1)], kind="FLAC")[:42],
        "head-only.ogg": lambda: song("ogg", "vorbis")()[:58],
        "tag-only.mp3": lambda: id3(100_000, RED),
        "cut-before-its-index.m4a": lambda: cut(song("ipod", "aac")(), 0.3),
        "no-rate.wav": lambda: with_rate(0),
        "no-channels.wav": lambda: with_channels(0),
        "words-in-riff.wav": lambda: b"RIFF\x24\0\0\0WAVE" + b"what follows is no sound" * 20,
    }
    for name, make in lost.items():
        yield Odd(name, make, fate=Fate.FAILED)
    yield Odd("one-hertz.wav", lambda: with_rate(1), fate=Fate.ANY)
    yield Odd("four-gigahertz.wav", lambda: with_rate(2**32 - 1), fate=Fate.ANY)
    yield Odd("65535-channels.wav", lambda: with_channels(65_535), fate=Fate.ANY)


SOUNDS = [*waves(), *kinds(), *lengths(), *damaged(), *broken()]
