"""What a person sees: thumbnails where the terminal shows them, moments, and nothing that could steer it."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.clip_maker import Pictures, Tones, clip
from support.media_maker import BLUE, GREEN, RED

from mmsearch.cli import thumbnails
from mmsearch.printable import printable
from mmsearch.types import Hit, Modality, View


def hit(path: Path, modality: Modality = Modality.IMAGE, start_s: float | None = None) -> Hit:
    end_s = None if start_s is None else start_s + 6
    return Hit(1, 2.5, None, path, modality, View.VISUAL, start_s, end_s, None, "mini")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (900, 600), "red").save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm-kitty"}, thumbnails.Protocol.KITTY),
        ({"KITTY_WINDOW_ID": "1"}, thumbnails.Protocol.KITTY),
        ({"TERM_PROGRAM": "iTerm.app"}, thumbnails.Protocol.ITERM2),
        ({"TERM_PROGRAM": "WezTerm"}, thumbnails.Protocol.ITERM2),
        ({"TERM": "xterm-256color"}, None),
    ],
)
def test_a_terminal_is_known_by_its_environment(
    environment: dict[str, str], wanted: thumbnails.Protocol | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert thumbnails.protocol(Terminal()) == wanted
    assert thumbnails.protocol(io.StringIO()) is None


def test_an_iterm2_thumbnail_is_a_small_png_of_the_photo(photo: Path) -> None:
    sequence = thumbnails.escape(hit(photo), thumbnails.Protocol.ITERM2)
    match = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);height=6:([A-Za-z0-9+/=]+)\x07", sequence)
    assert match is not None
    png = base64.b64decode(match[2])
    assert len(png) == int(match[1])
    picture = Image.open(io.BytesIO(png))
    assert (picture.size, picture.getpixel((90, 60))) == ((180, 120), (254, 0, 0))


def test_a_kitty_thumbnail_comes_in_chunks_that_join_to_a_png(photo: Path) -> None:
    Image.effect_noise((600, 400), 90).convert("RGB").save(photo)
    sequence = thumbnails.escape(hit(photo), thumbnails.Protocol.KITTY)
    chunks = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", sequence)
    assert len(chunks) > 1
    assert "".join(f"\x1b_G{control};{data}\x1b\\" for control, data in chunks) == sequence
    assert chunks[0][0].startswith("a=T,f=100,")
    assert [control[-3:] for control, _ in chunks] == ["m=1"] * (len(chunks) - 1) + ["m=0"]
    assert max(len(data) for _, data in chunks) <= 4096
    picture = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in chunks))))
    assert picture.size == (180, 120)


def test_what_has_no_picture_has_no_thumbnail(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    for one in (hit(tmp_path / "gone.jpg"), hit(tmp_path / "broken.jpg"), hit(photo, Modality.TEXT)):
        assert thumbnails.escape(one, thumbnails.Protocol.KITTY) == ""


def test_the_thumbnail_of_a_video_is_the_frame_of_the_moment(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    clip(file, Pictures([(RED, 4), (GREEN, 4), (BLUE, 4)]))
    for start_s, colour in ((0.0, RED), (4.0, GREEN), (8.0, BLUE)):
        moment = replace(hit(file, Modality.VIDEO), start_s=start_s, end_s=start_s + 4)
        data = "".join(re.findall(r";([A-Za-z0-9+/=]*)\x1b", thumbnails.escape(moment, thumbnails.Protocol.KITTY)))
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert np.abs(np.asarray(picture)[30, 40].astype(int) - colour).max() < 12
    clip(file, Tones([(440.0, 3)]))
    assert thumbnails.escape(hit(file, Modality.VIDEO), thumbnails.Protocol.KITTY) == ""


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[31m\nb\x7f\u202ec\udce9") == r"a\x1b[31m\nb\x7f\u202ec\udce9"
    assert printable("Příliš žluťoučký 猫") == "Příliš žluťoučký 猫"


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Run a command on a pseudo-terminal of 80 columns and return all it wrote."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def unfolded(shown: str) -> str:
    """Return what stands on a terminal where long paths are folded, without spaces and ends of lines."""
    return "".join(shown.split())


def test_a_person_sees_a_bar_a_table_and_thumbnails(photo: Path, tmp_path: Path) -> None:
    mmsearch_command = [sys.executable, "-m", "mmsearch"]
    library = {"MMSEARCH_LIBRARY": str(tmp_path / "library")}
    bar = on_a_terminal([*mmsearch_command, "index", str(photo), "--model", "hashing"], library)
    assert "indexing" in bar
    assert "bound by" in bar
    assert "1 added" in bar
    table = on_a_terminal([*mmsearch_command, "query", "red"], library)
    assert "photo.jpg" in unfolded(table)
    assert "visual" in table
    shown = on_a_terminal([*mmsearch_command, "query", "red"], {**library, "TERM_PROGRAM": "iTerm.app"})
    assert "\x1b]1337;File=inline=1" in shown
    assert "photo.jpg" in unfolded(shown)


@pytest.mark.parametrize("hidden", ["\u034f", "\u180b", "\u17b4", "\U000e0100", "\ufe0f", "\u115f"])
def test_a_character_that_shows_nothing_is_escaped(hidden: str) -> None:
    assert printable(f"pay{hidden}pal") == f"pay{hidden.encode('unicode_escape').decode()}pal"


def test_marks_that_strike_letters_out_or_pile_up_are_escaped() -> None:
    assert printable("g\u0336o\u0336") == r"g\u0336o\u0336"
    assert printable("a" + "\u0301" * 500) == "a" + "\u0301" * 4 + r"\u0301" * 496


@pytest.mark.parametrize("words", ["e\u0301te\u0301", "o\u0302\u0301", "हिन्दी", "ภาษาไทย", "שָׁלוֹם", "❤ 🐈"])
def test_accents_vowel_signs_and_emoji_stay_readable(words: str) -> None:
    assert printable(words) == words
