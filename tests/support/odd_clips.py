"""Clips that are odd or broken, by name: what is in them, and what must become of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import av.codec

from mmsearch import Modality
from support.clip_maker import (
    HIGH,
    LOW,
    MIDDLE,
    Pictures,
    Tones,
    Track,
    Words,
    clip_bytes,
    cover,
    cut,
    frames_bytes,
    spoiled,
    srt,
    streamed_bytes,
    with_spoiled_box,
    without_box,
)
from support.media_maker import BLUE, GREEN, RED, WHITE, deflate_bomb, encoded, plain, png, quarters
from support.odd_media import Fate, Odd, hears, nonsense, reads, sees

Make = Callable[[], bytes]

SCENES = [(RED, 2.5), (BLUE, 2.5)]
TONES = [(LOW, 2.5), (HIGH, 2.5)]
SEEN = (sees("red", 0, 2.5), sees("blue", 2.5, 5))
HEARD = (hears("low", 0, 2.5), hears("high", 2.5, 5))
BLACK = (0, 0, 0)
KEYS = {"g": "5", "sc_threshold": "0"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FIRST = {"movflags": "faststart"}


def film(container: str = "mp4", *more: Track, muxer: Mapping[str, str] | None = None, **pictures: Any) -> Make:  # noqa: ANN401
    """Return the maker of a clip that is red, then blue; `pictures` are options of its video track."""
    shown = Pictures(**{"scenes": SCENES, **pictures})
    return lambda: clip_bytes(shown, *more, container=container, options=muxer)


def spoken(codec: str, rate: int = 48_000, layout: str = "stereo") -> Tones:
    """Return a sound track that is low, then high."""
    return Tones(TONES, codec, rate, layout)


def ten_seconds(container: str, muxer: Mapping[str, str] | None = None) -> bytes:
    """Return a clip with its bytes spread evenly: red and low, after 5 s blue and high."""
    shown = Pictures([(RED, 5), (BLUE, 5)], options=KEYS)
    return clip_bytes(shown, Tones([(LOW, 5), (HIGH, 5)]), container=container, options=muxer)


def with_long_header(mp4: bytes) -> bytes:
    """Return an MP4 file that says, wherever it says how long it is, that it is years long."""
    for name, at in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        start = mp4.index(name) + at
        mp4 = mp4[:start] + struct.pack(">I", 2**31 - 1) + mp4[start + 4 :]
    return mp4


def without_frames() -> bytes:
    """Return an MP4 file with a video track in which there is no frame."""
    return clip_bytes(Pictures([(None, 1)]), container="mp4")


def oversized() -> bytes:
    """Return a clip of one PNG frame that would take gigabytes."""
    return frames_bytes([png(16_000, 16_000, deflate_bomb(16_000 * 16_001))], "png", (16_000, 16_000), container="mov")


def unknown(container: str, codec: bytes, *more: Track) -> bytes:
    """Return a clip whose pictures say that they are of a codec that there isn't."""
    return film(container, *more)().replace(codec, b"z" * len(codec))


def half_sized() -> bytes:
    """Return a clip whose frames change their size half-way."""
    small, wide = encoded(plain(RED), "JPEG"), encoded(plain(BLUE, 96, 32), "JPEG")
    return frames_bytes([small] * 25 + [wide] * 25, "mjpeg", (64, 48), container="matroska")


