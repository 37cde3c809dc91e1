"""The tuned constants, each by what it decides: changed by a third, any of them breaks a test here."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import mmsearch
from mmsearch import Settings, Term, View
from mmsearch.catalog import SegmentRow
from mmsearch.records import Text
from mmsearch.search.answer import NEAR_DUPLICATE, make_answer
from mmsearch.search.calibration import BankScores
from mmsearch.search.encode import Encoder
from mmsearch.search.items import QueryItem
from mmsearch.search.query import Query, make_query
from mmsearch.search.rank import Agreement, Ranking, choose_feedback, first_stage
from mmsearch.search.retrieve import Candidates, Retriever
from mmsearch.search.routes import Route, Router
from mmsearch.search.scoring import (
    Background,
    Reach,
    agreeing,
    evidence,
    fuse,
    how_many,
    hubness,
    positives,
    rerank,
    strength,
)
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.types import Modality

DIM = 64
UNIT = Background(0.0, 1.0)


def row(number: int, content: int | None = None) -> SegmentRow:
    own = number if content is None else content
    return SegmentRow(None, id=number, content_id=own, modality=Modality.IMAGE, path=f"/{own:04d}.png".encode())


def route(view: View = View.VISUAL, penalty: float = 0.0) -> Route:
    axis = np.eye(1, DIM, dtype=np.float32)[0]
    return Route(HashingSpace(), 1, view, frozenset({View.TEXT}), axis, UNIT, UNIT, penalty, 1)


def turned(cosine: float, axis: int) -> NDArray[np.float32]:
    """A unit vector of this cosine to the first axis; vectors of two axes have no more than that in common."""
    vector = np.zeros(DIM, np.float32)
    vector[0], vector[axis] = cosine, (1 - cosine**2) ** 0.5
    return vector


def ranking_of(vectors: Sequence[NDArray[np.float32]], view: View = View.VISUAL, z: Sequence[float] = ()) -> Ranking:
    scores = np.asarray(z or range(len(vectors), 0, -1), np.float32)[:, None]
    return first_stage(
        Candidates([row(n) for n in range(len(vectors))], scores, [np.stack(vectors)]), [route(view)], ()
    )


class NoTexts:
    """A catalog in which nothing is written."""

    def texts_of(self, _segments: Sequence[int]) -> dict[int, tuple[Text, ...]]:
        return {}


class Bank:
    """A calibration by which unrelated queries reach evidence 0 ± 1, with no hubs."""

    def bank_scores(self, _space: object, _view: View, _revision: int) -> BankScores:
        return BankScores(np.zeros((0, DIM), np.float32), np.ones(0, np.float32), 0.0, 1.0, Reach(0.0, 1.0), 1)


class NoBank:
    def bank_scores(self, _space: object, _view: View, _revision: int) -> None:
        return None


def answer(query: Query, ranking: Ranking, calibration: object) -> Any:  # noqa: ANN401  fakes stand for the library
    return make_answer(query, ranking, NoTexts(), calibration)  # type: ignore[arg-type]


# What is cut


@pytest.mark.parametrize(("confidence", "is_shown"), [(0.08, False), (0.12, True)])
def test_a_match_is_cut_that_nine_of_ten_unrelated_queries_beat(confidence: float, is_shown: bool) -> None:
    grid = np.linspace(-4, 4, 8001)
    reach = Reach(0.0, 1.0)
    wanted = grid[int(np.argmin([abs(reach.confidence(float(x)) - confidence) for x in grid]))]
    # One candidate: its evidence is (z + z) / 2, where z is its cosine under a bank of spread 1.
    item = np.zeros(DIM, np.float32)
    item[0] = wanted  # not a unit vector, so that any evidence can be had
    found = answer(make_query("word", cut=True), ranking_of([item], z=[1.0]), Bank())
    assert (len(found.hits), found.weak) == ((1, 0) if is_shown else (0, 1))


@pytest.mark.parametrize(
    ("view", "same", "other"), [(View.VISUAL, 0.985, 0.975), (View.AUDIO, 0.9993, 0.9986), (View.TEXT, 0.9965, 0.9935)]
)
def test_copies_are_hidden_from_a_cosine_that_depends_on_the_view(view: View, same: float, other: float) -> None:
    assert set(NEAR_DUPLICATE) == set(View)
    first = np.eye(1, DIM, dtype=np.float32)[0]
    found = answer(make_query("word", cut=True), ranking_of([first, turned(same, 1), turned(other, 2)], view), NoBank())
    assert ([hit.path.name for hit in found.hits], found.hidden) == (["0000.png", "0002.png"], 1)


def test_copies_are_looked_for_among_thirty_contents_at_least() -> None:
    first = np.eye(1, DIM, dtype=np.float32)[0]
    apart = [turned(0.0, 1 + n) for n in range(28)]
    # A copy at place 30 is compared and hidden although only one hit is wanted; it isn't shown in either case.
    query = make_query("word", k=29, cut=True)
    found = answer(query, ranking_of([first, *apart[:27], first, apart[27]]), NoBank())
    assert (len(found.hits), found.hidden) == (29, 1)


# What is explained


def test_a_hit_names_the_three_items_that_agree_with_it_most() -> None:
    ranking = ranking_of([turned(0.1, 1 + n) for n in range(6)])
    similarity = np.asarray([[0.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 6, np.float32)
    agreement = Agreement(np.zeros(6, np.float32), np.arange(6), similarity)
    explained = Ranking(ranking.candidates, ranking.routes, ranking.scores, ranking.order, ranking.leading, agreement)
    hit = answer(make_query("word", k=1, explain=True), explained, NoBank()).hits[0]
    assert [neighbour.similarity for neighbour in hit.why.neighbours] == [5.0, 4.0, 3.0]


# What is searched


class Shelf:
    """An index of contents with three or four segments each, nearest first, and the catalog that goes with it."""

    def __init__(self, contents: int, share: float) -> None:
        self.owner = [int(n / share) for n in range(int(contents * share))]
        self.asked: list[int] = []
        self.count = len(self.owner)

    def get(self, _space: object, _view: View, _revision: int) -> Shelf:
        return self

    def search(self, _queries: object, k: int, _allowed: object) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        self.asked.append(k)
        ids = np.full(k, -1, np.int64)
        ids[: min(k, self.count)] = np.arange(min(k, self.count))
        scores = np.where(ids < 0, -np.inf, -np.arange(k))
        return scores[None].astype(np.float32), ids[None]

    def segments_of(self, ids: Sequence[int]) -> dict[int, int]:
        return {i: i for i in ids}

    def segment_rows(self, ids: Sequence[int]) -> dict[int, SegmentRow]:
        return {i: row(i, self.owner[i]) for i in ids}


@pytest.mark.parametrize(("least", "first"), [(30, 110), (300, 650)])
def test_a_view_is_searched_for_two_segments_a_content_and_some_more(least: int, first: int) -> None:
    shelf = Shelf(1000, 3.5)
    retriever = Retriever(shelf, shelf)  # type: ignore[arg-type]
    query = make_query("word")
    found = retriever._nearest(query, retriever._searches([(route(), route().vector)]), None, least)
    assert shelf.asked[0] == first
    assert shelf.asked[1:] == ([] if least == 30 else [4 * first])
    assert len({one.content_id for one in found.values()}) >= least


def test_the_engine_searches_for_thirty_contents_and_deeper_where_views_are_summed(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    photo, sound = tmp_path / "red.png", tmp_path / "tone.wav"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(photo)
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(16_000)) * 9_000).astype("<i2").tobytes())
    with mmsearch.open(tmp_path / "library", model="hashing", settings=Settings(workers=1)) as library:
        library.index(tmp_path / "note.txt")
        engine = library.seen().engine
        asked: list[int] = []
        retriever = engine._retriever
        search = retriever.candidates

        def candidates(query: Query, routes: Any, own: Any, least: int) -> Candidates:  # noqa: ANN401
            asked.append(least)
            return search(query, routes, own, least)

        retriever.candidates = candidates  # type: ignore[method-assign]
        library.query("red", k=1)
        library.query("red", k=40)
        library.query("red", k=40, cut=True)
        assert asked == [30, 40, 80]
        asked.clear()
        library.query([photo, sound], k=1)
        assert asked == [500]


# How views are weighed against each other


@pytest.mark.parametrize(("cross", "first"), [(2.8, 0), (3.2, 1)])
def test_a_view_of_another_modality_is_one_deviation_behind(tmp_path: Path, cross: float, first: int) -> None:
    picture = QueryItem(frozenset({View.VISUAL}))
    encoder = Encoder([Term(tmp_path / "a.png")], [picture])

    class Own(Encoder):
        def vector(self, space: Any, item_view: View) -> NDArray[np.float32]:  # noqa: ANN401
            return route().vector

    class Catalog:
        def space_id(self, *_: object) -> int:
            return 1

        def sample(self, *_: object) -> NDArray[np.float32]:
            return np.eye(40, DIM, dtype=np.float32)

    class Model:
        def space_for(self, *_: object) -> HashingSpace:
            return HashingSpace()

    router = Router(Catalog(), Model())  # type: ignore[arg-type]
    routes = router.routes(Own(encoder.terms, encoder.items), {View.VISUAL, View.AUDIO}, revision=1)
    assert [route.view for route in routes] == [View.AUDIO, View.VISUAL]
    z = np.asarray([[np.nan, 2.0], [cross, np.nan]], np.float32)
    vectors = [np.zeros((2, DIM), np.float32)] * 2
    assert first_stage(Candidates([row(0), row(1)], z, vectors), routes, ()).order[0] == first


def test_evidence_of_several_views_adds_up_as_a_soft_maximum() -> None:
    z = np.asarray([[2.0, 2.0], [2.6, np.nan], [2.8, np.nan]], np.float32)
    assert np.argsort(-fuse(z, [False, False])).tolist() == [2, 0, 1]  # log 2e² = 2.69


# Agreement


def test_one_item_in_thirty_two_gives_feedback_and_sixteen_at_most() -> None:
    assert [how_many(n) for n in (31, 32, 127, 128, 511, 512, 100_000)] == [0, 1, 3, 4, 15, 16, 16]


def test_the_weight_of_a_feedback_item_falls_by_e_in_half_a_deviation() -> None:
    _, weights = positives(np.asarray([3.0, 2.5], np.float32), 2)
    assert weights[0] / weights[1] == pytest.approx(np.e, rel=1e-3)


def test_a_deviation_of_agreement_is_worth_six_tenths_of_one_of_the_first_stage() -> None:
    scores, agreed = np.zeros(2, np.float32), np.asarray([1.0, 0.0], np.float32)
    first, weights = np.asarray([1]), np.asarray([1.0], np.float32)
    by = strength(scores, [])
    assert rerank(scores, agreed, first, weights, np.zeros(2, np.int64), by).tolist() == pytest.approx([0.6, 0.0])


@pytest.mark.parametrize(("words", "is_name"), [("an old stone bridge", True), ("a bridge over a river", False)])
def test_up_to_four_words_name_a_kind_whose_items_agree(words: str, is_name: bool) -> None:
    assert (strength(np.zeros(8, np.float32), [words]) > 0) is is_name


@pytest.mark.parametrize(("size", "voters"), [(96, 0), (128, 4), (192, 6)])
def test_below_four_feedback_items_nothing_is_re_ranked(size: int, voters: int) -> None:
    ranking = ranking_of([turned(0.1, 1 + n) for n in range(20)], z=[1.0] * 20)
    feedback = choose_feedback(make_query("word"), ranking, [], size)
    assert len(feedback.segment_ids if feedback else []) == voters


def test_likeness_counts_up_to_eight_deviations() -> None:
    assert agreeing([np.asarray([[7.5, 8.5, 11.0]], np.float32)])[0].tolist() == [7.5, 8.0, 8.0]


# Confidence


def test_three_quarters_of_an_items_hubness_are_no_evidence() -> None:
    z, vectors = np.asarray([4.0], np.float32), turned(0.5, 1)[None]
    plain, hub = (evidence(z, np.asarray([h], np.float32), vectors, UNIT)[0] for h in (0.0, 2.0))
    assert plain - hub == pytest.approx(1.5)


def test_the_first_five_answers_speak_for_each_other() -> None:
    vectors = np.stack([turned(0.5, 1 + n) for n in range(8)])
    z = np.asarray([4, 4, 4, 2, 1, 0, 0, 0], np.float32)
    few = evidence(z, np.zeros(8, np.float32), vectors, UNIT)[0]
    assert few == pytest.approx((4.0 + 3.0 + 0.25) / 2)


def test_hubness_is_the_mean_of_the_four_nearest_queries_of_the_bank() -> None:
    assert hubness(np.arange(1, 9, dtype=np.float32)[:, None]).tolist() == [6.5]
