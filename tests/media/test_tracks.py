"""Tracks of a clip: pictures are shown upright however they lie, and the main track of several is taken."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image
from PIL.Image import Transpose
from support.clip_maker import HIGH, LOW, Pictures, Tones, Words, clip_bytes, disposed, sound_bytes, wave
from support.media_maker import BLUE, GREEN, RED, plain, quarters

from mmsearch.media.frames import Block, Frame
from mmsearch.media.sound import is_silent, to_mono
from mmsearch.media.subtitles import Cue
from mmsearch.media.video import Video, frame_at
from mmsearch.settings import Limits

LIES = {
    "as it is": ((1, 0, 0, 1), ()),
    "mirrored": ((-1, 0, 0, 1), (Transpose.FLIP_LEFT_RIGHT,)),
    "upside down and mirrored": ((1, 0, 0, -1), (Transpose.FLIP_TOP_BOTTOM,)),
    "upside down": ((-1, 0, 0, -1), (Transpose.ROTATE_180,)),
    "a quarter to the right": ((0, 1, -1, 0), (Transpose.ROTATE_90,)),
    "a quarter to the left": ((0, -1, 1, 0), (Transpose.ROTATE_270,)),
    "transposed": ((0, 1, 1, 0), (Transpose.TRANSPOSE,)),
    "transversed": ((0, -1, -1, 0), (Transpose.TRANSVERSE,)),
}
"""The display matrix (a, b, c, d) of each, and how an upright picture is stored then."""


def with_matrix(mp4: bytes, matrix: tuple[int, ...]) -> bytes:
    """Write the display matrix of an MP4's first track."""
    raw = bytearray(mp4)
    at = raw.index(b"tkhd") + 4
    at += 40 if raw[at] == 0 else 52
    a, b, c, d = (0x10000 * each for each in matrix)
    raw[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    return bytes(raw)


@pytest.mark.parametrize("lies", LIES)
def test_each_of_eight_ways_to_lie_is_shown_upright(lies: str) -> None:
    matrix, turns = LIES[lies]
    upright = quarters().resize((96, 64), Image.Resampling.NEAREST)
    stored = upright
    for turn in turns:
        stored = stored.transpose(turn)
    clip = clip_bytes(Pictures([(stored, 0.5)], size=stored.size), container="mp4")
    shown = frame_at(io.BytesIO(with_matrix(clip, matrix)), 0.0, 64, Limits())
    assert shown is not None
    assert shown.size == upright.size
    apart = np.abs(np.asarray(shown, int) - np.asarray(upright.convert("RGB"), int))
    assert float(np.median(apart)) <= 8


def test_a_still_before_the_moving_pictures_is_passed_over() -> None:
    still = Pictures([(plain(GREEN), 0.1)], "mjpeg", pix_fmt="yuvj420p")
    for container in ("mov", "matroska"):
        clip = clip_bytes(still, Pictures([(plain(RED), 1.0), (plain(BLUE), 1.0)]), container=container)
        video = Video(io.BytesIO(clip), Limits())
        assert sum(isinstance(event, Frame) for event in video.events()) > 5


def test_the_default_track_of_sound_is_heard() -> None:
    tracks = (Pictures([(RED, 1.0)]), Tones([(LOW, 1.0)]), Tones([(HIGH, 1.0)]))
    clip = disposed(clip_bytes(*tracks, container="matroska"), {2: Disposition.default})
    blocks = [event.samples for event in Video(io.BytesIO(clip), Limits()).events() if isinstance(event, Block)]
    heard = np.concatenate(blocks, axis=1)[0]
    crossings = int((np.diff(np.signbit(heard[4_000:24_000])) != 0).sum())
    assert crossings > 2 * LOW / 44_100 * 20_000 * 1.5


def test_the_whole_text_is_read_and_not_the_signs() -> None:
    tracks = (Pictures([(RED, 2.0)]), Words([(0.1, 0.9, "EXIT")], "srt"), Words([(0.2, 0.8, "a goose")], "srt"))
    clip = disposed(clip_bytes(*tracks, container="matroska"), {1: Disposition.forced | Disposition.default})
    cues = [event.text for event in Video(io.BytesIO(clip), Limits()).events() if isinstance(event, Cue)]
    assert cues == ["a goose"]


def test_channels_that_cancel_each_other_are_heard() -> None:
    one = wave([(LOW, 1.0)])
    assert not is_silent(to_mono(np.stack([one, -one])))
    np.testing.assert_array_equal(to_mono(np.stack([one, -one])), one)
    np.testing.assert_allclose(to_mono(np.stack([one, 0 * one])), one / 2)
    centre = np.zeros((6, len(one)), np.float32)
    centre[2] = one
    np.testing.assert_allclose(to_mono(centre), one / 6, atol=1e-7)
    assert len(to_mono(np.zeros((2, 0), np.float32))) == 0
    assert sound_bytes([(LOW, 0.1)], channels=2)
