"""Queries by texts, pictures and several terms over a small library: which hits there are, and in what order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.search_libraries import MEDIA, assert_in_order, draw, found, library_of
from support.search_libraries import library as library
from support.search_libraries import media as media

from mmsearch import Hit, Library, MediaError, Modality, QueryError, Term, View
from mmsearch.search.encode import Encoder
from mmsearch.search.items import QueryItem

# Hits


def test_words_find_the_picture_that_shows_them_and_the_note_that_says_them(library: Library) -> None:
    assert found(library.query("green", k=1)) == ["green.png"]
    assert found(library.query("orange yellow", k=1)) == ["fruit.png"]
    assert found(library.query("butter and lemons", k=1)) == ["shopping.md"]


def test_a_hit_says_what_was_found(library: Library, media: Path) -> None:
    (hit,) = library.query("green", k=1)
    assert hit == Hit(
        rank=1,
        score=hit.score,
        confidence=None,
        path=media / "photos" / "green.png",
        modality=Modality.IMAGE,
        view=View.VISUAL,
        start_s=None,
        end_s=None,
        text=None,
        space="hashing",
        id=hit.id,
    )
    assert hit.score > 1  # standard deviations from what unrelated items reach
    assert hit.id is not None
    assert library.item(hit.id).path == hit.path


def test_there_is_one_hit_a_content_and_no_more_than_there_are(library: Library) -> None:
    hits = library.query("red", k=1000)
    assert len(hits) == len({hit.path for hit in hits}) == MEDIA
    assert_in_order(hits)


@pytest.mark.parametrize("k", [1, 2, 5, 12, 13, 14])
def test_the_first_k_are_the_same_whatever_k_is(library: Library, k: int) -> None:
    every = library.query("a red evening", k=100)
    assert library.query("a red evening", k=k) == every[:k]


def test_a_filter_keeps_the_order_of_what_it_lets_through(library: Library) -> None:
    every = library.query("blue", k=100)
    for kinds in ({"image"}, {"text"}, {Modality.IMAGE, Modality.TEXT}, {"text", "video"}):
        hits = library.query("blue", k=100, modalities=kinds)
        assert found(hits) == [hit.path.name for hit in every if hit.modality in kinds]
        assert_in_order(hits)
    assert library.query("blue", modalities={"audio", "video"}) == []


def test_a_note_of_many_passages_is_one_hit_at_its_best_passage(library: Library) -> None:
    hits = library.query("a violin in the harbour", k=100)
    assert found(hits).count("diary.md") == 1
    assert hits[0].path.name == "diary.md"
    assert hits[0].text == "In the evening a violin played beside the harbour."
    other = next(hit for hit in library.query("day 7 in house 7", k=100) if hit.path.name == "diary.md")
    assert other.text == "On day 7 nothing of note happened in house 7."


def test_a_photo_may_answer_by_its_caption_and_says_so(library: Library) -> None:
    by_caption = library.query("a quiet lake", k=1)[0]
    assert (by_caption.path.name, by_caption.view, by_caption.text) == ("lake.png", View.TEXT, "a quiet lake at dawn")
    assert by_caption.modality is Modality.IMAGE
    by_sight = next(hit for hit in library.query("grey grey blue", k=100) if hit.path.name == "lake.png")
    assert by_sight.view is View.VISUAL


def test_an_empty_library_gives_no_hits(tmp_path: Path, media: Path) -> None:
    with library_of(tmp_path / "library") as library:
        assert library.query("red") == []
        assert library.query(media / "photos" / "red.png", rerank=True, cut=True) == []
        (tmp_path / "nothing").mkdir()
        assert library.index(tmp_path / "nothing").added == 0
        assert library.query("red", modalities={"image"}) == []


def test_a_library_of_one_thing_answers_with_it(tmp_path: Path) -> None:
    with library_of(tmp_path / "library", draw(tmp_path / "red.png", "red")) as library:
        for rerank in (False, True):
            assert found(library.query("blue", rerank=rerank, cut=True)) == ["red.png"]


# What is asked


def test_a_queried_file_comes_first(library: Library, media: Path) -> None:
    for file in sorted(media.rglob("*.png")) + sorted(media.rglob("notes/*")):
        hits = library.query(file, k=MEDIA)
        assert hits[0].path == file
        assert len(hits) == MEDIA
        assert_in_order(hits)
        assert library.query(file, k=1) == hits[:1]


def test_a_queried_file_comes_first_even_where_another_answers_better(library: Library, media: Path) -> None:
    # The mean of both.md's passages is just what mixed.md says, and neither passage is.
    text = library.query((media / "notes" / "both.md").read_text(), k=2)
    assert text[0].path.name == "mixed.md"
    assert found(library.query(media / "notes" / "both.md", k=2)) == ["both.md", "mixed.md"]
    assert found(library.query(media / "notes" / "both.md", k=2, rerank=True)) == ["both.md", "mixed.md"]


def test_a_copy_or_a_renamed_file_finds_its_content_first(library: Library, media: Path, tmp_path: Path) -> None:
    copy = shutil.copy(media / "notes" / "both.md", tmp_path / "something else.txt")
    assert library.query(Path(copy), k=1)[0].path == media / "notes" / "both.md"
    shutil.copy(media / "photos" / "lake.png", tmp_path / "x.png")
    shutil.copy(media / "photos" / "lake.txt", tmp_path / "x.txt")
    assert library.query(tmp_path / "x.png", k=1)[0].path == media / "photos" / "lake.png"


def test_a_queried_file_is_left_out_where_its_modality_is_not_wanted(library: Library, media: Path) -> None:
    hits = library.query(media / "photos" / "red.png", k=100, modalities={"text"})
    assert {hit.modality for hit in hits} == {Modality.TEXT}
    assert hits[0].path.name in {"mixed.md", "both.md"}


def test_a_picture_finds_the_notes_and_pictures_that_are_like_it(library: Library, tmp_path: Path) -> None:
    asked = draw(tmp_path / "asked.png", "red", "blue", 0.375)
    assert found(library.query(asked, k=1, modalities={"image"})) == ["flag.png"]
    texts = library.query(asked, k=2, modalities={"text"})
    assert set(found(texts)) == {"mixed.md", "both.md"}


def test_a_relative_path_is_the_file_that_it_names(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(media / "photos")
    assert library.query(Path("flag.png"), k=1)[0].path == media / "photos" / "flag.png"


def test_a_negative_term_steers_away(library: Library) -> None:
    both = found(library.query("red blue", k=100, modalities={"image"}))
    assert both[0] == "flag.png"
    without = found(library.query(["red", Term("blue", -1.0)], k=100, modalities={"image"}))
    assert without[0] == "red.png"
    assert without[-1] == "blue.png"


def test_weights_decide_which_term_counts(library: Library) -> None:
    def first(red: float, blue: float) -> list[str]:
        return found(library.query([Term("red", red), Term("blue", blue)], k=3, modalities={"image"}))

    assert first(5, 1)[0] == "red.png"
    assert first(1, 5)[0] == "blue.png"
    assert first(1, 1)[0] == "flag.png"
    assert first(10, 2) == first(5, 1)


def test_a_picture_and_a_text_are_one_query(library: Library, media: Path) -> None:
    hits = library.query([media / "photos" / "red.png", "blue"], k=100, modalities={"image"})
    assert hits[0].path.name == "flag.png"
    assert set(found(hits[1:3])) == {"red.png", "blue.png"}
    away = library.query([media / "photos" / "flag.png", Term("red", -1.0)], k=1, modalities={"image"})
    assert found(away) == ["blue.png"]


def test_terms_that_cancel_each_other_out_are_an_error(library: Library) -> None:
    with pytest.raises(QueryError, match="cancel each other out"):
        library.query(["red", Term("red", -1.0)])


def test_a_text_longer_than_a_passage_is_asked_whole(library: Library) -> None:
    assert found(library.query("and " * 60 + "violin harbour evening " * 40, k=1)) == ["diary.md"]


def test_a_file_that_cant_be_read_is_an_error_of_one_line_that_names_it(library: Library, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for file in (tmp_path / "broken.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(MediaError) as caught:
            library.query(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


# Several terms


def test_a_picture_and_a_sound_ask_for_clips_that_look_like_the_one_and_sound_like_the_other() -> None:
    picture, sound, words = (QueryItem(frozenset({view})) for view in (View.VISUAL, View.AUDIO, View.TEXT))
    both = Encoder([Term("a"), Term("b")], [picture, sound])
    assert [both.query_views(view) for view in (View.VISUAL, View.AUDIO)] == [{View.VISUAL}, {View.AUDIO}]
    assert both.query_views(View.TEXT) == {View.VISUAL, View.AUDIO}
    assert both.joint_views() == {View.VISUAL, View.AUDIO}
    worded = Encoder([Term("a"), Term("b")], [picture, words])
    assert worded.query_views(View.VISUAL) == worded.query_views(View.TEXT) == {View.VISUAL, View.TEXT}
    assert worded.joint_views() == set()
    away = Encoder([Term("a"), Term("b", -1)], [picture, sound])
    assert away.query_views(View.VISUAL) == {View.VISUAL}
    assert away.query_views(View.AUDIO) == {View.VISUAL, View.AUDIO}
    assert away.joint_views() == set()
