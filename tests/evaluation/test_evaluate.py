"""How well a library answers: what counts as found, what re-ranking adds, and what the index loses."""

from __future__ import annotations

import logging
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evaluations import KEYS, NAMES, library_of, measured, paint, values
from support.evaluations import crowd as crowd
from support.evaluations import library as library
from support.evaluations import media as media

import mmsearch
from mmsearch import Filter, Library, LibraryError, MediaError, UsageError
from mmsearch.metrics import Interval
from mmsearch.search.query import Query
from mmsearch.types import Progress, Term, View
from mmsearch.vectors import FaissIndex

CONTENTS = 9


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
