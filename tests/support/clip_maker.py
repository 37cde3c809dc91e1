"""Makes small clips and sounds whose colours, tones and words at every moment are known, and damages them.

A clip is a list of tracks: `clip(path, Pictures([(RED, 2), (BLUE, 3)]), Tones([(LOW, 5)]))`. Nothing is read from disk.
"""

from __future__ import annotations

import io
import math
import random
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import SubtitleSet
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from support.media_maker import encoded, plain

LOW, MIDDLE, HIGH = 120.0, 1000.0, 3000.0
"""Tones in Hz that the hashing space has names for; 8 kHz are enough to hold them."""

Colour: TypeAlias = tuple[int, int, int]
Scene: TypeAlias = tuple[Colour | Image.Image | None, float]
"""What is seen (None: no frame at all), and for how many seconds."""
Tone: TypeAlias = tuple[float | Literal["noise"] | None, float]
"""What is heard (a pitch in Hz, noise, or None for silence), and for how many seconds."""
Cue: TypeAlias = tuple[float, float, str]
"""Words, from when to when in seconds."""
Wave: TypeAlias = NDArray[np.float32]

_FAST = {
    "libx264": {"preset": "ultrafast", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    "aac": {"aac_coder": "fast"},
    "libsvtav1": {"preset": "12"},
    "vorbis": {"strict": "experimental"},
    "opus": {"strict": "experimental"},
}
_ASS = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\n"
    b"Style: Default,Arial,16\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
_BT2020 = 9
"""The number of both the primaries and the matrix."""
_TICKS = 12_000
"""A second in the time base of clips whose frame rate varies."""

# Tracks


@dataclass(frozen=True, slots=True)
class Pictures:
    """A video track. `fps` may be one number a scene; `start_s` is the time of the first frame, negative or not."""

    scenes: Sequence[Scene]
    codec: str = "libx264"
    fps: int | Sequence[int] = 10
    size: tuple[int, int] = (64, 48)
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    start_s: float = 0.0
    rotation: int = 0
    """Degrees by which a player turns the picture, counter-clockwise."""
    pixel_aspect: Fraction | None = None
    hdr: Literal["smpte2084", "arib-std-b67"] | None = None
    """The transfer curve of an HDR clip (PQ or HLG), with the primaries and the matrix of BT.2020."""
    disposition: Disposition | None = None

    def begin(self, container: OutputContainer) -> VideoStream:
        """Add the stream of this track."""
        rate = self.fps if isinstance(self.fps, int) else max(self.fps)
        stream = container.add_stream(self.codec, rate, {**_FAST.get(self.codec, {}), **self.options})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = self.size
        stream.pix_fmt = self.pix_fmt
        stream.codec_context.time_base = self._time_base
        if self.rotation:
            stream.set_display_rotation(self.rotation)
        if self.pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = self.pixel_aspect
        if self.hdr is not None:
            stream.color_primaries = stream.colorspace = _BT2020
            stream.color_trc = {"smpte2084": 16, "arib-std-b67": 18}[self.hdr]
        if self.disposition is not None:
            stream.disposition = self.disposition
        return stream

    def encode(self, stream: Stream) -> Iterator[av.Packet[Stream]]:
        """Yield the packets of every frame."""
        assert isinstance(stream, VideoStream)
        matrix = _BT2020 if self.hdr else None
        for tick, picture in self._moments():
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=self.pix_fmt, dst_colorspace=matrix)
            frame.pts, frame.time_base = tick, self._time_base
            yield from stream.encode(frame)
        yield from stream.encode(None)

    @property
    def _time_base(self) -> Fraction:
        return Fraction(1, self.fps if isinstance(self.fps, int) else _TICKS)

    def _moments(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield each frame's time in ticks, and its pixels."""
        rates = [self.fps] * len(self.scenes) if isinstance(self.fps, int) else self.fps
        began = self.start_s
        for (seen, seconds), rate in zip(self.scenes, rates, strict=True):
            first, last = (math.ceil(round(moment * rate, 6)) for moment in (began, began + seconds))
            if seen is not None:
                picture = (seen if isinstance(seen, Image.Image) else plain(seen)).convert("RGB").resize(self.size)
                for number in range(first, last):
                    yield round(Fraction(number, rate) / self._time_base), np.asarray(picture)
            began += seconds


@dataclass(frozen=True, slots=True)
class Tones:
    """A sound track; every channel of `layout` holds the same."""

    tones: Sequence[Tone]
    codec: str = "aac"
    rate: int = 44_100
    layout: str = "mono"
    start_s: float = 0.0
    options: Mapping[str, str] = field(default_factory=dict)

    def begin(self, container: OutputContainer) -> AudioStream:
        """Add the stream of this track."""
        stream = container.add_stream(self.codec, self.rate, {**_FAST.get(self.codec, {}), **self.options})
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = self.layout
        return stream

    def encode(self, stream: Stream) -> Iterator[av.Packet[Stream]]:
        """Yield the packets of the whole wave."""
        assert isinstance(stream, AudioStream)
        channels = stream.codec_context.channels
        one = wave(self.tones, self.rate)
        if len(one):
            frame = av.AudioFrame.from_ndarray(np.repeat(one, channels)[None], "flt", self.layout)
            frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
            frame.pts = round(self.start_s * self.rate)
            yield from stream.encode(frame)
        yield from stream.encode(None)


@dataclass(frozen=True, slots=True)
class Words:
    """A subtitle track: `mov_text` in MP4, `subrip` or `ass` in Matroska, `webvtt` in WebM."""

    cues: Sequence[Cue]
    codec: str = "mov_text"

    def begin(self, container: OutputContainer) -> SubtitleStream:
        """Add the stream of this track."""
        stream = container.add_stream(self.codec)
        assert isinstance(stream, SubtitleStream)
        stream.codec_context.subtitle_header = _ASS
        stream.codec_context.time_base = Fraction(1, 1000)
        return stream

    def encode(self, stream: Stream) -> Iterator[av.Packet[Stream]]:
        """Yield one packet a cue."""
        assert isinstance(stream, SubtitleStream)
        for start_s, end_s, words in self.cues:
            long = round((end_s - start_s) * 1000)
            said = SubtitleSet.create(b"0,0,Default,,0,0,0,," + words.encode(), 0, long)
            packet = stream.codec_context.encode_subtitle(said)
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 1000), long
            packet.pts = packet.dts = round(start_s * 1000)
            yield packet


