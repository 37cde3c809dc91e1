"""Moments cut out of sounds and videos: the track that is heard, and never a file that the file only names."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from support.clip_maker import Pictures, Tones, clip, clip_bytes
from support.media_maker import RED

from mmsearch.errors import MediaError
from mmsearch.media.cut import cut
from mmsearch.settings import Limits


def length_s(content: bytes) -> float:
    with av.open(io.BytesIO(content), "r") as container:
        assert container.duration is not None
        return container.duration / av.time_base


def test_a_moment_of_a_clip_has_its_pictures_and_its_sound() -> None:
    content = clip_bytes(Pictures([(RED, 6.0)]), Tones([(440.0, 6.0)]), container="mp4")
    found = cut(io.BytesIO(content), 2.0, 4.0, Limits())
    with av.open(io.BytesIO(found.content)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    assert 1.5 < length_s(found.content) < 5.0


def test_a_moment_of_a_sound_is_a_sound() -> None:
    content = clip_bytes(Tones([(440.0, 6.0)], codec="pcm_s16le"), container="wav")
    found = cut(io.BytesIO(content), 1.0, 3.0, Limits())
    assert found.media_type == "audio/wav"
    assert length_s(found.content) == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize(
    "script",
    ["ffconcat version 1.0\nfile '{}'\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"],
    ids=["concat", "playlist"],
)
def test_a_file_that_names_other_files_gives_nothing_of_them(tmp_path: Path, script: str) -> None:
    secret = tmp_path / "secret.wav"
    clip(secret, Tones([(440.0, 6.0)], codec="pcm_s16le"))
    with pytest.raises(MediaError):
        cut(io.BytesIO(script.format(secret).encode()), 0.0, 2.0, Limits())
