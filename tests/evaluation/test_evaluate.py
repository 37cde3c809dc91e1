"""How well a library answers: metrics by hand and against ir_measures, the file of queries, and what is asked of it."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from conftest import Run
from PIL import Image, ImageDraw
from support.clip_maker import HIGH, LOW, Pictures, Tones, clip, sound_bytes, srt
from support.media_maker import GREEN

import mmsearch
from mmsearch import Evaluation, Filter, Library, LibraryError, MediaError, Settings, UsageError, metrics
from mmsearch.cli import reports
from mmsearch.errors import QueryError
from mmsearch.evaluation import evaluate
from mmsearch.evaluation.judged import read_judged, write_captions
from mmsearch.metrics import METRICS, Interval, Ranking, bootstrap, median, paired_bootstrap
from mmsearch.search.query import Query
from mmsearch.types import Progress, Term, View
from mmsearch.vectors import FaissIndex

NAMES = ("black", "white", "grey", "red", "green", "blue", "yellow", "orange", "purple", "brown")
KEYS = ["recall@1", "recall@5", "recall@10", "set_recall@10", "median_rank", "mrr", "ndcg@10", "map"]


def paint(file: Path, colour: str, second: str | None = None, caption: str | None = None) -> Path:
    """A picture of a colour, a quarter of it in a second one, with a caption beside it."""
    picture = Image.new("RGB", (64, 64), {"grey": "#808080"}.get(colour, colour))
    if second is not None:
        ImageDraw.Draw(picture).rectangle((0, 48, 63, 63), fill={"grey": "#808080"}.get(second, second))
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    if caption is not None:
        file.with_suffix(".txt").write_text(caption)
    return file


def library_of(folder: Path, media: Path) -> Library:
    library = mmsearch.open(folder, model="hashing", settings=Settings(workers=1))
    assert library.index(media).failed == 0
    return library


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for colour in ("red", "green", "blue", "yellow"):
        paint(folder / f"{colour}.png", colour)
    paint(folder / "flag.png", "red", "blue")
    shutil.copy(folder / "blue.png", folder / "z copy of blue.png")
    paint(folder / os.fsdecode(b"caf\xe9.png"), "brown")
    (folder / "red.md").write_text("A red door.")
    (folder / "low.wav").write_bytes(sound_bytes([(LOW, 1.0)]))
    clip(folder / "clip.mp4", Pictures([(GREEN, 2.0)]), Tones([(HIGH, 2.0)]))
    return folder


CONTENTS = 9


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[Library]:
    with library_of(tmp_path_factory.mktemp("libraries") / "library", media) as library:
        yield library


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A hundred photos, whose captions suit them or don't: more than an index is asked for at once."""
    folder = tmp_path_factory.mktemp("crowd")
    for n in range(100):
        said = NAMES[n % 10] if n % 3 else NAMES[(n * 7 + 3) % 10]
        paint(folder / f"{n:02d}.png", NAMES[n % 10], NAMES[n // 10], f"{said} thing number {n}" if n % 2 else None)
    with library_of(tmp_path_factory.mktemp("libraries") / "crowd", folder) as library:
        yield library


def write(file: Path, *lines: Mapping[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def measured(
    library: Library,
    file: Path,
    *lines: Mapping[str, Any],
    rerank: bool | None = None,
    exact: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Evaluation]:
    judged = read_judged(write(file, *lines))
    return {
        found.direction: found
        for found in evaluate.evaluate(library, judged, rerank=rerank, exact=exact, progress=progress)
    }


def values(found: Mapping[str, Interval]) -> dict[str, float]:
    return {name: interval.value for name, interval in found.items()}


# Metrics


def test_metrics_are_what_a_hand_works_out() -> None:
    found = {name: metric(Ranking((2, 5, 12), relevant=4, candidates=20)) for name, metric in METRICS.items()}
    assert list(found) == KEYS
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert found == pytest.approx(
        {
            "recall@1": 0.0,
            "recall@5": 1.0,
            "recall@10": 1.0,
            "set_recall@10": 2 / 4,
            "median_rank": 2.0,
            "mrr": 1 / 2,
            "ndcg@10": (1 / math.log2(3) + 1 / math.log2(6)) / ideal,
            "map": (1 / 2 + 2 / 5 + 3 / 12) / 4,
        }
    )


def test_what_is_never_found_counts_as_nothing_and_ranks_behind_every_candidate() -> None:
    found = {name: metric(Ranking((), relevant=2, candidates=20)) for name, metric in METRICS.items()}
    assert found == {**dict.fromkeys(KEYS, 0.0), "median_rank": 21.0}


def test_a_perfect_ranking_of_more_than_ten_is_perfect_up_to_where_it_is_looked_at() -> None:
    found = {name: metric(Ranking(tuple(range(1, 13)), relevant=12, candidates=12)) for name, metric in METRICS.items()}
    assert (found["ndcg@10"], found["map"]) == (1.0, 1.0)
    assert found["set_recall@10"] == 10 / 12


def test_metrics_are_those_of_ir_measures() -> None:
    random = np.random.default_rng(7)
    theirs = {
        "recall@1": ir_measures.Success @ 1,
        "recall@5": ir_measures.Success @ 5,
        "recall@10": ir_measures.Success @ 10,
        "set_recall@10": ir_measures.R @ 10,
        "mrr": ir_measures.RR,
        "ndcg@10": ir_measures.nDCG @ 10,
        "map": ir_measures.AP,
    }
    rankings: list[Ranking] = []
    judgements: dict[str, dict[str, int]] = {}
    answers: dict[str, dict[str, float]] = {}
    for query in range(50):
        found = int(random.integers(1, 40))
        ranks = sorted(random.choice(np.arange(1, 60), found, replace=False).tolist())
        missing = int(random.integers(0, 4))
        rankings.append(Ranking(tuple(ranks), found + missing, 60))
        names = [*map(str, ranks), *(f"missing {n}" for n in range(missing))]
        judgements[str(query)] = dict.fromkeys(names, 1)
        answers[str(query)] = {str(rank): -float(rank) for rank in range(1, 60)}
    told = ir_measures.calc_aggregate(theirs.values(), judgements, answers)
    for name, measure in theirs.items():
        assert np.mean([METRICS[name](ranking) for ranking in rankings]) == pytest.approx(told[measure]), name


# Intervals


def test_queries_that_all_fare_the_same_have_an_interval_of_no_width() -> None:
    for statistic in (metrics.mean, median):
        assert bootstrap(np.full(7, 1 / 3), statistic) == Interval(1 / 3, 1 / 3, 1 / 3)
    assert bootstrap(np.asarray([0.25])) == Interval(0.25, 0.25, 0.25)


def test_the_interval_of_a_mean_is_that_of_the_normal_law_where_queries_are_many() -> None:
    tossed = (np.arange(5000) % 2).astype(float)
    found = bootstrap(tossed)
    assert found == bootstrap(tossed)  # the seed is fixed
    assert found.value == 0.5
    half = 1.96 * 0.5 / math.sqrt(5000)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=half / 8)


def test_a_median_has_the_interval_of_medians() -> None:
    ranks = np.asarray([1.0] * 40 + [2.0] * 2 + [50.0] * 40)
    assert bootstrap(ranks, median) == Interval(2.0, 1.0, 50.0)


def test_a_paired_difference_is_narrower_where_queries_are_hard_or_easy_for_both() -> None:
    random = np.random.default_rng(1)
    before = random.uniform(size=200)
    after = before + 0.05 + random.normal(0, 0.01, 200)
    paired = paired_bootstrap(after, before)
    shuffled = paired_bootstrap(random.permutation(after), before)
    assert paired.value == pytest.approx(shuffled.value)
    assert paired.high - paired.low < (shuffled.high - shuffled.low) / 10
    assert paired.low > 0 > shuffled.low


def test_draws_in_parts_are_as_many_and_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def mean(drawn: metrics.Values) -> metrics.Values:
        sizes.append(len(drawn) if drawn.ndim == 2 else 0)
        return metrics.mean(drawn)

    each = np.linspace(0, 1, 300)
    whole = bootstrap(each)
    monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 300 * 7)
    parts = bootstrap(each, mean)
    assert (max(sizes), sum(sizes)) == (7, metrics.DRAWS)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.005)


# What is asked


def test_ranks_are_those_of_the_hits(library: Library, media: Path, tmp_path: Path) -> None:
    asked = {"a red door": "flag.png", "blue": "red.md", "high": "clip.mp4", "green": "low.wav", "red": "red.png"}
    ranks = []
    for words, name in asked.items():
        hits = library.query(words, k=1000)
        assert len(hits) == CONTENTS
        ranks.append(next(hit.rank for hit in hits if hit.path == media / name))
    lines = [{"query": words, "relevant": [str(media / name)]} for words, name in asked.items()]
    found = measured(library, tmp_path / "q.jsonl", *lines)["text→any"]
    assert found.queries == 5
    assert np.median(ranks) != np.mean(ranks)
    assert found.metrics["median_rank"].value == np.median(ranks)
    assert found.metrics["mrr"].value == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert list(found.metrics) == KEYS
    assert found.difference == {}


def test_a_direction_is_what_asks_and_what_may_answer(library: Library, media: Path, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"query": "red", "relevant": ["red.png"], "in": ["image"]},
        {"query": "red", "relevant": ["red.png"]},
        {"query": {"path": str(media / "red.png")}, "relevant": ["red.md"], "in": ["text"]},
        {"query": {"path": str(media / "clip.mp4")}, "relevant": ["x"], "in": ["video", "audio", "video"]},
        {"query": {"path": str(media / "low.wav")}, "relevant": ["x"], "in": []},
        {"query": {"path": str(media / "red.md")}, "relevant": ["x"], "in": ["image"]},
    ]
    found = measured(library, tmp_path / "q.jsonl", *lines)
    assert {direction: each.queries for direction, each in found.items()} == {
        "text→image": 2,
        "text→any": 1,
        "image→text": 1,
        "video→audio+video": 1,
        "audio→any": 1,
    }


