"""A moment of a sound or video → a file of its own, which browsers play."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import av
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.video.frame import PictureType

from mmsearch.errors import MediaError
from mmsearch.media.container import open_container, reason
from mmsearch.media.tracks import main_sound, moving_pictures
from mmsearch.settings import Limits

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

MOST_S = 120.0
"""The longest clip that is cut."""
MOST_BYTES = 2**26
"""The largest clip that is cut."""
_SIDE = 1_280
"""The longer side of a clip that has to be encoded again, in pixels."""
_MOST_FRAMES = 60
"""The most frames a second; a track that says more, or nothing credible, gets 25."""
_RATE_HZ = 48_000
_FITS: tuple[tuple[str, str, frozenset[str], frozenset[str]], ...] = (
    ("mp4", "mp4", frozenset({"h264", "av1", "hevc"}), frozenset({"aac", "mp3", "opus", "flac"})),
    ("webm", "webm", frozenset({"vp8", "vp9", "av1"}), frozenset({"opus", "vorbis"})),
    ("wav", "wav", frozenset(), frozenset({"pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_u8"})),
)
"""Containers, the name of their media type, and the codecs of pictures and sound that they take as they are."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound or video file, and its media type such as "video/mp4"."""

    content: bytes
    media_type: str


def cut(file: BinaryIO, start_s: float, end_s: float, limits: Limits) -> Clip:
    """Return the pictures and the sound between two times, in seconds, as a file of its own.

    Where the codecs fit a container that browsers play, nothing is encoded again, and the clip begins at the last key
    frame before `start_s`. Else it is encoded as H.264 and AAC, and begins within a frame. Raises `MediaError`.
    """
    end_s = min(end_s, start_s + MOST_S)
    try:
        heard = _index_of_sound(file)
        with open_container(file) as source:
            pictures = moving_pictures(source.streams)
            sound = next((each for each in source.streams.audio if each.index == heard), None)
            if pictures is None and sound is None:
                raise MediaError("there is nothing to see or hear in it")
            if pictures is not None and pictures.width * pictures.height > limits.frame_pixels:
                raise MediaError(f"its frames are {pictures.width} x {pictures.height}; make them smaller")
            offset_s = (source.start_time or 0) / av.time_base
            source.seek(max(0, int((start_s + offset_s) * av.time_base)), backward=True)
            job = _Cut(source, pictures, sound, start_s + offset_s, end_s + offset_s)
            fitting = next((each for each in _FITS if _fits(each, pictures, sound)), None)
            clip = job.copied(fitting[0], fitting[1]) if fitting else job.encoded()
    except (FFmpegError, ValueError, EOFError) as error:
        raise MediaError(f"no clip can be cut from it ({reason(error)})") from None
    if not clip.content:
        raise MediaError("nothing is there at this moment; choose one within the file")
    return clip


def _index_of_sound(file: BinaryIO) -> int | None:
    """Return the index of the track of sound that is heard: looking for it reads the file, so it isn't open yet."""
    with open_container(file) as container:
        sound = main_sound(container, lambda: open_container(file))
        return sound.index if sound is not None else None


def _fits(
    container: tuple[str, str, frozenset[str], frozenset[str]], pictures: Stream | None, sound: Stream | None
) -> bool:
    _, _, seen, heard = container
    return (pictures is None or _codec(pictures) in seen) and (sound is None or _codec(sound) in heard)


def _codec(stream: Stream) -> str:
    return str(stream.codec_context.name)


class _Bounded(io.BytesIO):
    """A file in memory that doesn't grow beyond `MOST_BYTES`."""

    def write(self, raw: Any, /) -> int:  # noqa: ANN401  the buffer type of BytesIO
        if self.tell() + len(raw) > MOST_BYTES:
            raise MediaError(f"the clip is larger than {MOST_BYTES // 2**20} MB; choose a shorter moment")
        return super().write(raw)


