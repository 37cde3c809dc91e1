"""Several recordings in one file are one sound, whole and in order."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from support.clip_maker import HIGH, LOW, sound_bytes

from mmsearch.media.chains import SoundChain, open_sound
from mmsearch.media.sound import SoundFile, Wave

KINDS = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")]


def pitch(wave: Wave | None, rate: int) -> float:
    assert wave is not None
    return float((np.diff(np.signbit(wave)) != 0).sum()) * rate / 2 / len(wave)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("rates", [(48_000, 48_000), (48_000, 24_000)])
def test_recordings_one_after_the_other_are_heard_whole(kind: str, subtype: str, rates: tuple[int, int]) -> None:
    first, second = (
        sound_bytes([(tone, 3.0)], rate, kind=kind, subtype=subtype)
        for tone, rate in zip((LOW, HIGH), rates, strict=True)
    )
    sound = open_sound(io.BytesIO(first + second))
    assert isinstance(sound, SoundChain)
    assert sound.length_s == pytest.approx(6.0, abs=0.05)
    track = sound.read(0.0, 100.0)
    assert track.end_s == pytest.approx(6.0, abs=0.05)
    assert pitch(track.cut(0.5, 2.5, 16_000), 16_000) == pytest.approx(LOW, rel=0.05)
    assert pitch(track.cut(3.5, 5.5, 16_000), 16_000) == pytest.approx(HIGH, rel=0.05)
    assert pitch(sound.read(4.0, 1.0).cut(4.2, 4.8, 16_000), 16_000) == pytest.approx(HIGH, rel=0.05)


def test_the_same_recording_twice_is_twice_as_long_on_the_disk_too(tmp_path: Path) -> None:
    once = sound_bytes([(LOW, 2.0)], 16_000, kind="OGG", subtype="VORBIS")
    for times in (1, 2, 3):
        (tmp_path / "radio.ogg").write_bytes(once * times)
        with (tmp_path / "radio.ogg").open("rb") as file:
            assert open_sound(file).length_s == pytest.approx(2.0 * times, abs=0.05)
            assert isinstance(open_sound(file), SoundFile) == (times == 1)


@pytest.mark.parametrize("mark", [b"OggS\0\2", b"fLaC\0\0\0\x22"])
def test_a_mark_that_begins_nothing_costs_nothing(mark: bytes) -> None:
    kind = "OGG" if mark.startswith(b"Ogg") else "FLAC"
    whole = sound_bytes([(LOW, 2.0)], 16_000, kind=kind)
    sound = open_sound(io.BytesIO(whole + mark + os.urandom(500) + (mark + bytes(40)) * 50))
    assert sound.read(0.0, 9.0).end_s == pytest.approx(2.0, abs=0.1)