def test_a_queried_file_is_left_out_unless_it_is_relevant(library: Library, media: Path, tmp_path: Path) -> None:
    shutil.copy(media / "flag.png", tmp_path / "a copy.png")  # asks as the same content
    others = [hit.path for hit in library.query(media / "flag.png", k=1000)][1:]
    for asking in (str(media / "flag.png"), "a copy.png"):
        line = {"query": {"path": asking}, "relevant": [str(others[0])]}
        assert values(measured(library, tmp_path / "q.jsonl", line)["image→any"].metrics)["mrr"] == 1.0
    line = {"query": {"path": str(media / "flag.png")}, "relevant": [str(others[0]), str(media / "flag.png")]}
    both = values(measured(library, tmp_path / "q.jsonl", line)["image→any"].metrics)
    assert (both["recall@1"], both["map"]) == (1.0, 1.0)
    line = {"query": {"path": str(media / "flag.png")}, "relevant": ["nothing.png"]}
    found = values(measured(library, tmp_path / "q.jsonl", line)["image→any"].metrics)
    assert found["median_rank"] == CONTENTS - 1 + 1


def test_a_changed_file_is_left_out_by_its_name(tmp_path: Path) -> None:
    asking = paint(tmp_path / "media" / "a.png", "red")
    paint(tmp_path / "media" / "b.png", "orange")
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        paint(asking, "red", "grey")
        line = {"query": {"path": "media/a.png"}, "relevant": ["media/b.png"]}
        assert values(measured(library, tmp_path / "q.jsonl", line)["image→any"].metrics)["mrr"] == 1.0


