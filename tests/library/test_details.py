"""What a library knows of a file, in words and as JSON: names, facts, segments, texts with their origin, failures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Run
from PIL import Image
from support.media_maker import RED, encoded, exif, put

import mmsearch
from mmsearch import UsageError
from mmsearch.records import Origin

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of a captioned picture under two names, a song with subtitles, a note and a broken file."""
    folder = tmp_path_factory.mktemp("details")
    media = folder / "media"
    picture = encoded(Image.new("RGB", (40, 30), RED), "JPEG", exif=exif(description="a barn in the evening"))
    put(media, "barn.jpg", picture)
    put(media, "copy.jpg", picture)
    tone = np.sin(np.arange(12 * RATE_HZ) / 8) * 0.3
    soundfile.write(media / "song.wav", tone, RATE_HZ)
    put(media, "song.de.srt", "1\n00:00:01,000 --> 00:00:02,000\nHallo\n")
    put(media, "note.txt", "Buy bread.\n")
    put(media, "trip.org", "* The harbour\nBoats lie there.\n")
    put(media, "broken.png", b"\x89PNG\r\n\x1a\n nothing")
    with mmsearch.open(folder / "library", model="hashing") as library:
        library.index(media)
    return folder


def test_a_picture_is_known_by_all_its_names_its_facts_and_its_words(shelf: Path) -> None:
    with mmsearch.open(shelf / "library") as library:
        details = library.details(shelf / "media" / "copy.jpg")
        items = {item.path.name: item for item in library.items()}
    assert [path.name for path in details.paths] == ["barn.jpg", "copy.jpg"]
    assert details.item == items["barn.jpg"]
    assert (details.item.facts.width, details.item.facts.height) == (40, 30)
    assert [(text.origin, text.words) for text in details.item.texts] == [(Origin.CAPTION, "a barn in the evening")]
    assert len(details.segments) == 1
    assert details.failure is None


def test_each_segment_of_a_sound_has_its_time_and_what_is_said_in_it(shelf: Path) -> None:
    with mmsearch.open(shelf / "library") as library:
        details = library.details(shelf / "media" / "song.wav")
    starts = [segment.start_s or 0.0 for segment in details.segments]
    assert len(starts) > 1
    assert starts == sorted(set(starts))
    said = [text for text in details.segments[0].texts if text.origin is Origin.SUBTITLE]
    assert [(text.words, text.language, text.span) for text in said] == [("Hallo", "de", (1.0, 2.0))]


def test_each_segment_of_a_document_has_its_heading(shelf: Path) -> None:
    with mmsearch.open(shelf / "library") as library:
        details = library.details(shelf / "media" / "trip.org")
    assert [segment.heading for segment in details.segments] == ["The harbour"]


def test_a_file_that_failed_says_why_and_what_is_not_held_is_an_error(shelf: Path) -> None:
    with mmsearch.open(shelf / "library") as library:
        broken = library.details(shelf / "media" / "broken.png")
        assert broken.item is None
        assert broken.failure is not None
        assert broken.failure.path == broken.paths[0] == shelf / "media" / "broken.png"
        with pytest.raises(UsageError, match=r"nothing at .*nowhere\.jpg; 'mmsearch index'"):
            library.details(shelf / "nowhere.jpg")


def test_show_prints_what_is_known(shelf: Path, run: Run) -> None:
    def show(name: str, *options: str) -> str:
        done = run("show", name, *options, library=shelf / "library", cwd=shelf / "media")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert show("song.wav").splitlines()[:5] == [
        f"path      {shelf}/media/song.wav",
        "kind      audio",
        "duration  00:12",
        "segment   1  00:00-00:10",
        "  subtitle de 00:01 Hallo",
    ]
    assert "  caption           a barn in the evening" in show("barn.jpg")
    assert "failure   " in show("broken.png")
    found = json.loads(show("copy.jpg", "--json"))
    assert found["paths"] == [f"{shelf}/media/barn.jpg", f"{shelf}/media/copy.jpg"]
    assert (found["facts"]["width"], found["facts"]["height"], found["facts"]["camera"]) == (40, 30, None)
    words = {"origin": "caption", "words": "a barn in the evening", "language": "", "start_s": None, "end_s": None}
    assert found["segments"] == [{"start_s": None, "end_s": None, "silent": False, "texts": [words]}]
    assert found["failure"] is None
    missing = run("show", "nowhere.jpg", library=shelf / "library", cwd=shelf / "media")
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (2, "", 1)
