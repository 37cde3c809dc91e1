"""Queries over small libraries in the space `hashing`, which knows words and colours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import mmsearch
from mmsearch import Answer, Hit, Library, MediaError, Modality, ModelError, QueryError, Settings, Term, View
from mmsearch.search.calibration import Calibration
from mmsearch.search.encode import Encoder
from mmsearch.search.items import QueryItem
from mmsearch.search.query import make_query

ONE_WORKER = Settings(workers=1)
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (20, 40, 220), "yellow": (240, 230, 40)}
COLOURS |= {"orange": (250, 140, 20), "purple": (130, 30, 140), "brown": (110, 70, 30), "grey": (128, 128, 128)}


def draw(file: Path, colour: str, second: str | None = None, share: float = 0.5) -> Path:
    """A picture of one colour, or with the lower `share` of it in a second one."""
    image = Image.new("RGB", (64, 64), COLOURS[colour])
    if second is not None:
        ImageDraw.Draw(image).rectangle((0, round(64 * (1 - share)), 63, 63), fill=COLOURS[second])
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return file


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def make_media(folder: Path) -> Path:
    for colour in ("red", "green", "blue", "yellow"):
        draw(folder / "photos" / f"{colour}.png", colour)
    draw(folder / "photos" / "flag.png", "red", "blue")
    draw(folder / "photos" / "fruit.png", "orange", "yellow", 0.25)
    draw(folder / "photos" / "lake.png", "grey", "blue", 0.25)
    write(folder / "photos" / "lake.txt", "a quiet lake at dawn")
    draw(folder / "photos" / "wall.png", "brown", "grey", 0.375)
    write(folder / "photos" / "wall.txt", "an old brown wall")
    write(folder / "notes" / "shopping.md", "milk bread butter and two lemons")
    write(folder / "notes" / "meeting.txt", "the meeting about money is on friday")
    write(
        folder / "notes" / "diary.md",
        "We walked along the river until noon.\n\nIn the evening a violin played beside the harbour.\n\n"
        + "\n\n".join(f"On day {day} nothing of note happened in house {day}." for day in range(20)),
    )
    write(folder / "notes" / "both.md", "Red red red red.\n\nBlue blue blue blue.")
    write(folder / "notes" / "mixed.md", "red blue")
    return folder


MEDIA = 13


@contextmanager
def library_of(folder: Path, *media: Path) -> Iterator[Library]:
    with mmsearch.open(folder, model="hashing", settings=ONE_WORKER) as library:
        if media:
            report = library.index(*media)
            assert report.failed == 0
        yield library


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[Library]:
    with library_of(tmp_path_factory.mktemp("library"), media) as library:
        yield library


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """More contents than are re-ranked: captioned photos whose captions suit them or don't, and notes."""
    folder = tmp_path_factory.mktemp("crowd")
    names = list(COLOURS)
    for at in range(64):
        colour, second = names[at % 8], names[at // 8]
        draw(folder / f"{at:03d}.png", colour, second, 0.25)
        if at % 3:
            write(folder / f"{at:03d}.txt", f"{colour if at % 3 == 1 else names[(at + 5) % 8]} thing number {at}")
    for at in range(64, 130):
        write(folder / f"{at:03d}.md", f"{names[at % 8]} note {at} {names[at * 3 % 8]}")
    with library_of(tmp_path_factory.mktemp("crowd library"), folder) as library:
        yield library


def found(hits: Sequence[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


def assert_in_order(hits: Sequence[Hit]) -> None:
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    scores = [hit.score for hit in hits]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)


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


# Near-duplicates


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


def cut(library: Library, item: str, k: int = 10, modalities: Sequence[str] = ()) -> Answer:
    return library.answer(make_query(item, k, modalities, cut=True))


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


# Re-ranking

QUERIES = ("red", "blue thing", "note", "green yellow thing number", "nothing at all")


@pytest.mark.parametrize("query", QUERIES)
def test_re_ranking_changes_the_order_and_not_what_is_found(crowd: Library, query: str) -> None:
    plain, ranked = (crowd.query(query, k=130, rerank=rerank) for rerank in (False, True))
    assert len(plain) == 130
    assert {hit.path for hit in ranked} == {hit.path for hit in plain}
    assert [hit.path for hit in ranked] != [hit.path for hit in plain]
    assert found(crowd.query(query, k=10, rerank=True)) == found(ranked[:10])


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("k", [10, 130])
@pytest.mark.parametrize("rerank", [False, True])
def test_scores_fall_from_hit_to_hit(crowd: Library, query: str, k: int, rerank: bool) -> None:
    hits = crowd.query(query, k=k, rerank=rerank)
    assert len(hits) == k
    assert_in_order(hits)


def test_what_is_like_the_other_answers_rises_and_the_first_stays(tmp_path: Path) -> None:
    # The first answers to "red" are partly blue; so what is blue with little red in it passes what is green with more.
    for at in range(5):
        draw(tmp_path / "media" / f"blue {at}.png", "red", "blue", (32 + 2 * at) / 64)
    for colour in ("green", "yellow", "grey"):
        draw(tmp_path / "media" / f"{colour}.png", "red", colour, 48 / 64)
    draw(tmp_path / "media" / "blue late.png", "red", "blue", 50 / 64)
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        plain, ranked = (found(library.query("red", k=9, rerank=rerank)) for rerank in (False, True))
    assert sorted(plain) == sorted(ranked)
    assert plain[0] == ranked[0] == "blue 0.png"
    assert plain[-1] == "blue late.png"
    assert {name.split()[0] for name in ranked[:6]} == {"blue"}


def test_by_default_a_sentence_is_not_re_ranked(crowd: Library) -> None:
    sentence = "a thing that is red beside the brown note"
    assert crowd.query(sentence, k=20) == crowd.query(sentence, k=20, rerank=False)
    assert crowd.query(sentence, k=20) != crowd.query(sentence, k=20, rerank=True)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Pictures that are partly red: nine with blue, 240 with less red and another colour, one nearly all blue."""
    folder = tmp_path_factory.mktemp("many")
    for at in range(9):
        draw(folder / f"blue {at}.png", "red", "blue", (32 + at) / 64)
    for colour in ("green", "yellow", "orange", "purple", "brown", "grey"):
        for at in range(20):
            for dot in (0, 1):
                file = draw(folder / f"{colour} {at} {dot}.png", "red", colour, (42 + at) / 64)
                with Image.open(file) as image:
                    image.putpixel((dot, 0), (0, 0, 0))
                    image.save(file)
    draw(folder / "late.png", "red", "blue", 58 / 64)
    with library_of(tmp_path_factory.mktemp("many library"), folder) as library:
        yield library


def moved(library: Library, item: str | Path | list[str | Path], **options: Any) -> bool:  # noqa: ANN401
    hits = library.query(item, k=40, explain=True, **options)
    return any(hit.why is not None and hit.why.agreement != 0 for hit in hits)


def test_by_default_names_and_pictures_are_re_ranked_in_a_library_of_many(many: Library, media: Path) -> None:
    photo, note = media / "photos" / "fruit.png", media / "notes" / "shopping.md"
    assert moved(many, photo)
    assert moved(many, "red")
    assert not moved(many, "a thing that is red and blue")
    assert not moved(many, note)
    assert not moved(many, ["red", "blue"])
    assert not moved(many, [photo, "blue"])


def test_of_few_answers_none_is_taken_for_a_vote(crowd: Library, media: Path) -> None:
    assert crowd.status().segments > 128
    assert not moved(crowd, media / "photos" / "fruit.png", modalities={"image"})  # 64 of them
    assert moved(crowd, media / "photos" / "fruit.png", modalities={"image"}, rerank=True)


@pytest.mark.parametrize("item", ["red", "blue", "orange"])
def test_re_ranked_hits_dont_depend_on_how_many_are_asked_for(many: Library, item: str) -> None:
    everything = found(many.query(item, k=250, rerank=True))
    assert everything != found(many.query(item, k=250, rerank=False))
    for k in (1, 5, 40):
        assert found(many.query(item, k=k, rerank=True)) == everything[:k]


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


def test_a_hit_says_why_where_it_is_asked(crowd: Library) -> None:
    assert all(hit.why is None for hit in crowd.query("red thing"))
    hits = crowd.query("red thing", rerank=True, explain=True)
    for hit in hits:
        assert hit.why is not None
        assert hit.why.first_stage + hit.why.agreement == pytest.approx(hit.score, abs=1e-4)
        likes = [one.similarity for one in hit.why.neighbours]
        assert likes == sorted(likes, reverse=True)
        assert hit.path not in [one.path for one in hit.why.neighbours]
    assert any(hit.why and hit.why.agreement > 0 and hit.why.neighbours for hit in hits)
    plain = crowd.query("red thing", rerank=False, explain=True)
    assert all(hit.why and hit.why.agreement == 0 and hit.why.neighbours == () for hit in plain)


# Confidence


def test_a_library_of_fewer_than_100_segments_has_no_confidence_and_cuts_nothing(library: Library) -> None:
    assert library.status().segments < 100
    answer = cut(library, "zebra")
    assert answer.hits
    assert (answer.weak, {hit.confidence for hit in answer.hits}) == (0, {None})


def test_what_is_there_is_more_certain_than_what_isnt(crowd: Library) -> None:
    there = crowd.query("purple", k=1)[0].confidence
    absent = [crowd.query(text, k=1)[0].confidence for text in ("zebra", "volcano", "trombone", "harbour at dawn")]
    assert there is not None
    assert all(one is not None and 0 <= one < there <= 1 for one in absent)


def test_confidence_doesnt_depend_on_how_many_hits_are_asked_for(crowd: Library) -> None:
    few, many = (crowd.query("purple thing", k=k) for k in (3, 100))
    assert [hit.confidence for hit in few] == pytest.approx([hit.confidence for hit in many[:3]])


def test_only_words_that_ask_alone_have_a_confidence(crowd: Library, media: Path) -> None:
    photo = Term(media / "photos" / "fruit.png")
    for items in ([photo], [Term("purple"), Term("red")], [Term("purple"), Term("red", -1)], [Term("purple"), photo]):
        assert {hit.confidence for hit in crowd.query(items, cut=True)} == {None}


def test_weak_matches_are_cut_and_counted_however_few_are_asked_for(
    crowd: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = crowd.query("purple", k=50)
    sure = [hit.confidence or 0.0 for hit in hits]
    monkeypatch.setattr("mmsearch.search.answer.WEAK", sorted(sure)[30])
    strong = [hit.path for hit, one in zip(hits, sure, strict=True) if one >= sorted(sure)[30]]
    for k in (1, 3, 10):
        answer = crowd.answer(make_query("purple", k=k, cut=True))
        assert [hit.path for hit in answer.hits] == strong[:k]
        assert answer.weak + answer.hidden == [hit.path for hit in hits].index(strong[k - 1]) + 1 - k
        assert [hit.rank for hit in answer.hits] == list(range(1, k + 1))


def test_a_torn_calibration_gives_no_confidence_and_the_next_run_mends_it(crowd: Library, tmp_path: Path) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "torn")
    for file in folder.rglob("*.bank.npz"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        assert library.query("purple", k=1)[0].confidence is None
        added = draw(tmp_path / "media" / "added.png", "purple", "grey", 0.1)
        library.index(added)
        assert library.query("purple", k=1)[0].confidence is not None


def test_a_calibration_is_made_anew_when_an_eighth_of_a_view_is_new(crowd: Library, tmp_path: Path) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "library")

    def written() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*.bank.npz")}

    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        before = written()
        assert len(before) == 2
        draw(tmp_path / "media" / "one.png", "purple", "grey", 0.1)
        library.index(tmp_path / "media")
        assert written() == before
        for at in range(2, 14):
            draw(tmp_path / "media" / f"{at}.png", "purple", "grey", at / 16)
        library.index(tmp_path / "media")
        assert [name for name in before if written()[name] != before[name]] == ["visual.bank.npz"]
        grown = written()
        for at in range(2, 14):  # as many are gone as come
            (tmp_path / "media" / f"{at}.png").unlink()
            draw(tmp_path / "media" / f"other {at}.png", "brown", "orange", at / 16)
        library.index(tmp_path / "media")
        assert [name for name in grown if written()[name] != grown[name]] == ["visual.bank.npz"]
        library.forget(tmp_path / "media", *(hit.path for hit in library.query("note", k=60, modalities={"text"})))
        assert written() == {}  # fewer than 100 segments are left


def test_a_view_much_smaller_than_it_was_measured_has_no_confidence(
    crowd: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "library")
    monkeypatch.setattr(Calibration, "catch_up", lambda _: None)  # as if killed before
    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        photos = [hit.path for hit in library.query("red", k=60, modalities={"image"})]
        library.forget(*photos[10:])
        hits = library.query("red", modalities={"image"}, cut=True)
        assert {hit.confidence for hit in hits if hit.view is View.VISUAL} == {None}


def test_a_run_whose_bank_cant_be_asked_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_space: object) -> None:
        raise ModelError("text.onnx can't be loaded")

    monkeypatch.setattr("mmsearch.search.calibration._texts", fail)
    for at in range(120):
        write(tmp_path / "media" / f"{at}.md", f"note {at}")
    with library_of(tmp_path / "library") as library:
        assert library.index(tmp_path / "media").added == 120
        assert "how sure a hit is can't be measured" in caplog.text
        assert library.query("note 7", k=1)[0].confidence is None


def test_a_file_of_bytes_by_chance_is_no_calibration(crowd: Library, tmp_path: Path) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "library")
    (file, *_) = (whole for whole in folder.rglob("visual.bank.npz"))
    content, random = bytearray(file.read_bytes()), np.random.default_rng(0)
    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        for turn in range(60):
            harmed = content.copy()
            place = int(random.choice([0, len(content) - 900])) + int(random.integers(0, 900))
            harmed[place] ^= 1 << int(random.integers(0, 8))
            file.write_bytes(harmed)
            os.utime(file, ns=(turn, turn))
            assert library.query("purple", k=1, modalities={"image"})


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


# The library underneath


def test_a_content_goes_by_the_first_of_its_paths_in_byte_order(tmp_path: Path) -> None:
    first = draw(tmp_path / "media" / "m.png", "red", "blue")
    for name in ("z.png", "é.png", "a.png", "Z.png", "sub/A.png"):
        (tmp_path / "media" / name).parent.mkdir(exist_ok=True)
        shutil.copy(first, tmp_path / "media" / name)
    draw(tmp_path / "media" / "green.png", "green")
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        hits = library.query("red blue", k=10)
        assert found(hits) == ["Z.png", "green.png"]
        (tmp_path / "media" / "Z.png").unlink()
        library.index(tmp_path / "media")
        assert found(library.query("red blue", k=10)) == ["a.png", "green.png"]
        assert library.query(tmp_path / "media" / "é.png", k=1)[0].path.name == "a.png"


def test_a_deleted_file_is_gone_and_a_renamed_one_found_after_the_next_index(tmp_path: Path) -> None:
    media = make_media(tmp_path / "media")
    with library_of(tmp_path / "library", media) as library:
        assert found(library.query("green", k=1)) == ["green.png"]
        (media / "photos" / "green.png").unlink()
        (media / "photos" / "red.png").rename(media / "photos" / "poppy.png")
        report = library.index(media)
        assert (report.removed, report.reused, report.added) == (2, 1, 0)
        hits = library.query("green", k=100)
        assert "green.png" not in found(hits)
        assert len(hits) == MEDIA - 1
        assert library.query("red", k=1, modalities={"image"})[0].path == media / "photos" / "poppy.png"
        draw(media / "photos" / "leaf.png", "green", "yellow", 0.125)
        library.index(media)
        assert found(library.query("green", k=1)) == ["leaf.png"]


def test_answers_dont_depend_on_the_run_or_on_the_order_of_indexing(
    library: Library, media: Path, tmp_path: Path
) -> None:
    with library_of(tmp_path / "other") as other:
        for paths in (
            [media / "photos" / f"{name}.png" for name in ("yellow", "lake", "flag")],
            [media / "notes"],
            [media],
        ):
            other.index(*paths)
        for item in ("red", "a quiet blue lake", "evening", media / "photos" / "flag.png", media / "notes" / "both.md"):
            for rerank in (False, True):
                hits = library.query(item, k=100, rerank=rerank)
                assert library.query(item, k=100, rerank=rerank) == hits
                again = other.query(item, k=100, rerank=rerank)
                assert [(hit.path, hit.view, hit.text) for hit in again] == [
                    (hit.path, hit.view, hit.text) for hit in hits
                ]
                assert [hit.score for hit in again] == pytest.approx([hit.score for hit in hits], abs=1e-4)


def test_equal_scores_are_ordered_by_path_however_many_there_are(tmp_path: Path) -> None:
    for folder, numbers in (("b", range(80)), ("a", range(80, 160))):
        for number in numbers:
            write(tmp_path / folder / f"{number}.md", "red" + "." * number)  # other bytes, the same word
    with library_of(tmp_path / "library") as library:
        library.index(tmp_path / "b")
        library.index(tmp_path / "a")
        every = library.query("red", k=160)
        assert [hit.path for hit in every] == sorted(tmp_path.glob("?/*.md"))
        assert library.query("red", k=1) == every[:1]


@contextmanager
def another_process_writes(folder: Path) -> Iterator[None]:
    hold = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder / "write.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.communicate()


def test_queries_are_answered_while_another_process_writes(tmp_path: Path) -> None:
    media = make_media(tmp_path / "media")
    with library_of(tmp_path / "library", media) as library:
        before = library.query("red", k=100)
        with another_process_writes(library.folder):
            assert library.query("red", k=100) == before
            with pytest.raises(mmsearch.LockedError, match="another process is writing"):
                library.index(media)
            with mmsearch.open(library.folder) as fresh:
                assert fresh.query("red", k=100) == before
            shutil.rmtree(library.folder / "indexes")
            with mmsearch.open(library.folder) as fresh:
                in_memory = fresh.query("red", k=100)
                assert found(in_memory) == found(before)
            assert not (library.folder / "indexes").exists()
        with mmsearch.open(library.folder) as fresh:
            assert found(fresh.query("red", k=100)) == found(before)
        assert (library.folder / "indexes").is_dir()
