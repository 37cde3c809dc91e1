"""A file of queries: written from captions, read with its faults named by line, and never overwritten."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Run
from support.clip_maker import HIGH, LOW, Pictures, Tones, clip, sound_bytes, srt
from support.evaluations import library as library
from support.evaluations import library_of, measured, one_line, paint, values
from support.evaluations import media as media
from support.media_maker import GREEN

from mmsearch import Library, UsageError
from mmsearch.errors import QueryError
from mmsearch.evaluation import evaluate
from mmsearch.evaluation.judged import read_judged, write_captions
from mmsearch.types import Term


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


def test_a_file_of_queries_is_read_up_to_a_bound(tmp_path: Path) -> None:
    with (tmp_path / "q.jsonl").open("wb") as large:
        large.truncate(2**40)
    with pytest.raises(UsageError, match=r"q\.jsonl: it holds more than 256 MB"):
        read_judged(tmp_path / "q.jsonl")