def test_what_is_relevant_is_found_under_any_name_of_its_content(
    library: Library, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(media))
    shutil.copy(media / "blue.png", tmp_path / "elsewhere.png")
    (tmp_path / "link").symlink_to(media)
    names = (
        "z copy of blue.png",
        f"../{media.name}/./blue.png",
        "~/blue.png",
        str(tmp_path / "elsewhere.png"),
        str(tmp_path / "link" / "blue.png"),
    )
    monkeypatch.chdir(tmp_path)  # where relative paths don't lead
    for name in names:
        line = {"query": "blue", "relevant": [name], "in": ["image"]}
        found = values(measured(library, media / "q.jsonl", line)["text→image"].metrics)
        assert found["recall@1"] == 1.0, name
    line = {"query": "blue", "relevant": list(names), "in": ["image"]}
    found = values(measured(library, media / "q.jsonl", line)["text→image"].metrics)
    assert found["set_recall@10"] == found["map"] == 1.0  # one content is one relevant answer


def test_names_need_not_be_utf_8(library: Library, media: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(media) + b"/caf\xe9.png")
    lines: list[dict[str, Any]] = [
        {"query": "brown", "relevant": [odd], "in": ["image"]},
        {"query": {"path": odd}, "relevant": [odd], "in": ["image"]},
    ]
    found = measured(library, tmp_path / "q.jsonl", *lines)
    assert r"caf\udce9.png" in (tmp_path / "q.jsonl").read_text()
    assert [values(each.metrics)["recall@1"] for each in found.values()] == [1.0, 1.0]