Track: TypeAlias = Pictures | Tones | Words


def cover(colour: Colour) -> Pictures:
    """Return the track of a cover picture, as music files hold it."""
    options = {"huffman": "default"}
    return Pictures(
        [(colour, 1)], "mjpeg", 1, pix_fmt="yuvj420p", options=options, disposition=Disposition.attached_pic
    )


# Files


class Writable(Protocol):
    """All that a muxer asks of a file."""

    def write(self, block: bytes, /) -> int:
        """Append a block, and return its length."""
        ...


def clip(
    file: Path | Writable, *tracks: Track, container: str | None = None, options: Mapping[str, str] | None = None
) -> None:
    """Write tracks into a file; its name says which container unless `container` does (`mp4`, `matroska`, `avi`, …)."""
    where = str(file) if isinstance(file, Path) else file
    with av.open(where, "w", format=container, options=dict(options or {})) as made:
        streams = [track.begin(made) for track in tracks]
        made.start_encoding()
        packets = [packet for track, stream in zip(tracks, streams, strict=True) for packet in track.encode(stream)]
        for packet in sorted(packets, key=_time):
            made.mux_one(packet)


def clip_bytes(*tracks: Track, container: str, options: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a clip. It is a file for a moment: `faststart` reads again what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip"
        clip(file, *tracks, container=container, options=options)
        return file.read_bytes()


def streamed_bytes(*tracks: Track, container: str, options: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a clip that was written into a pipe, so that nothing could be filled in afterwards."""
    pipe = _Pipe()
    clip(pipe, *tracks, container=container, options=options)
    return bytes(pipe.written)


class _Pipe:
    """A file that can't be sought."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, block: bytes) -> int:
        self.written += block
        return len(block)


def frames_bytes(frames: Sequence[bytes], codec: str, size: tuple[int, int], *, container: str, fps: int = 10) -> bytes:
    """Return a clip of frames that are encoded already, whatever they are: `mjpeg`, `png`."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as made:
        stream = made.add_mux_stream(codec, fps, width=size[0], height=size[1])
        for number, frame in enumerate(frames):
            packet = av.Packet(frame)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, fps), True
            packet.pts = packet.dts = number
            made.mux_one(packet)
    return file.getvalue()


def disposed(
    clip: bytes,
    dispositions: Mapping[int, Disposition],
    container: str = "matroska",
    metadata: Mapping[int, Mapping[str, str]] | None = None,
) -> bytes:
    """Write a clip's streams into another one, with other dispositions and tags."""
    out = io.BytesIO()
    with av.open(io.BytesIO(clip), "r") as read, av.open(out, "w", format=container) as made:
        streams = [made.add_stream_from_template(stream) for stream in read.streams]
        for number, stream in enumerate(streams):
            stream.disposition = dispositions.get(number, Disposition(0))
            stream.metadata.update((metadata or {}).get(number, {}))
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    return out.getvalue()


def _time(packet: av.Packet[Stream]) -> float:
    return float((packet.dts if packet.dts is not None else packet.pts or 0) * packet.time_base)


def wave(tones: Sequence[Tone], rate: int = 16_000) -> Wave:
    """Return tones one after the other as a mono waveform at half of full scale, (n,) float32."""
    draw = np.random.default_rng(7)
    parts: list[Wave] = []
    for heard, seconds in tones:
        n = round(seconds * rate)
        if heard is None:
            part = np.zeros(n)
        elif heard == "noise":
            part = draw.uniform(-0.5, 0.5, n)
        else:
            part = 0.5 * np.sin(2 * np.pi * float(heard) * np.arange(n) / rate)
        parts.append(part.astype(np.float32))
    return np.concatenate([np.zeros(0, np.float32), *parts])


def sound_bytes(
    heard: Sequence[Tone] | NDArray[np.floating],
    rate: int = 16_000,
    channels: int = 1,
    kind: str = "WAV",
    subtype: str | None = None,
) -> bytes:
    """Return a sound file of a kind that libsndfile writes; `heard` are tones, or samples in any range."""
    samples = heard if isinstance(heard, np.ndarray) else wave(heard, rate)
    file = io.BytesIO()
    soundfile.write(file, np.repeat(samples[:, None], channels, axis=1), rate, subtype, format=kind)
    return file.getvalue()


def with_wav_sizes(wav: bytes, size: int) -> bytes:
    """Return a WAV file whose header gives this size for the file and for its samples."""
    at = wav.index(b"data") + 4
    raw = struct.pack("<I", size)
    return wav[:4] + raw + wav[8:at] + raw + wav[at + 4 :]


def id3(size_bytes: int, colour: Colour) -> bytes:
    """Return an ID3v2.3 tag of about this size, with a title and a cover picture; it goes before an MP3 stream."""
    title = b"\0A song"
    picture = b"\0image/jpeg\0\3\0" + encoded(plain(colour), "JPEG")
    frames = b"".join(
        name + struct.pack(">IH", len(body), 0) + body for name, body in ((b"TIT2", title), (b"APIC", picture))
    )
    frames += bytes(max(0, size_bytes - len(frames)))
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frames


def srt(cues: Sequence[Cue]) -> str:
    """Return cues as a SubRip file."""
    blocks = (f"{i}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{words}\n" for i, (a, b, words) in enumerate(cues, 1))
    return "\n".join(blocks)


def vtt(cues: Sequence[Cue]) -> str:
    """Return cues as a WebVTT file."""
    return "WEBVTT\n\n" + "\n".join(f"{_clock(a, '.')} --> {_clock(b, '.')}\n{words}\n" for a, b, words in cues)


def _clock(seconds: float, point: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{point}{whole % 1000:03}"


# Damage


def cut(whole: bytes, fraction: float) -> bytes:
    """Return the first part of a file."""
    return whole[: int(len(whole) * fraction)]


def spoiled(whole: bytes, begin: float, end: float) -> bytes:
    """Return a file whose bytes between two fractions of it are random."""
    a, b = int(len(whole) * begin), int(len(whole) * end)
    return whole[:a] + random.Random(a).randbytes(b - a) + whole[b:]


def boxes(mp4: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of each outermost box of an MP4 file."""
    at = 0
    while at + 8 <= len(mp4):
        size, name = struct.unpack_from(">I4s", mp4, at)
        if size == 1:
            (size,) = struct.unpack_from(">Q", mp4, at + 8)
        end = at + size if size else len(mp4)
        yield name, at, end
        at = end


def without_box(mp4: bytes, name: bytes) -> bytes:
    """Return an MP4 file without its outermost boxes of a name, such as `moov`."""
    return b"".join(mp4[begin:end] for found, begin, end in boxes(mp4) if found != name)


def with_spoiled_box(mp4: bytes, name: bytes) -> bytes:
    """Return an MP4 file with random bytes inside its outermost boxes of a name, such as `mdat`."""
    return b"".join(
        mp4[begin : begin + 8] + random.Random(begin).randbytes(end - begin - 8) if found == name else mp4[begin:end]
        for found, begin, end in boxes(mp4)
    )
