"""Where examples come from: folders, files, libraries, tables of captions and parallel lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from support.training_media import media as media

import mmsearch
from mmsearch.errors import UsageError
from mmsearch.training.recipe import Source
from mmsearch.training.sources import Examples, read_sources


def words(examples: Examples, rows: tuple[int, ...]) -> list[tuple[str, str]]:
    return [(examples.texts[row].words, examples.texts[row].language) for row in rows]


def test_folders_name_what_they_hold(media: Path) -> None:
    examples = read_sources([Source("folders", media)], held=0)
    assert examples.tags == ["lakes", "red cars", "tones"]
    assert [(row.path.name, examples.tags[row.tag]) for row in examples.rows if row.path][3:6] == [
        ("red_cars0.png", "red cars"),
        ("red_cars1.png", "red cars"),
        ("red_cars2.png", "red cars"),
    ]
    assert words(examples, examples.tag_texts[1]) == [("red cars", "en"), ("a photo of a red cars", "en")]


def test_a_table_puts_words_for_the_names_of_folders(media: Path) -> None:
    (media / "names.tsv").write_text("lakes\tLake, body of water\nred_cars\tautomobile\n", "utf-8")
    examples = read_sources([Source("folders", media, names=media / "names.tsv")], held=0)
    assert examples.tags == ["lake", "automobile", "tones"]


def test_files_have_their_captions_beside_them(media: Path) -> None:
    examples = read_sources([Source("files", media)], held=0)
    found = {row.path.name: words(examples, row.texts) for row in examples.rows if row.path}
    assert found.pop("lakes0.png") == [("a lake at noon", "en"), ("blue water", "en")]
    assert found and all(said == [] for said in found.values())


def test_a_library_is_read_with_its_captions_and_the_names_of_its_folders(media: Path, tmp_path: Path) -> None:
    with mmsearch.open(tmp_path / "library", model="hashing") as library:
        library.index(media / "lakes", media / "red_cars")
    examples = read_sources([Source("library", tmp_path / "library")], held=0)
    found = {row.path.name: row for row in examples.rows if row.path}
    assert words(examples, found["lakes0.png"].texts) == [("a lake at noon", "en"), ("blue water", "en")]
    assert examples.tags[found["red_cars1.png"].tag] == "red cars"


def test_captions_are_taken_from_the_fields_and_lines_that_are_asked_for(media: Path) -> None:
    lines = [
        {"image": "b.jpg", "split": "train", "captions": ["two"], "multi": {"de": "zwei", "en": "two, they say"}},
        {"image": "a.jpg", "split": "train", "captions": "one"},
        {"image": "c.jpg", "split": "dev", "captions": ["three"]},
    ]
    (media / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    source = Source("captions", media / "captions.jsonl", keys=("captions", "multi"), where={"split": "train"})
    examples = read_sources([source], held=0)
    assert [row.path.name for row in examples.rows if row.path] == ["a.jpg", "b.jpg"]
    assert words(examples, examples.rows[1].texts) == [("two", "en"), ("two, they say", "en"), ("zwei", "de")]
    german = examples.texts[examples.rows[1].texts[2]]
    assert examples.texts[german.meaning].words == "two, they say"


def test_fields_called_by_a_language_and_those_of_another_file_are_captions_of_it(media: Path) -> None:
    lines = [{"image": "a.jpg", "zh": ["一只狗"], "hi": "कुत्ता"}, {"image": "elsewhere.jpg", "zh": ["一只猫"]}]
    (media / "more.jsonl").write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    (media / "one.jsonl").write_text(
        json.dumps({"image": "a.jpg", "captions": ["a dog"], "said": {"zh_CN": "狗"}}), "utf-8"
    )
    keys = ("captions", "zh", "hi", "said")
    source = Source("captions", media / "one.jsonl", more=media / "more.jsonl", keys=keys)
    (row,) = read_sources([source], 0).rows
    assert words(read_sources([source], 0), row.texts) == [
        ("a dog", "en"),
        ("一只狗", "zh"),
        ("कुत्ता", "hi"),
        ("狗", "zh"),
    ]


def test_parallel_lines_have_the_meaning_of_the_english_one(media: Path) -> None:
    for language, lines in {"de": "eins\n\ndrei", "en": "one\ntwo\nthree"}.items():
        (media / f"lines.{language}.gz").write_bytes(gzip.compress(lines.encode()))
    examples = read_sources([Source("parallel", media / "lines.{}.gz", languages=("de", "en"))], held=2)
    assert [words(examples, row.texts) for row in examples.rows] == [
        [("one", "en"), ("eins", "de")],
        [("three", "en"), ("drei", "de")],
    ]
    assert not any(row.held for row in examples.rows), "a text is no medium that could be held out"


def test_lines_with_tabs_give_what_stands_last_and_a_limit_takes_some_evenly(media: Path) -> None:
    (media / "words.txt").write_text("\n".join(f"n{n}\tword {n}" for n in range(10)), "utf-8")
    examples = read_sources([Source("texts", media / "words.txt", limit=5)], held=0)
    assert [examples.texts[row.texts[0]].words for row in examples.rows] == [f"word {n}" for n in range(0, 10, 2)]
    assert len(examples.texts) == 5, "what a limit leaves out is forgotten"


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("cut.gz", "texts", gzip.compress(b"one\ntwo\n" * 900, mtime=0)[:40]),
        ("flipped.gz", "texts", gzip.compress(b"one\ntwo\n" * 900, mtime=0)[:12] + b"\xff" * 30),
        ("bomb.gz", "texts", gzip.compress(b"a" * 20_000_000, mtime=0)),
        ("latin.txt", "texts", "Käse".encode("latin-1")),
        ("list.jsonl", "captions", b'["a.jpg", "a dog"]\n'),
        ("cut.jsonl", "captions", b'{"image": "a.jp'),
        ("nameless.jsonl", "captions", b'{"captions": ["a dog"]}\n'),
        ("other.csv", "clips", b"path,words\na.mp4,a dog\n"),
        ("wide.csv", "clips", b"file,label\n" + b"a" * 200_000),
        ("deep.jsonl", "captions", b"[" * 100_000),
    ],
    # A test is named by its file alone: a process that collects a second later must arrive at the same names.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_source_is_an_error_in_one_line(tmp_path: Path, name: str, kind: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    source = (
        Source(kind, tmp_path, names=tmp_path / name) if kind == "clips" else Source(kind, tmp_path / name, name=name)
    )
    with pytest.raises(UsageError) as caught:
        read_sources([source], held=0)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) or name in str(caught.value)


def test_what_is_held_out_depends_on_names_alone(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder / "things").mkdir(parents=True)
        for n in range(200):
            (tmp_path / folder / "things" / f"{n}.png").touch()
    (tmp_path / "other" / "things" / "more.png").touch()
    first, second = (
        {
            row.path.name
            for row in read_sources([Source("folders", tmp_path / f)], held=10).rows
            if row.held and row.path
        }
        for f in ("one", "other")
    )
    assert first == second - {"more.png"}
    assert 8 < len(first) < 35
    everything = read_sources([Source("folders", tmp_path / "one", held=1)], held=10)
    assert all(row.held for row in everything.rows)


@pytest.mark.parametrize(
    ("kind", "path"), [("folders", "none"), ("captions", "none.jsonl"), ("files", "lakes/lakes0.txt")]
)
def test_a_source_that_holds_nothing_is_named(media: Path, kind: str, path: str) -> None:
    with pytest.raises(UsageError, match=path.rpartition("/")[2]):
        read_sources([Source(kind, media / path)], held=0)


def test_columns_of_a_dictionary_are_parallel_words(media: Path) -> None:
    (media / "words.tsv").write_text("chien\tdog\nodd\nchat\tcat\n", "utf-8")
    examples = read_sources([Source("parallel", media / "words.tsv", languages=("fr", "en"))], held=0)
    assert [words(examples, row.texts) for row in examples.rows] == [
        [("dog", "en"), ("chien", "fr")],
        [("cat", "en"), ("chat", "fr")],
    ]