def shapes() -> Iterator[Odd]:
    """Yield clips of odd shapes, rates and pixels."""
    yield Odd("no-sound.mp4", film(), SEEN)
    yield Odd("one-frame.mp4", film(scenes=[(RED, 0.1)]), (sees("red", 0, 0.1),))
    yield Odd("one-pixel.mp4", film(size=(1, 1), pix_fmt="yuv444p"), SEEN)
    yield Odd("odd-size.mp4", film(size=(33, 17), pix_fmt="yuv444p"), SEEN)
    yield Odd("odd-size.mkv", film("matroska", codec="ffv1", size=(33, 17), pix_fmt="yuv444p"), SEEN)
    yield Odd("odd-size.avi", film("avi", codec="rawvideo", size=(33, 17), pix_fmt="bgr24"), SEEN)
    yield Odd("wide.mp4", film(size=(640, 16)), SEEN)
    yield Odd("tall.mp4", film(size=(16, 640)), SEEN)
    yield Odd("rotated.mp4", film(scenes=[(quarters(64, 64), 3)], rotation=90, size=(64, 64)), (sees("red", 0, 3),))
    yield Odd("turned.mp4", film(rotation=180), SEEN)
    yield Odd("pixel-aspect.mp4", film(pixel_aspect=Fraction(4, 1)), SEEN)
    yield Odd("slow-then-fast.mp4", film(fps=(1, 15)), SEEN)
    yield Odd("fast-then-slow.mkv", film("matroska", fps=(15, 1)), SEEN)
    yield Odd("5-fps.mp4", film(fps=5), SEEN)
    yield Odd("120-fps.mp4", film(fps=120), SEEN)
    yield Odd("interlaced.mkv", film("matroska", codec="mpeg2video", fps=25, options={"flags": "+ildct+ilme"}), SEEN)
    yield Odd("interlaced.mp4", film(fps=25, options={"x264-params": "interlaced=1"}), SEEN)
    yield Odd("hdr-pq.mp4", film(codec="libx265", pix_fmt="yuv420p10le", hdr="smpte2084"), SEEN)
    yield Odd("hdr-hlg.mkv", film("matroska", pix_fmt="yuv420p10le", hdr="arib-std-b67"), SEEN)
    yield Odd("transparent.mov", film("mov", codec="qtrle", pix_fmt="argb"), SEEN)
    grey = [(BLACK, 2.5), (WHITE, 2.5)]
    yield Odd("grey.mkv", film("matroska", codec="ffv1", pix_fmt="gray", scenes=grey), (sees("white", 2.5, 5),))
    black = film("mp4", Tones([(None, 4)]), scenes=[(BLACK, 4)])
    yield Odd("black-and-silent.mp4", black, (sees("black", 0, 4),))
    yield Odd("changing-size.mkv", half_sized, SEEN)
    yield Odd("only-the-first-key.mp4", film(options={"g": "9999", "sc_threshold": "0"}), SEEN)
    yield Odd("all-keys.mp4", film(options={"g": "1"}), SEEN)


