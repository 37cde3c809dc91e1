"""Captions and subtitles that stand beside a file: which are its own, and what is read of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmsearch.errors import MediaError
from mmsearch.media import Sidecars, find_sidecars
from mmsearch.media.captions import read_captions
from mmsearch.media.sidecar import language_of


def captions(fields: object) -> list[str]:
    return list(read_captions(b"photo.json", json.dumps(fields).encode()).captions)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        (b"photo.jpg", (b"photo.txt", b"photo.json", b"photo.jpg.json")),
        (b"photo.JPG", (b"photo.txt", b"photo.json", b"photo.JPG.json")),
        (b"a.b.png", (b"a.b.txt", b"a.b.json", b"a.b.png.json")),
        (b"\xff\n.heic", (b"\xff\n.txt", b"\xff\n.json", b"\xff\n.heic.json")),
        (b"clip.mp4", (b"clip.txt", b"clip.json", b"clip.mp4.json")),
        (b"UPPER.JPG", (b"UPPER.TXT",)),
        (b"mixed.JPG", (b"mixed.txt",)),
        (b"lower.jpg", (b"lower.TXT",)),
        (b"Case.jpg", (b"case.txt",)),
    ],
)
def test_captions_stand_beside_pictures_and_clips(name: bytes, beside: tuple[bytes, ...]) -> None:
    assert Sidecars.among([*reversed(beside), name, b"another.txt"]).of(name) == beside


def test_of_two_names_that_differ_in_case_each_has_its_own_caption() -> None:
    known = Sidecars.among([b"a.jpg", b"A.jpg", b"a.txt", b"A.txt"])
    assert known.of(b"a.jpg") == (b"a.txt",)
    assert known.of(b"A.jpg") == (b"A.txt",)


TAGGED = [
    ("clip.srt", ""),
    ("clip.SRT", ""),
    ("CLIP.srt", ""),
    ("clip.mp4.srt", ""),
    ("clip.de.srt", "de"),
    ("clip.eng.vtt", "eng"),
    ("clip.en-US.srt", "en-US"),
    ("clip.pt_BR.vtt", "pt-BR"),
    ("clip.zh-Hans.srt", "zh-Hans"),
    ("clip.sv.forced.SRT", "sv"),
    ("clip.forced.sv.srt", "sv"),
    ("clip.en.sdh.srt", "en"),
    ("clip.en.hi.srt", "en"),
    ("clip.English.srt", "en"),
    ("clip.en-orig.vtt", "en"),
    ("clip.uk.ass", "uk"),
    ("clip.lrc", ""),
    ("clip.de.sbv", "de"),
]


@pytest.mark.parametrize(("name", "language"), TAGGED)
@pytest.mark.parametrize("owner", [b"clip.mp4", b"clip.MP3"])
def test_subtitles_stand_beside_clips_and_sounds_in_any_language(name: str, language: str, owner: bytes) -> None:
    if ".mp4" in name and owner != b"clip.mp4":
        return
    assert Sidecars.among([owner, name.encode()]).of(owner) == (name.encode(),)
    assert language_of(name.encode(), owner) == language


@pytest.mark.parametrize("name", ["clip2.srt", "clip.old.srt", "clip - en.srt", "clip..srt", "other.en.srt", "cli.srt"])
def test_subtitles_of_another_name_are_not_beside(name: str) -> None:
    assert Sidecars.among([b"clip.mp4", name.encode()]).of(b"clip.mp4") == ()


def test_a_name_that_ends_like_a_language_keeps_its_subtitles() -> None:
    known = Sidecars.among([b"talk.mp4", b"talk.it.mp4", b"talk.it.srt", b"talk.srt"])
    assert known.of(b"talk.it.mp4") == (b"talk.it.srt",)
    assert known.of(b"talk.mp4") == (b"talk.srt",)
    assert language_of(b"talk.it.srt", b"talk.it.mp4") == ""


def test_full_subtitles_come_before_forced_ones_and_those_for_the_deaf() -> None:
    names = [b"a.en.forced.srt", b"a.en.sdh.srt", b"a.srt", b"a.en.srt", b"a.de.vtt", b"a.mkv"]
    assert Sidecars.among(names).of(b"a.mkv") == (
        b"a.de.vtt", b"a.en.srt", b"a.srt", b"a.en.forced.srt", b"a.en.sdh.srt",
    )  # fmt: skip


@pytest.mark.parametrize("name", [b"note.txt", b"photo.json", b"photo", b"photo.pdf", b".jpg"])
def test_nothing_else_has_captions(name: bytes) -> None:
    assert Sidecars.among([name, b"note.json", b"photo.txt", b"photo.srt"]).of(name) == ()


def test_sidecars_are_found_in_a_folder_that_cannot_be_listed_and_in_one_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "clip.mp4"
    for name in ("clip.mp4", "clip.en-GB.srt", "clip.vtt"):
        (tmp_path / name).touch()
    os.utime(tmp_path, (1, 1))
    assert names_beside(clip) == [b"clip.en-GB.srt", b"clip.vtt"]
    (tmp_path / "clip.txt").touch()
    assert len(names_beside(clip)) == 3
    monkeypatch.setattr(os, "listdir", refuse)
    assert names_beside(clip) == [b"clip.txt", b"clip.vtt"]


def names_beside(file: Path) -> list[bytes]:
    return [os.fsencode(Path(os.fsdecode(each)).name) for each in find_sidecars(os.fsencode(file))]


def refuse(*_: object) -> None:
    raise PermissionError


def test_a_text_gives_its_lines_without_blanks() -> None:
    raw = b"\xef\xbb\xbfA red  wall\r\n\r\n \t\nbehind a\ttree  \n"
    assert list(read_captions(b"photo.txt", raw).captions) == ["A red wall", "behind a tree"]


def test_a_text_in_windows_1252_keeps_its_umlauts() -> None:
    assert list(read_captions(b"photo.txt", "Käse für Günther".encode("cp1252")).captions) == ["Käse für Günther"]


def test_an_empty_text_gives_no_caption() -> None:
    assert list(read_captions(b"photo.txt", b"").captions) == []
    assert list(read_captions(b"photo.txt", b" \n\n").captions) == []


@pytest.mark.parametrize("key", ["caption", "description", "title", "alt_text", "alt", "text"])
def test_each_caption_key_of_an_object_is_read(key: str) -> None:
    assert captions({key: "A red wall"}) == ["A red wall"]


def test_a_list_of_captions_is_read_in_its_order() -> None:
    assert captions({"captions": ["A wall", "Brick"]}) == ["A wall", "Brick"]
    assert captions({"caption": ["A wall", "Brick"]}) == ["A wall", "Brick"]


def test_several_keys_are_read_and_repeats_said_once() -> None:
    fields = {"title": "Wall", "description": "Wall", "caption": "A red\n wall"}
    assert captions(fields) == ["A red wall", "Wall"]


def test_other_keys_and_other_values_are_left_alone() -> None:
    assert captions({"camera": "X100", "title": 7, "caption": None, "captions": [1, None, ["deep"], "Wall", ""]}) == [
        "Wall"
    ]
    assert captions({"title": {"de": "Mauer"}}) == []


@pytest.mark.parametrize("fields", [[], ["A wall"], "A wall", 7, None, True])
def test_json_that_is_no_object_holds_no_caption(fields: object) -> None:
    assert captions(fields) == []


def test_json_may_be_written_in_utf_16() -> None:
    raw = json.dumps({"caption": "Žluťoučký kůň"}, ensure_ascii=False).encode("utf-16")
    assert list(read_captions(b"photo.json", raw).captions) == ["Žluťoučký kůň"]


def test_an_emoji_in_escapes_is_one_character() -> None:
    assert list(read_captions(b"photo.json", rb'{"caption": "party \ud83c\udf89"}').captions) == ["party 🎉"]


@pytest.mark.parametrize("escape", [rb"\ud83c", rb"\udcff", rb"\udf89\ud83c"])
def test_half_an_emoji_still_gives_a_caption_that_can_be_stored(escape: bytes) -> None:
    found = read_captions(b"photo.json", b'{"caption": "party ' + escape + b'"}').captions
    assert found[0].startswith("party")
    assert found[0].encode("utf-8").startswith(b"party")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"caption": "unfinished',
        b"A plain sentence.",
        b"{'caption': 'single quotes'}",
        b"[" * 100_000,
        b'{"caption":' * 100_000,
        b'{"caption": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"number": ' + b"9" * 10_000 + b"}",
        b"\x00\x01\x02\x03",
        b"\xff\xfe{",
    ],
    ids=[
        "empty",
        "open",
        "cut",
        "words",
        "quotes",
        "list-bomb",
        "object-bomb",
        "closed-bomb",
        "long-number",
        "binary",
        "half-utf-16",
    ],
)
def test_what_is_no_json_is_refused_in_one_line(raw: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        read_captions(b"photo.json", raw)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_text_is_refused() -> None:
    with pytest.raises(MediaError, match="binary"):
        read_captions(b"photo.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


TAKEOUT = {"title": "IMG_0001.jpg", "description": "Ann at the sea", "photoTakenTime": {"timestamp": "1500000000"}}


def test_the_name_of_a_file_in_a_takeout_is_no_caption() -> None:
    assert list(read_captions(b"a.jpg.json", json.dumps(TAKEOUT).encode()).captions) == ["Ann at the sea"]
    assert list(read_captions(b"a.jpg.json", json.dumps(TAKEOUT | {"description": ""}).encode()).captions) == []


@pytest.mark.parametrize(
    ("picture", "beside"),
    [
        (b"IMG_1.jpg", b"IMG_1.jpg.json"),
        (b"IMG_1.jpg", b"IMG_1.jpg.supplemental-metadata.json"),
        (b"PXL_20230101_120000000.PORTRAIT.jpg", b"PXL_20230101_120000000.PORTRAIT.jpg.supplement.json"),
        (b"IMG_1(2).jpg", b"IMG_1.jpg(2).json"),
        (b"IMG_1(2).jpg", b"IMG_1.jpg.supplemental-metadata(2).json"),
        (b"IMG_1-edited.jpg", b"IMG_1.jpg.json"),
        (b"IMG_1-edited.jpg", b"IMG_1.jpg.supplemental-metadata.json"),
    ],
)
def test_every_form_of_a_takeouts_metadata_belongs_to_its_picture(picture: bytes, beside: bytes) -> None:
    assert Sidecars.among([picture, beside]).of(picture) == (beside,)