def test_what_the_library_does_not_hold_stays_relevant_and_is_said_once(
    library: Library, media: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        {"query": "red", "relevant": [str(media / "red.png"), "gone.png"], "in": ["image"]},
        {"query": "green", "relevant": ["gone.png", "away.png"], "in": ["video"]},
    ]
    with caplog.at_level(logging.WARNING, "mmsearch"):
        found = measured(library, tmp_path / "q.jsonl", *lines)
    (said,) = caplog.messages
    assert said == f"2 relevant paths aren't in the library, and never found; the first: {tmp_path / 'gone.png'}"
    half, nothing = (values(each.metrics) for each in found.values())
    assert (half["recall@1"], half["set_recall@10"], half["map"]) == (1.0, 0.5, 0.5)
    assert half["ndcg@10"] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert nothing == {**dict.fromkeys(KEYS, 0.0), "median_rank": 2.0}  # behind the one video


def test_only_the_views_that_are_asked_for_answer(crowd: Library, tmp_path: Path) -> None:
    query = Query((Term("red thing number"),), 1000, Filter(kind="image"))
    for view, contents in ((View.VISUAL, 100), (View.TEXT, 50)):
        hits = crowd.answer(replace(query, views=frozenset({view}))).hits
        assert {hit.view for hit in hits} == {view}
        assert len(hits) == contents
    assert {hit.view for hit in crowd.answer(query).hits} == {View.VISUAL, View.TEXT}
    assert crowd.answer(replace(query, views=frozenset({View.AUDIO}))).hits == []


