"""Copies are hidden and counted where that is asked, and take nobody's place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.search_libraries import assert_in_order, cut, draw, found, library_of, write

import mmsearch
from mmsearch import Library
from mmsearch.search.query import make_query


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A flag, the same re-encoded, and three pictures unlike it."""
    folder = tmp_path_factory.mktemp("doubles")
    with Image.open(draw(folder / "flag.png", "red", "blue", 0.25)) as flag:
        flag.save(folder / "flag copy.jpg", quality=60)
    draw(folder / "sea.png", "blue", "grey", 0.25)
    draw(folder / "beach.png", "yellow")
    draw(folder / "wood.png", "green")
    with library_of(tmp_path_factory.mktemp("doubles library"), folder) as library:
        yield library


def test_a_re_encoded_copy_is_hidden_and_counted_when_asked(doubles: Library) -> None:
    shown = doubles.query("red red red blue", k=10)
    assert set(found(shown[:2])) == {"flag.png", "flag copy.jpg"}
    assert len(shown) == 5
    answer = cut(doubles, "red red red blue")
    assert answer.hidden == 1
    assert found(answer.hits)[0] == found(shown)[0]
    assert_in_order(answer.hits)
    assert sum("flag" in name for name in found(answer.hits)) == 1


def test_a_hidden_copy_makes_room_for_the_next(doubles: Library) -> None:
    answer = cut(doubles, "red red red blue", k=2)
    assert len(answer.hits) == 2
    assert "flag" in answer.hits[0].path.name
    assert "flag" not in answer.hits[1].path.name
    assert answer.hidden == 1
    assert cut(doubles, "red red red blue", k=1).hidden == 0  # nothing was left out to show one


def test_a_copy_at_the_end_is_counted_too(doubles: Library) -> None:
    shown = found(doubles.query("yellow green", k=10))
    assert {"flag.png", "flag copy.jpg"} <= set(shown[2:])
    answer = cut(doubles, "yellow green")
    assert answer.hidden == len(shown) - len(answer.hits)
    assert answer.hidden >= 1


def test_unlike_photos_with_the_same_caption_are_both_shown(tmp_path: Path) -> None:
    for colour in ("yellow", "green"):
        draw(tmp_path / "media" / f"{colour}.png", colour)
        write(tmp_path / "media" / f"{colour}.txt", "our summer holiday in france")
    shutil.copy(tmp_path / "media" / "green.txt", tmp_path / "media" / "tree.txt")
    with Image.open(tmp_path / "media" / "green.png") as green:
        green.resize((90, 90)).save(tmp_path / "media" / "tree.png")
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        for query in ("our summer holiday in france", "green"):
            answer = cut(library, query)
            assert "yellow.png" in found(answer.hits)
            assert (len(answer.hits), answer.hidden) == (2, 1)  # tree.png looks and reads like green.png


def test_pictures_that_are_only_much_alike_are_both_shown(tmp_path: Path) -> None:
    files = [draw(tmp_path / "media" / f"{at}.png", "red", "blue", at / 64) for at in (26, 34)]
    one, other = mmsearch.embed(list(files), model="hashing")
    assert 0.9 < one @ other < 0.98
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        assert (len(cut(library, "red").hits), cut(library, "red").hidden) == (2, 0)


def test_copies_dont_take_the_place_of_what_comes_after_them(tmp_path: Path) -> None:
    for at in range(120):
        file = draw(tmp_path / "media" / f"{at:03d}.png", "red")
        with Image.open(file) as image:
            image.putpixel((at % 64, at // 64), (215, 20, 20))
            image.save(file)
    for colour in ("green", "blue", "yellow", "purple", "grey", "brown"):
        draw(tmp_path / "media" / f"{colour}.png", "red", colour)
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        answer = library.answer(make_query("red", k=5, cut=True))
        assert len({hit.path.stem for hit in answer.hits} - {f"{at:03d}" for at in range(120)}) == 4
        assert answer.hidden == 119