def tracks() -> Iterator[Odd]:
    """Yield clips whose tracks begin, end or are counted oddly."""
    yield Odd("sound-only.mp4", lambda: clip_bytes(Tones([(HIGH, 4)]), container="mp4"), (hears("high", 0, 4),))
    yield Odd("sound-only.mkv", lambda: clip_bytes(Tones([(LOW, 4)]), container="matroska"), (hears("low", 0, 4),))
    sung = Tones([(HIGH, 3)]), cover(GREEN)
    yield Odd("cover-and-sound.mp4", lambda: clip_bytes(*sung, container="mp4"), (hears("high", 0, 3),))
    yield Odd("cover.mp4", lambda: clip_bytes(Pictures(SCENES), cover(GREEN), container="mp4"), SEEN)
    yield Odd("short-sound.mp4", film("mp4", Tones([(LOW, 2)])), (*SEEN, hears("low", 0, 2.5)))
    long = film("mp4", Tones([(LOW, 3), (HIGH, 5)]), scenes=[(RED, 3)])
    yield Odd("long-sound.mp4", long, (sees("red", 0, 3), hears("high", 3, 8)))
    yield Odd("late-sound.mp4", film("mp4", Tones([(HIGH, 2)], start_s=3)), (*SEEN, hears("high", 2.5, 5)))
    late = film("matroska", Tones([(LOW, 5)]), scenes=[(BLUE, 2.5)], start_s=2.5)
    yield Odd("late-picture.mkv", late, (sees("blue", 2.5, 5, 2.6), hears("low", 0, 5, 2.6)))
    before = film(scenes=[(RED, 2.5), (BLUE, 2.5), (GREEN, 2.5)], start_s=-2.5)  # an edit list leaves the red out
    yield Odd("negative.mp4", before, (sees("blue", 0, 2.5), sees("green", 2.5, 5)))
    begun = film("matroska", Tones(TONES, start_s=3600), start_s=3600)
    yield Odd("from-one-hour-on.mkv", begun, (*SEEN, *HEARD))
    two = Pictures(SCENES), Tones([(MIDDLE, 5)]), Tones([(LOW, 5)])
    yield Odd("two-sounds.mkv", lambda: clip_bytes(*two, container="matroska"), (*SEEN, hears("middle", 0, 2.5, 2.6)))
    both = Pictures(SCENES), Pictures([(GREEN, 5)], size=(32, 24))
    yield Odd("two-pictures.mp4", lambda: clip_bytes(*both, container="mp4"), SEEN)
    gap = [(RED, 2.5), (None, 20), (BLUE, 2.5)]
    yield Odd("gap.mkv", film("matroska", scenes=gap), (sees("red", 0, 10, 8), sees("blue", 22.5, 25)))
    leap = [(RED, 2.5), (None, 400_000), (BLUE, 2.5)]
    yield Odd("leap.mkv", film("matroska", scenes=leap), (sees("red", 0, 2.5), sees("blue", 400_002.5, 400_005)))
    may = Fate.EITHER_WAY_KEPT
    strange = lambda: unknown("mp4", b"avc1", Tones([(HIGH, 4)]))  # noqa: E731
    yield Odd("unknown-pictures.mp4", strange, (hears("high", 0, 4),), fate=may)
    yield Odd(
        "unknown-pictures.mkv",
        lambda: unknown("matroska", b"V_MPEG4/ISO/AVC", Tones([(LOW, 4)])),
        (hears("low", 0, 4),),
        fate=may,
    )
    unheard = lambda: film("mp4", Tones(TONES))().replace(b"mp4a", b"zzzz")  # noqa: E731
    yield Odd("unknown-sound.mp4", unheard, SEEN, fate=may)
    yield Odd("years-long.mp4", lambda: with_long_header(film()()), SEEN, fate=may)


def containers() -> Iterator[Odd]:
    """Yield good clips of every container and codec."""
    both = (*SEEN, *HEARD)
    yield Odd("hevc.mp4", film("mp4", spoken("aac"), codec="libx265"), both)
    yield Odd("mpeg4.mp4", film("mp4", spoken("libmp3lame"), codec="mpeg4"), both)
    yield Odd("h264.m4v", film("mp4", spoken("aac")), both)
    yield Odd("h264-flac.mkv", film("matroska", spoken("flac")), both)
    yield Odd("mpeg2-ac3.mkv", film("matroska", spoken("ac3"), codec="mpeg2video", fps=25), both)
    yield Odd("vp8-vorbis.webm", film("webm", spoken("vorbis"), codec="libvpx"), both)
    yield Odd("vp9-opus.webm", film("webm", spoken("libopus"), codec="libvpx-vp9"), both)
    yield Odd("mpeg4-mp3.avi", film("avi", spoken("libmp3lame"), codec="mpeg4"), both)
    yield Odd("mjpeg-pcm.avi", film("avi", spoken("pcm_s16le"), codec="mjpeg", pix_fmt="yuvj420p"), both)
    yield Odd("prores-pcm.mov", film("mov", spoken("pcm_s24le"), codec="prores_ks", pix_fmt="yuv422p10le"), both)
    if "libsvtav1" in av.codec.codecs_available:
        yield Odd("av1-opus.mkv", film("matroska", spoken("libopus"), codec="libsvtav1"), both)
    yield Odd("surround.mkv", film("matroska", spoken("ac3", layout="5.1")), both)
    for codec, options in (("aac", {}), ("libopus", {"mapping_family": "255"})):
        many = Tones(TONES, codec, 48_000, "hexadecagonal", options=options)
        yield Odd(f"16-channels-{codec}.mkv", film("matroska", many), both)
    yield Odd("fragmented.mp4", film("mp4", Tones(TONES), muxer=FRAGMENTS, options=KEYS), both)
    yield Odd("index-first.mp4", film("mp4", Tones(TONES), muxer=FIRST), both)
    whole = Pictures(SCENES, size=(72, 48), options=KEYS), Tones(TONES)
    yield Odd("streamed.mkv", lambda: streamed_bytes(*whole, container="matroska"), both)
    yield Odd("streamed.mp4", lambda: streamed_bytes(*whole, container="mp4", options=FRAGMENTS), both)


