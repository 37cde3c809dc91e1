import json

import pytest

from mmsearch.errors import MediaError
from mmsearch.media.sidecar import has_times, read_sidecar, sidecar_names


def captions(fields: object) -> list[str]:
    return read_sidecar(b"photo.json", json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"photo.jpg", (b"photo.txt", b"photo.json", b"photo.jpg.json")),
        (b"photo.JPG", (b"photo.txt", b"photo.json", b"photo.JPG.json")),
        (b"a.b.png", (b"a.b.txt", b"a.b.json", b"a.b.png.json")),
        (b"\xff\n.heic", (b"\xff\n.txt", b"\xff\n.json", b"\xff\n.heic.json")),
        (b"clip.mp4", (b"clip.txt", b"clip.json", b"clip.mp4.json")),
    ],
)
def test_captions_stand_beside_pictures_and_clips(name: bytes, expected: tuple[bytes, ...]) -> None:
    assert tuple(beside for beside in sidecar_names(name) if not has_times(beside))[: len(expected)] == expected


@pytest.mark.parametrize("name", [b"clip.mp4", b"talk.mp3"])
def test_subtitles_stand_beside_clips_and_sounds_in_any_language(name: bytes) -> None:
    stem = name[:4]
    names = [beside for beside in sidecar_names(name) if has_times(beside)]
    assert names[:4] == [stem + b".srt", stem + b".vtt", name + b".srt", name + b".vtt"]
    assert {stem + b".de.srt", stem + b".eng.vtt"} <= set(names)


@pytest.mark.parametrize("name", [b"note.txt", b"photo.json", b"photo", b"photo.pdf", b".jpg"])
def test_nothing_else_has_captions(name: bytes) -> None:
    assert sidecar_names(name) == ()


def test_a_text_gives_its_lines_without_blanks() -> None:
    raw = b"\xef\xbb\xbfA red  wall\r\n\r\n \t\nbehind a\ttree  \n"
    assert read_sidecar(b"photo.txt", raw) == ["A red wall", "behind a tree"]


def test_a_text_in_windows_1252_keeps_its_umlauts() -> None:
    assert read_sidecar(b"photo.txt", "Käse für Günther".encode("cp1252")) == ["Käse für Günther"]


def test_an_empty_text_gives_no_caption() -> None:
    assert read_sidecar(b"photo.txt", b"") == []
    assert read_sidecar(b"photo.txt", b" \n\n") == []


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
    assert read_sidecar(b"photo.json", raw) == ["Žluťoučký kůň"]


def test_an_emoji_in_escapes_is_one_character() -> None:
    assert read_sidecar(b"photo.json", rb'{"caption": "party \ud83c\udf89"}') == ["party 🎉"]


@pytest.mark.parametrize("escape", [rb"\ud83c", rb"\udcff", rb"\udf89\ud83c"])
def test_half_an_emoji_still_gives_a_caption_that_can_be_stored(escape: bytes) -> None:
    found = read_sidecar(b"photo.json", b'{"caption": "party ' + escape + b'"}')
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
        read_sidecar(b"photo.json", raw)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_text_is_refused() -> None:
    with pytest.raises(MediaError, match="binary"):
        read_sidecar(b"photo.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


TAKEOUT = {"title": "IMG_0001.jpg", "description": "Ann at the sea", "photoTakenTime": {"timestamp": "1500000000"}}


def test_the_name_of_a_file_in_a_takeout_is_no_caption() -> None:
    assert read_sidecar(b"a.jpg.json", json.dumps(TAKEOUT).encode()) == ["Ann at the sea"]
    assert read_sidecar(b"a.jpg.json", json.dumps(TAKEOUT | {"description": ""}).encode()) == []


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
    assert beside in sidecar_names(picture)