def test_what_a_query_raises_names_the_line(library: Library, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    lines: list[dict[str, Any]] = [
        {"query": "red", "relevant": ["a"]},
        {"query": {"path": "broken.png"}, "relevant": ["a"]},
    ]
    with pytest.raises(MediaError, match=r"q\.jsonl, line 2: .*broken\.png"):
        measured(library, tmp_path / "q.jsonl", *lines)


def test_a_library_that_changes_is_not_measured(tmp_path: Path) -> None:
    paint(tmp_path / "media" / "a.png", "red")
    line = {"query": "red", "relevant": ["media/a.png"]}
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        told: list[Progress] = []

        def add(progress: Progress) -> None:
            told.append(progress)
            paint(tmp_path / "media" / "b.png", "green")
            library.index(tmp_path / "media")

        with pytest.raises(LibraryError, match="changed while it was measured"):
            measured(library, tmp_path / "q.jsonl", line, progress=add)
        assert [(each.done, each.total) for each in told] == [(1, 1)]
        assert measured(library, tmp_path / "q.jsonl", line)["text→any"].queries == 1


def test_an_empty_library_is_an_error(tmp_path: Path) -> None:
    with (
        mmsearch.open(tmp_path / "library", model="hashing") as library,
        pytest.raises(UsageError, match="is empty; run 'mmsearch index PATH' first"),
    ):
        measured(library, tmp_path / "q.jsonl", {"query": "red", "relevant": ["a"]})


# Re-ranking and the index


def lines_about(crowd: Library) -> list[dict[str, Any]]:
    paths = sorted(hit.path for hit in crowd.query("red", k=1000))
    words = [f"{NAMES[n % 10]} {NAMES[n // 10]} thing" for n in range(0, 100, 3)]
    return [{"query": said, "relevant": [str(paths[3 * n])]} for n, said in enumerate(words)]


def test_what_re_ranking_adds_is_the_difference_of_two_runs(crowd: Library, tmp_path: Path) -> None:
    file, lines = tmp_path / "q.jsonl", lines_about(crowd)
    plain = measured(crowd, file, *lines, rerank=False)["text→any"]
    reranked = measured(crowd, file, *lines, rerank=True)["text→any"]
    assert plain.difference == {}
    before, after = values(plain.metrics), values(reranked.metrics)
    assert list(reranked.difference) == KEYS
    assert values(reranked.difference) == pytest.approx({name: after[name] - before[name] for name in KEYS})
    assert before["map"] != after["map"]
    for interval in reranked.difference.values():
        assert interval.low <= interval.value <= interval.high


def test_the_index_finds_what_exact_search_finds(crowd: Library, media: Path, tmp_path: Path) -> None:
    asking = {"query": {"path": str(media / "flag.png")}, "relevant": ["a"], "in": ["image"]}
    for rerank in (False, True):
        found = measured(crowd, tmp_path / "q.jsonl", *lines_about(crowd), asking, rerank=rerank, exact=True)
        assert [list(each.metrics) for each in found.values()] == [[*KEYS, "index_recall@10"]] * 2
        assert [each.metrics["index_recall@10"] for each in found.values()] == [Interval(1.0, 1.0, 1.0)] * 2


def test_a_wrong_index_is_seen(crowd: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, true_search = lines_about(crowd), FaissIndex.search

    def forgetful(self: FaissIndex, queries: Any, k: int, allowed: Any = None) -> Any:  # noqa: ANN401
        scores, ids = true_search(self, queries, k, allowed)
        ids = np.where(ids % 2, ids, -1)
        order = np.argsort(ids < 0, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

    monkeypatch.setattr(FaissIndex, "search", forgetful)
    found = measured(crowd, tmp_path / "q.jsonl", *lines, exact=True)["text→any"]
    share = found.metrics["index_recall@10"]
    assert 0 < share.low <= share.value <= share.high < 1


# Queries from captions


def described(folder: Path) -> Path:
    paint(folder / "a.png", "red", caption="red")
    paint(folder / "b.png", "green", caption="blue")  # what is written isn't what is seen
    paint(folder / "c.png", "blue", caption="green")
    paint(folder / "d.png", "yellow", caption="our  Holiday")
    paint(folder / "e.png", "brown", caption="Our holiday")
    shutil.copy(folder / "a.png", folder / "z.png")
    shutil.copy(folder / "a.txt", folder / "z.txt")
    paint(folder / "silent.png", "grey")
    (folder / "note.md").write_text("A note describes nothing but itself.")
    clip(folder / "clip.mp4", Pictures([(GREEN, 2.0)]), Tones([(HIGH, 2.0)]))
    (folder / "clip.srt").write_text(srt([(0.0, 1.0, "what is said")]))
    (folder / "clip.txt").write_text("green high")
    (folder / "talk.wav").write_bytes(sound_bytes([(LOW, 2.0)]))
    (folder / "talk.srt").write_text(srt([(0.0, 1.0, "low")]))
    return folder


def test_captions_ask_for_what_they_describe_and_words_do_not_answer_them(tmp_path: Path) -> None:
    with library_of(tmp_path / "library", described(tmp_path / "media")) as library:
        file = tmp_path / "queries" / "q.jsonl"
        file.parent.mkdir()
        assert write_captions(library, file) == 6
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        image = {"in": ["image"], "views": ["visual"]}
        assert lines == [
            {"query": "red", "relevant": ["../media/a.png"], **image},
            {"query": "blue", "relevant": ["../media/b.png"], **image},
            {"query": "green", "relevant": ["../media/c.png"], **image},
            {
                "query": "green high",
                "relevant": ["../media/clip.mp4"],
                "in": ["video"],
                "views": ["audio", "visual"],
            },
            {"query": "our Holiday", "relevant": ["../media/d.png", "../media/e.png"], **image},
            {"query": "low", "relevant": ["../media/talk.wav"], "in": ["audio"], "views": ["audio"]},
        ]
        assert [each.name for each in file.parent.iterdir()] == ["q.jsonl"]
        found = {each.direction: each for each in evaluate.evaluate(library, read_judged(file))}
        assert {direction: each.queries for direction, each in found.items()} == {
            "text→image": 4,
            "text→video": 1,
            "text→audio": 1,
        }
        honest = measured(library, file.with_name("honest"), lines[0])["text→image"]
        assert values(honest.metrics)["recall@1"] == 1.0
        swapped = measured(library, file.with_name("swapped"), lines[1], lines[2])["text→image"]
        assert values(swapped.metrics)["recall@1"] == 0.0
        for line in lines[1:3]:
            del line["views"]
        told = measured(library, file.with_name("told"), lines[1], lines[2])["text→image"]
        assert values(told.metrics)["mrr"] > values(swapped.metrics)["mrr"]


def test_a_file_of_queries_is_never_overwritten_and_never_empty(tmp_path: Path) -> None:
    paint(tmp_path / "media" / "a.png", "red")
    with library_of(tmp_path / "library", tmp_path / "media") as library:
        with pytest.raises(UsageError, match=r"has a caption; put photo\.txt beside photo\.jpg"):
            write_captions(library, tmp_path / "q.jsonl")
        assert not (tmp_path / "q.jsonl").exists()
        with pytest.raises(UsageError, match="no such folder"):
            write_captions(library, tmp_path / "none" / "q.jsonl")
        (tmp_path / "q.jsonl").symlink_to("nowhere")
        with pytest.raises(UsageError, match="exists, and isn't overwritten"):
            write_captions(library, tmp_path / "q.jsonl")


# The command line


def test_json_is_one_object_a_direction(library: Library, media: Path, run: Run, tmp_path: Path) -> None:
    file = write(
        tmp_path / "q.jsonl",
        {"query": "blue", "relevant": [str(media / "z copy of blue.png"), "gone.png"], "in": ["image"]},
        {"query": {"path": str(media / "red.png")}, "relevant": [str(media / "red.md")]},
    )
    done = run("eval", file, "--rerank", "--exact", "--json", library=library.folder)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert f"1 relevant path isn't in the library, and never found; the first: {tmp_path / 'gone.png'}" in done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert list(first) == list(second) == ["direction", "queries", *KEYS, "index_recall@10", "difference"]
    assert (first["direction"], second["direction"]) == ("text→image", "image→any")
    assert (first["queries"], second["queries"]) == (1, 1)
    assert first["recall@1"] == [1.0, 1.0, 1.0]
    assert first["set_recall@10"] == [0.5, 0.5, 0.5]
    assert first["difference"] == {name: [0.0, 0.0, 0.0] for name in KEYS}


def test_into_a_pipe_a_metric_is_one_line_of_fields_with_tabs(
    library: Library, media: Path, run: Run, tmp_path: Path
) -> None:
    file = write(tmp_path / "q.jsonl", {"query": "blue", "relevant": [str(media / "blue.png")], "in": ["image"]})
    plain = run("eval", file, "--no-rerank", library=library.folder)
    assert (plain.returncode, plain.stderr) == (0, "")
    rows = [line.split("\t") for line in plain.stdout.splitlines()]
    assert [row[2] for row in rows] == KEYS
    assert rows[0] == ["text→image", "1", "recall@1", "1.0000", "1.0000", "1.0000"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_sees_a_block_a_direction_with_what_re_ranking_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    metrics = {"mrr": Interval(0.25, 0.125, 0.5), "median_rank": Interval(12.0, 9.5, 1041.0)}
    difference = {"mrr": Interval(0.0625, -0.125, 0.25)}
    reports.show_evaluations([Evaluation("text→image", 1, metrics, difference)], as_json=False)
    assert screen.getvalue().splitlines() == [
        "text→image, 1 query",
        "                  re-ranked [95 %]              what that adds [95 %]",
        "  mrr             0.250 [0.125, 0.500]          +0.062 [-0.125, +0.250]",
        "  median_rank     12.000 [9.500, 1041.000]",
    ]


def test_synthesize_writes_the_file_and_says_how_many_lines(crowd: Library, run: Run, tmp_path: Path) -> None:
    done = run("eval", "q.jsonl", "--synthesize", library=crowd.folder, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "50 lines written to q.jsonl\n", "")
    before = (tmp_path / "q.jsonl").read_bytes()
    assert "isn't overwritten" in one_line(run("eval", "q.jsonl", "--synthesize", library=crowd.folder, cwd=tmp_path))
    assert (tmp_path / "q.jsonl").read_bytes() == before
    assert len(read_judged(tmp_path / "q.jsonl")) == 50


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


GOOD = '{"query": "red", "relevant": ["a.png"]}'
BAD: Sequence[tuple[str, str]] = [
    ('{"query": "red", "relevant": ["a.png"}', "not valid JSON"),
    ('["red", "a.png"]', "not a JSON object"),
    ('{"query": "red"}', "nothing is relevant"),
    ('{"query": "red", "relevant": []}', "nothing is relevant"),
    ('{"query": "red", "relevant": "a.png"}', "nothing is relevant"),
    ('{"query": "red", "relevant": [3]}', "3 is no path"),
    (r'{"query": "red", "relevant": ["\ud800"]}', "is no path"),
    ('{"relevant": ["a.png"]}', '"query" has to be a text'),
    ('{"query": {"text": "red"}, "relevant": ["a.png"]}', '"query" has to be a text'),
    ('{"query": " ", "relevant": ["a.png"]}', "an empty text matches nothing"),
    ('{"query": "red", "relevant": ["a.png"], "in": ["smell"]}', "give a list of audio, image, text, video"),
    ('{"query": "red", "relevant": ["a.png"], "in": "image"}', "give a list of audio, image, text, video"),
    ('{"query": "red", "relevant": ["a.png"], "views": ["image"]}', "give a list of audio, text, visual"),
    ('{"query": {"path": "none.wav"}, "relevant": ["a.png"]}', "none.wav: there is no such file"),
    ('{"query": {"path": "."}, "relevant": ["a.png"]}', "not a regular file"),
    ('{"query": {"path": "q.jsonl"}, "relevant": ["a.png"]}', "not a kind of file"),
]


@pytest.mark.parametrize(("line", "said"), BAD)
def test_a_line_that_is_no_query_is_an_error_that_names_file_and_line(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(UsageError) as caught:
        read_judged(tmp_path / "q.jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'q.jsonl'}, line 3: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, QueryError)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{GOOD}\n\n{BAD[0][0]}\n", "q.jsonl, line 3: not valid JSON at column 38"),
        (f"{GOOD}\n{BAD[2][0]}\n", "q.jsonl, line 2: nothing is relevant; add"),
        (BAD[10][0], 'q.jsonl, line 1: "in" is ["smell"]; give a list of audio, image, text, video'),
        (BAD[13][0], "q.jsonl, line 1: "),
        ("\n \n", "q.jsonl: there is no query in it; write lines such as"),
        (None, "q.jsonl: there is no such file; write one"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_2(
    content: str | None, said: str, library: Library, run: Run, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "q.jsonl").write_text(content)
    assert said in one_line(run("eval", "q.jsonl", library=library.folder, cwd=tmp_path))


def test_a_file_that_is_not_utf_8_is_an_error_and_a_mark_before_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(b'{"query": "caf\xe9", "relevant": ["a"]}')
    with pytest.raises(UsageError, match="line 1: it isn't UTF-8; save the file as UTF-8"):
        read_judged(tmp_path / "q.jsonl")
    (tmp_path / "q.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")
    (judged,) = read_judged(tmp_path / "q.jsonl")
    assert judged.relevant == (os.fsencode(tmp_path / "a.png"),)
    assert judged.query.terms == (Term("red"),)
    with pytest.raises(UsageError, match="not a regular file"):
        read_judged(tmp_path)


def test_synthesize_asks_nothing_so_that_it_takes_no_other_flag(library: Library, run: Run, tmp_path: Path) -> None:
    assert "--synthesize" in one_line(run("eval", tmp_path / "q", "--synthesize", "--exact", library=library.folder))
    assert not (tmp_path / "q").exists()


def test_a_file_of_queries_is_read_up_to_a_bound(tmp_path: Path) -> None:
    with (tmp_path / "q.jsonl").open("wb") as large:
        large.truncate(2**40)
    with pytest.raises(UsageError, match=r"q\.jsonl: it holds more than 256 MB"):
        read_judged(tmp_path / "q.jsonl")