class _Cut:
    """One moment of an open container, in its own time: from `start_s` to `end_s`."""

    def __init__(
        self,
        source: InputContainer,
        pictures: VideoStream | None,
        sound: AudioStream | None,
        start_s: float,
        end_s: float,
    ) -> None:
        self._source, self._pictures, self._sound = source, pictures, sound
        self._start_s, self._end_s = start_s, end_s
        self._reached = False
        self._tracks = [track for track in (pictures, sound) if track is not None]

    def copied(self, container: str, subtype: str) -> Clip:
        """Return the moment with its packets as they are."""
        out = _Bounded()
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if container == "mp4" else {}
        with av.open(out, "w", format=container, options=options) as target:
            copies = {track.index: target.add_stream_from_template(cast("Any", track)) for track in self._tracks}
            for packet in self._packets():
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
        return Clip(out.getvalue() if self._reached else b"", self._type(subtype))

    def _packets(self) -> Iterable[Packet[Any]]:
        """Yield the packets of the moment, with times that begin at 0."""
        first_s: float | None = None
        done: set[int] = set()
        for packet in self._source.demux(self._tracks):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            tick_s, index = float(packet.time_base), packet.stream.index
            is_before = (packet.pts + (packet.duration or 1)) * tick_s <= self._start_s
            if self._pictures is None and is_before:
                continue
            if packet.dts * tick_s >= self._end_s:
                done.add(index)
                if len(done) == len(self._tracks):
                    return
                continue
            if first_s is None:
                if self._pictures is not None and not (index == self._pictures.index and packet.is_keyframe):
                    continue  # sound from before the first picture has no place
                first_s = packet.dts * tick_s
            shift = round(first_s / tick_s)
            if packet.pts < shift:
                continue
            self._reached |= not is_before
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet

    def encoded(self) -> Clip:
        """Return the moment encoded again, as H.264 and AAC."""
        out = _Bounded()
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        with av.open(out, "w", format="mp4", options=options) as target:
            encoders = [_encoder(target, track) for track in self._tracks]
            by_index = {track.index: encoder for track, encoder in zip(self._tracks, encoders, strict=True)}
            done: set[int] = set()
            for packet in self._source.demux(self._tracks):
                index = packet.stream.index
                for frame in packet.decode():
                    time_s = cast("Any", frame).time
                    if time_s is None or time_s < self._start_s:
                        continue
                    if time_s >= self._end_s:
                        done.add(index)
                    elif index not in done:
                        by_index[index].put(cast("Any", frame), time_s - self._start_s)
                if len(done) == len(self._tracks):
                    break
            for encoder in encoders:
                encoder.end()
            written = any(encoder.frames for encoder in encoders)
        return Clip(out.getvalue() if written else b"", self._type("mp4"))

    def _type(self, subtype: str) -> str:
        return f"{'audio' if self._pictures is None else 'video'}/{subtype}"


def _encoder(target: OutputContainer, track: Stream) -> _PictureEncoder | _SoundEncoder:
    return _PictureEncoder(target, cast("Any", track)) if track.type == "video" else _SoundEncoder(target)


class _PictureEncoder:
    """Encodes frames as H.264."""

    def __init__(self, target: OutputContainer, track: VideoStream) -> None:
        context = track.codec_context
        scale = min(1.0, _SIDE / max(context.width, context.height, 1))
        rate = track.average_rate or Fraction(25)
        rate = rate if 0 < rate <= _MOST_FRAMES else Fraction(25)
        self._target, self._tick = target, 1 / rate
        self._stream: Any = target.add_stream("libx264", rate=rate)
        self._stream.options = {"preset": "ultrafast", "crf": "24"}
        self._stream.codec_context.thread_count = 1
        self._stream.width = max(2, round(context.width * scale) // 2 * 2)
        self._stream.height = max(2, round(context.height * scale) // 2 * 2)
        self._stream.pix_fmt = "yuv420p"
        self.frames = 0
        self._last = -1

    def put(self, frame: Any, time_s: float) -> None:  # noqa: ANN401  PyAV's frames share no base class with a size
        """Encode a frame that is seen from `time_s` on."""
        small = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
        place = round(time_s / float(self._tick))
        if place <= self._last:
            return  # two frames of one moment
        small.pts, small.time_base = place, self._tick
        small.pict_type = PictureType.NONE
        self._last = place
        self.frames += 1
        self._target.mux(self._stream.encode(small))

    def end(self) -> None:
        """Write what the encoder still holds."""
        if self.frames:
            self._target.mux(self._stream.encode(None))


class _SoundEncoder:
    """Encodes sound as AAC in stereo."""

    def __init__(self, target: OutputContainer) -> None:
        self._target = target
        self._stream: Any = target.add_stream("aac", rate=_RATE_HZ, layout="stereo")
        self._resampler = AudioResampler("fltp", "stereo", _RATE_HZ, self._stream.codec_context.frame_size or 1024)
        self.frames = 0

    def put(self, frame: Any, time_s: float) -> None:  # noqa: ANN401  see above
        """Encode a block that is heard from `time_s` on."""
        frame.pts = round(time_s * frame.sample_rate)
        frame.time_base = Fraction(1, frame.sample_rate)
        for block in self._resampler.resample(frame):
            self._target.mux(self._stream.encode(block))
        self.frames += 1

    def end(self) -> None:
        """Write what the resampler and the encoder still hold."""
        if self.frames:
            for block in self._resampler.resample(None):
                self._target.mux(self._stream.encode(block))
            self._target.mux(self._stream.encode(None))
