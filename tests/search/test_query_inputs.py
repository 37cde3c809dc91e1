"""What a program may ask with beside texts and paths: bytes, pictures, pixels and vectors; and what a library lists."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmsearch
from mmsearch import (
    Answer,
    FileFacts,
    Library,
    Limits,
    MediaError,
    Modality,
    Origin,
    Query,
    QueryError,
    Settings,
    Term,
    Text,
    UsageError,
    View,
)
from mmsearch.media.image import read_image
from mmsearch.search.inputs import as_picture

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


def picture(colour: str) -> Image.Image:
    """Return a picture that isn't the same upside down or mirrored."""
    made = Image.new("RGB", (48, 32), COLOURS[colour])
    made.paste((255, 255, 255), (0, 0, 20, 10))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for colour in COLOURS:
        picture(colour).save(folder / f"{colour}.png")
        (folder / f"{colour} note.txt").write_text(f"a {colour} car")
    (folder / "red.txt").write_text("what stands beside the red picture")
    (folder / "copy of blue.png").write_bytes((folder / "blue.png").read_bytes())
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(16_000)) * 9_000).astype("<i2").tobytes())
    return folder


@pytest.fixture(scope="module")
def library(folder: Path) -> Iterator[Library]:
    with mmsearch.open(folder / "library", model="hashing", settings=Settings(workers=1)) as made:
        assert made.index(folder, exclude=["library"]).failed == 0
        yield made


@pytest.mark.parametrize("name", ["green.png", "tone.wav", "green note.txt"])
def test_the_bytes_of_a_file_ask_as_the_file_does(name: str, library: Library, folder: Path) -> None:
    by_path = library.query(folder / name)
    assert library.query((folder / name).read_bytes()) == by_path
    assert by_path[0].path.name == name


def test_bytes_are_gone_from_the_disk_once_they_are_read(
    library: Library, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    library.query((folder / "red.png").read_bytes())
    with pytest.raises(MediaError, match=r"^the bytes of the query: "):
        library.query((folder / "red.png").read_bytes()[:60])
    with pytest.raises(MediaError, match="not a kind of file that mmsearch knows"):
        library.query(b"\x00\x01 no kind of file at all")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_in_memory_asks_as_its_file_does(library: Library, folder: Path) -> None:
    (wanted,) = library.embed(folder / "green.png")
    with Image.open(folder / "green.png") as opened:
        pixels = np.asarray(opened)
        forms: list[Any] = [
            opened,
            pixels,
            pixels / np.float32(255),
            np.dstack([pixels, np.full((32, 48), 255, np.uint8)]),
        ]
        for embedded in library.embed(forms):
            assert float(embedded @ wanted) > 0.9999
        assert library.query(opened)[0].path.name == "green.png"


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_picture_in_memory_is_turned_upright_as_its_file_is(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture("green").save(tmp_path / "turned.png", exif=exif)
    with (tmp_path / "turned.png").open("rb") as file, Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(np.asarray(as_picture(opened)), np.asarray(read_image(file, Limits())[0]))


def test_a_vector_of_the_library_finds_the_item_that_it_belongs_to(library: Library) -> None:
    paths = {item.id: item.path for item in library.items()}
    ids, vectors = library.vectors(view="visual")
    assert (str(vectors.dtype), str(ids.dtype), len(ids)) == ("float32", "int64", 3)
    assert ids.tolist() == sorted(ids.tolist())
    for item, vector in zip(ids.tolist(), vectors, strict=True):
        assert library.query(vector, modalities="image")[0].path == paths[item]
        assert library.query(vector.astype(np.float64) * 1e300, modalities="image")[0].path == paths[item]
        assert library.query(Term(vector, 0.5), modalities="image")[0].path == paths[item]


def test_a_vector_that_no_space_has_and_a_view_that_is_none_are_usage_errors(library: Library) -> None:
    dim = library.vectors(View.TEXT)[1].shape[1]
    with pytest.raises(QueryError, match=rf"the vector has 7 numbers, but those of the model hashing have {dim}"):
        library.query(np.ones(7, np.float32))
    with pytest.raises(UsageError, match="there is no view 'smell'; views are audio, text, visual"):
        library.vectors(view="smell")
    with pytest.raises(QueryError, match="embedded already"):
        library.embed(np.ones(dim, np.float32))


@pytest.mark.parametrize(
    "item",
    [
        7,
        None,
        {"red": 1},
        np.zeros(8, np.float32),
        np.asarray([1.0, np.nan]),
        np.ones(8, np.int64),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.full((4, 4), 2.0),
        np.full((4, 4), -1.0),
        np.asarray(["red"], object),
    ],
    ids=repr,
)
def test_what_no_query_can_ask_with_is_a_query_error_before_anything_is_read(item: object) -> None:
    with pytest.raises(QueryError):
        Query((Term(item),))  # type: ignore[arg-type]


def test_several_queries_have_one_answer_each_in_their_order(library: Library, folder: Path) -> None:
    asked: list[Any] = [
        "a red car",
        folder / "blue.png",
        ["a green car", picture("green")],
        Query((Term("blue"),), k=1),
    ]
    answers = library.query_many(asked, k=3)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert [answer.hits for answer in answers[:3]] == [library.query(query, k=3) for query in asked[:3]]
    assert len(answers[3].hits) == 1


def test_a_library_lists_each_content_once_with_what_is_written_of_it(library: Library, folder: Path) -> None:
    items = list(library.items())
    assert [item.id for item in items] == sorted({item.id for item in items})
    by_name = {item.path.name: item for item in items}
    assert "blue.png" in by_name  # of two names of one content, the first in byte order
    assert "copy of blue.png" not in by_name
    assert by_name["red.png"].texts == (Text(Origin.CAPTION, "what stands beside the red picture"),)
    assert by_name["green note.txt"].texts == (Text(Origin.PASSAGE, "a green car"),)
    assert (by_name["red.png"].facts.width, by_name["green note.txt"].facts) == (48, FileFacts())
    assert (by_name["tone.wav"].modality, by_name["tone.wav"].texts) == (Modality.AUDIO, ())
    assert all(item.path.parent == folder for item in items)