def liars() -> Iterator[Odd]:
    """Yield files that hold something else than their names say."""
    yield Odd("mp4-in.mkv", film(size=(66, 48)), SEEN)
    yield Odd("mkv-in.mp4", film("matroska", size=(66, 48)), SEEN)
    yield Odd("webm-in.avi", film("webm", codec="libvpx", size=(66, 48)), SEEN)
    yield Odd("avi-in.mov", film("avi", codec="mpeg4", size=(66, 48)), SEEN)
    yield Odd("mp4-in.jpg", film(size=(68, 48)), SEEN, modality=Modality.VIDEO)
    yield Odd("mp4-in.wav", film(size=(70, 48)), SEEN, modality=Modality.VIDEO)
    yield Odd("avi-in.wav", film("avi", codec="mpeg4", size=(70, 48)), SEEN, modality=Modality.VIDEO)
    yield Odd("mkv-in.ogg", film("matroska", size=(70, 48)), SEEN, modality=Modality.VIDEO)
    for kind, name in (("JPEG", "jpeg-in.mp4"), ("PNG", "png-in.mp4"), ("GIF", "gif-in.mkv"), ("WEBP", "webp-in.avi")):
        picture = encoded(plain(GREEN, 40 + len(kind), 40), kind)
        yield Odd(name, picture, (sees("green"),), modality=Modality.IMAGE)
    yield Odd("png-in.wav", encoded(plain(GREEN, 30, 40), "PNG"), (sees("green"),), modality=Modality.IMAGE)
    alone = srt([(1, 2, "An umbrella in the rain.")])
    yield Odd("alone.srt", alone.encode(), (reads("umbrella"),), modality=Modality.TEXT)
    only = Words([(1, 2, "A lighthouse keeper.")], "subrip")
    yield Odd("words-only.mkv", lambda: clip_bytes(only, container="matroska"), fate=Fate.ANY)


def damaged() -> Iterator[Odd]:
    """Yield clips that break off, or are spoiled in the middle: what can be seen of them is."""
    half = (sees("red", 0, 5), hears("low", 0, 5))
    broken = Fate.KEPT_AND_FAILED
    yield Odd("broken-off.mkv", lambda: cut(ten_seconds("matroska"), 0.6), half, fate=broken)
    yield Odd("broken-off-fragments.mp4", lambda: cut(ten_seconds("mp4", FRAGMENTS), 0.6), half, fate=broken)
    yield Odd("broken-off-index-first.mp4", lambda: cut(ten_seconds("mp4", FIRST), 0.6), half, fate=broken)
    may = Fate.EITHER_WAY_KEPT  # whether these know what they lack depends on the container
    yield Odd("broken-off.avi", lambda: cut(ten_seconds_avi(), 0.6), half, fate=may)
    yield Odd(
        "broken-off-stream.mkv",
        half_a_stream,
        (sees("red", 0, 5),),
        fate=may,
    )
    yield Odd("spoiled.mkv", lambda: spoiled(ten_seconds("matroska"), 0.7, 0.8), half, fate=may)
    yield Odd("spoiled.mp4", lambda: spoiled(ten_seconds("mp4", FIRST), 0.7, 0.8), half, fate=may)


