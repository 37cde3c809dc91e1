"""The tags of sounds and clips are captions, keywords and facts, but not what programs write by themselves."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import av
import pytest
from support.clip_maker import LOW, Pictures, Tones, Track, clip
from support.described_media import SUMMER, items
from support.media_maker import RED

from mmsearch.media.container_metadata import describe_tags
from mmsearch.records import Origin


def test_tags_of_a_container_are_captions_keywords_and_facts() -> None:
    found = describe_tags(
        {
            "TITLE": "A song of geese",
            "artist": "The Grandmothers",
            "comment": "recorded on the farm",
            "genre": "Folk; Choir",
            "lyrics-eng": "The goose walks\ninto the kitchen",
            "encoder": "Lavf62.1.1",
            "com.apple.quicktime.creationdate": "2019-06-01T12:30:15+0200",
            "com.apple.quicktime.camera.lens_model": "iPhone 12 back camera 4.2mm f/1.6",
            "com.apple.quicktime.keywords": "farm",
        }
    )
    expected = ("A song of geese", "The Grandmothers", "recorded on the farm", "The goose walks", "into the kitchen")
    assert found.captions == expected
    assert found.keywords == ("Folk", "Choir", "farm")
    assert found.fields["lens"] == "iPhone 12 back camera 4.2mm f/1.6"
    assert found.fields["taken_at"] == datetime(2019, 6, 1, 12, 30, 15, tzinfo=SUMMER)


@pytest.mark.parametrize(
    "words",
    [
        "https://example.org/x",
        "vid:v0f025",
        "Encoded by LAME",
        "Track 07",
        "Unknown Artist",
        "00001234 0000ABCD 00001234 0000ABCD",
    ],
)
def test_what_programs_write_into_tags_is_no_caption(words: str) -> None:
    assert describe_tags({"comment": words, "title": words}).captions == ()


def test_tags_of_windows_programs_keep_their_letters() -> None:
    song = "Песня про гусей"
    assert describe_tags({"title": song.encode("cp1251").decode("latin-1")}).captions == (song,)
    assert describe_tags({"title": "Gänse".encode().decode("latin-1")}).captions == ("Gänse",)
    assert describe_tags({"title": "Gänse"}).captions == ("Gänse",)


TAGS = {"title": "A song of geese", "artist": "The Grandmothers", "comment": "recorded on the farm", "genre": "Folk"}


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.ogg", "a.opus", "a.flac", "a.wav", "a.mp4", "a.mkv", "a.mov"])
def test_tags_are_read_in_every_kind_of_sound_and_clip(tmp_path: Path, name: str) -> None:
    codecs = {"mp3": "libmp3lame", "ogg": "vorbis", "opus": "opus", "flac": "flac", "wav": "pcm_s16le"}
    ending = name[2:]
    pictures = [Pictures([(RED, 1.0)])] if ending in ("mp4", "mkv", "mov") else []
    rate = 48_000 if ending == "opus" else 44_100
    layout = "stereo" if ending in ("ogg", "opus") else "mono"
    tracks: list[Track] = [*pictures, Tones([(LOW, 1.0)], codecs.get(ending, "aac"), rate, layout)]
    plain = tmp_path / f"plain.{ending}"
    clip(plain, *tracks)
    with av.open(str(plain)) as read, av.open(str(tmp_path / name), "w") as made:
        streams = [made.add_stream_from_template(stream) for stream in read.streams]
        made.metadata.update(TAGS)
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    plain.unlink()
    found = items(tmp_path)[name]
    assert found[0][0] == (Origin.CAPTION, "A song of geese The Grandmothers recorded on the farm")
    assert found[1].keywords == ("Folk",)
    assert (Origin.TAGS, "Folk") in found[0]
