"""The command `eval`: what it prints for a program, a pipe and a person, and the file that it synthesizes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from conftest import Run
from support.evaluations import KEYS, one_line, write
from support.evaluations import crowd as crowd
from support.evaluations import library as library
from support.evaluations import media as media

from mmsearch import Evaluation, Library
from mmsearch.cli import reports
from mmsearch.evaluation.judged import read_judged
from mmsearch.metrics import Interval


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


def test_synthesize_asks_nothing_so_that_it_takes_no_other_flag(library: Library, run: Run, tmp_path: Path) -> None:
    assert "--synthesize" in one_line(run("eval", tmp_path / "q", "--synthesize", "--exact", library=library.folder))
    assert not (tmp_path / "q").exists()