def half_a_stream() -> bytes:
    """Return the first part of ten silent seconds that were written into a pipe."""
    shown = Pictures([(RED, 5), (BLUE, 5)], options=KEYS)
    return cut(streamed_bytes(shown, container="matroska"), 0.6)


def ten_seconds_avi() -> bytes:
    """Return the ten seconds in an AVI file."""
    shown = Pictures([(RED, 5), (BLUE, 5)], "mpeg4", options={"g": "5"})
    return clip_bytes(shown, Tones([(LOW, 5), (HIGH, 5)], "libmp3lame"), container="avi")


def broken() -> Iterator[Odd]:
    """Yield what is no clip at all."""
    yield from nonsense("mp4", "mov", "m4v", "mkv", "webm", "avi")
    lost: dict[str, Make] = {
        "cut-before-its-index.mp4": lambda: cut(ten_seconds("mp4"), 0.3),
        "without-its-index.mp4": lambda: without_box(ten_seconds("mp4"), b"moov"),
        "without-its-data.mp4": lambda: without_box(film(muxer=FIRST)(), b"mdat"),
        "head-only.mp4": lambda: film()()[:32],
        "head-only.mkv": lambda: film("matroska")()[:60],
        "head-only.avi": lambda: film("avi", codec="mpeg4")()[:200],
        "no-frames.mp4": without_frames,
        "no-tracks.mkv": lambda: b"\x1aE\xdf\xa3" + zlib.compress(b"nothing"),
        "unknown-only.mp4": lambda: unknown("mp4", b"avc1"),
        "unknown-only.mkv": lambda: unknown("matroska", b"V_MPEG4/ISO/AVC"),
        "data-only.mp4": lambda: unknown("mp4", b"avc1").replace(b"vide", b"data"),
        "cover-only.mp4": lambda: clip_bytes(cover(GREEN), Tones([]), container="mp4"),
        "garbage.mp4": lambda: with_spoiled_box(film(muxer=FIRST)(), b"mdat"),
        "garbage.mkv": lambda: spoiled(film("matroska")(), 0.3, 1),
        "oversized.mov": oversized,
    }
    for name, make in lost.items():
        yield Odd(name, make, fate=Fate.FAILED)


def lures() -> Iterator[Odd]:
    """Yield play lists and scripts under the names of clips; `@FILE@` and `@URL@` are what they would open."""
    yield Odd("lure/target.mp4", film(scenes=[(GREEN, 3)], size=(72, 48)), (sees("green", 0, 3),))
    list_of = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT3S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    sdp += "m=video 39218 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    texts = {
        "hls-near.mp4": list_of.format("target.mp4"),
        "hls-far.mp4": list_of.format("@FILE@"),
        "hls-web.mp4": list_of.format("@URL@"),
        "hls-web.m4a": list_of.format("@URL@"),
        "hls-far.wav": list_of.format("@FILE@"),
        "concat-near.mkv": "ffconcat version 1.0\nfile target.mp4\n",
        "concat-far.mkv": "ffconcat version 1.0\nfile '@FILE@'\n",
        "concat-web.mp4": "ffconcat version 1.0\nfile '@URL@'\n",
        "concat-near.mp3": "ffconcat version 1.0\nfile target.mp4\n",
        "dash-near.mp4": dash.format("target.mp4"),
        "dash-web.webm": dash.format("@URL@"),
        "session.mp4": sdp,
        "session.avi": sdp.replace("\n", "\r\n"),
    }
    for name, text in texts.items():
        yield Odd(f"lure/{name}", text.encode(), fate=Fate.FAILED)


CLIPS = [*shapes(), *tracks(), *containers(), *liars(), *damaged(), *broken(), *lures()]
