"""Re-ranking changes the order of hits by what agrees with them, where there are enough, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.search_libraries import assert_in_order, draw, found, library_of
from support.search_libraries import crowd as crowd
from support.search_libraries import media as media

from mmsearch import Library

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
