"""Where examples come from, and how they are decoded once."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import mmsearch
from mmsearch.errors import UsageError
from mmsearch.training import taught
from mmsearch.training.recipe import Source, TeacherRecipe
from mmsearch.training.sources import Examples, called, read_sources
from mmsearch.training.store import prepare
from mmsearch.training.taught import teach_texts
from mmsearch.types import Modality


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Two folders of photos, one of them with captions, and a sound."""
    for folder, colour in (("red_cars", (200, 0, 0)), ("lakes", (0, 0, 200))):
        (tmp_path / folder).mkdir()
        for n in range(3):
            Image.new("RGB", (40, 20 + n), colour).save(tmp_path / folder / f"{folder}{n}.png")
    (tmp_path / "lakes" / "lakes0.txt").write_text("a lake at noon\nblue water\n", "utf-8")
    (tmp_path / "lakes" / "notes.txt").write_text("not a picture", "utf-8")
    (tmp_path / "tones").mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8_000)
    soundfile.write(tmp_path / "tones" / "a.wav", tone.astype(np.float32), 8_000)
    return tmp_path


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


def test_media_are_decoded_once_and_what_is_broken_is_left_out(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    (media / "lakes" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    examples = read_sources([Source("folders", media, views=4)], held=0)
    store = prepare(examples, 16)
    assert "broken.png is left out" in caplog.text
    assert store.pixels.shape == (6, 16, 16, 3)
    assert store.views.tolist() == [4] * 6
    assert store.hearings.tolist() == [4]
    names = [examples.rows[unit.example].path.name for unit in store.units]  # type: ignore[union-attr]
    assert names == [
        "lakes0.png",
        "lakes1.png",
        "lakes2.png",
        "red_cars0.png",
        "red_cars1.png",
        "red_cars2.png",
        "a.wav",
    ]
    red = store.pixels[store.units[3].pictures[0]].astype(int)
    assert np.abs(red - np.asarray([200, 0, 0])).max() <= 2
    heard = store.wave(store.units[6].sound)
    assert len(heard) == pytest.approx(2 * 16_000, abs=400), "two seconds, at 16 kHz"
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.fft.rfftfreq(len(heard), 1 / 16_000)[spectrum.argmax()] == pytest.approx(440, abs=2)
    before = (store.folder / "units.json").stat().st_mtime_ns
    again = prepare(examples, 16)
    assert again.folder == store.folder
    assert (again.folder / "units.json").stat().st_mtime_ns == before
    os.utime(media / "lakes" / "lakes0.png", ns=(1, 1))
    assert prepare(examples, 16).folder != store.folder, "a file that changed is decoded again"


def test_no_sound_that_is_held_out_is_behind_one_that_is_trained_on(tmp_path: Path) -> None:
    """A held-out tone is far from those that are trained on: in their views it would be heard."""
    for folder, hertz in (("low", 300), ("high", 5_000)):
        (tmp_path / folder).mkdir()
        for n in range(3):
            wave = 0.3 * np.sin(2 * np.pi * (hertz + 10 * n) * np.arange(48_000) / 16_000)
            soundfile.write(tmp_path / folder / f"{n}.wav", wave.astype(np.float32), 16_000)
    examples = read_sources(
        [Source("files", tmp_path / "low", views=40), Source("files", tmp_path / "high", held=1)], held=0
    )
    store = prepare(examples, 16)
    assert store.hearings.tolist() == [40] * 3 + [1] * 3
    assert store.first_hearing.tolist() == [0, 40, 80, 120, 121, 122, 123]
    for view in range(40):
        power = np.abs(np.fft.rfft(store.hear(0, view))) ** 2
        assert power[3 * 4_900 : 3 * 5_100].max() < 0.01 * power.max()


def test_a_file_that_has_gone_is_left_out_and_said(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples = read_sources([Source("folders", media)], held=0)
    (media / "lakes" / "lakes1.png").unlink()
    for _ in range(2):
        caplog.clear()
        store = prepare(examples, 16)
        assert "lakes1.png is left out: no such file" in caplog.text
    assert len(store.pixels) == 5


def test_media_of_which_nothing_is_left_are_an_error(media: Path) -> None:
    examples = read_sources([Source("folders", media)], held=0)
    for file in media.rglob("*.*"):
        file.unlink()
    for _ in range(2):
        with pytest.raises(UsageError, match=r"none of 7 files .*lakes0\.png is left out: no such file"):
            prepare(examples, 16)


def test_a_file_in_two_sources_is_an_example_of_both(media: Path) -> None:
    examples = read_sources([Source("folders", media), Source("files", media / "lakes")], held=0)
    store = prepare(examples, 16)
    assert [unit.example for unit in store.units] == list(range(10))


MOMENTS = Source("moments", name="made", limit=7, things={"car": ("red cars", "tones"), "water": ("lakes", "tones")})


def test_moments_are_made_of_photos_and_sounds_of_one_thing(media: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples = read_sources([MOMENTS, Source("folders", media)], held=0)
    made = [row for row in examples.rows if row.made_of]
    parts = [[examples.rows[part].path.parent.name for part in row.made_of] for row in made]  # type: ignore
    assert parts == [["red_cars", "tones"], ["lakes", "tones"]] * 3 + [["red_cars", "tones"]]
    assert {examples.tags[row.tag] for row in made} == {"tones"}, "a sound keeps its name"
    assert len({row.made_of for row in made}) > 2, "not the same photo each time"
    again = read_sources([MOMENTS, Source("folders", media)], held=0)
    assert again.rows == examples.rows
    (media / "lakes" / "lakes0.png").write_bytes(b"no picture")
    store = prepare(examples, 16)
    assert "lakes0.png is left out" in caplog.text
    whole = [row for row in made if "lakes0.png" not in {examples.rows[part].path.name for part in row.made_of}]  # type: ignore
    units = [unit for unit in store.units if examples.rows[unit.example].made_of]
    assert [examples.rows[unit.example] for unit in units] == whole
    for unit, row in zip(units, whole, strict=True):
        (shown,), photo = unit.pictures, examples.rows[row.made_of[0]].path.name  # type: ignore
        assert (store.pixels[shown][..., 0].mean() > 100) == photo.startswith("red")
        assert store.wave(unit.sound).any()
    assert store.views.tolist() == [8] * 5, "they are looked at as their own source says"


def test_moments_are_made_of_nothing_that_is_held_out(tmp_path: Path) -> None:
    for folder, suffix in (("cats", "png"), ("mewing", "wav")):
        (tmp_path / folder).mkdir()
        for n in range(20):
            (tmp_path / folder / f"{n}.{suffix}").touch()
    source = Source("moments", limit=100, things={"cat": ("cats", "mewing")})
    examples = read_sources([Source("folders", tmp_path), source], held=3)
    made = [row for row in examples.rows if row.made_of]
    assert len(made) == 100
    assert not any(examples.rows[part].held for row in made for part in row.made_of or ())


def test_what_captions_name_twice_is_shown(media: Path) -> None:
    captions = {
        "lakes0.png": ["Dogs, by a lake", "two dogs bark", "3"],
        "lakes1.png": ["a dog", "4", "a hot-dog stand and a dog's bowl"],
        "lakes2.png": ["a dog", "a dogged man in a doghouse", "ein Hund", "A dog!"],
        "../red_cars/red_cars0.png": ["a dog in a car"],
    }
    lines = [json.dumps({"image": name, "captions": said}) for name, said in captions.items()]
    (media / "lakes" / "captions.jsonl").write_text("\n".join(lines), "utf-8")
    sources = [Source("captions", media / "lakes" / "captions.jsonl"), Source("folders", media, views=1)]
    examples = read_sources(sources, held=0)
    found = called(examples, Modality.IMAGE, ["dog", "Lakes", "tones", "1990"], held=False)
    names = {word: [examples.rows[row].path.name for row in rows] for word, rows in found.items()}  # type: ignore
    assert names["dog"] == ["red_cars0.png", "lakes0.png", "lakes1.png"], "twice the same is once; of one caption, one"
    assert names["Lakes"] == ["lakes0.png", "lakes1.png", "lakes2.png"], "those of the folder"
    assert not names["tones"], "it holds sounds"
    assert not names["1990"]
    assert not any(called(examples, Modality.IMAGE, ["dog"], held=True).values())


def test_a_sound_that_captions_alone_name_is_called_as_the_thing(media: Path) -> None:
    line = json.dumps({"file": "a.wav", "captions": ["a whistle"]})
    (media / "tones" / "captions.jsonl").write_text(line, "utf-8")
    moments = Source("moments", limit=3, things={"kettle": ("whistle", "lakes")})
    sources = [Source("captions", media / "tones" / "captions.jsonl"), Source("folders", media), moments]
    examples = read_sources(sources, held=0)
    assert [examples.tags[row.tag] for row in examples.rows if row.made_of] == ["kettle"] * 3


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("red cars", "whistles"), "'car': no folder to train on is called 'whistles', nor do 2 captions"),
        (("red cars",), "the thing 'car' has no photos, or no sounds"),
        (("tones",), "the thing 'car' has no photos, or no sounds"),
    ],
)
def test_moments_of_nothing_are_an_error(media: Path, folders: tuple[str, ...], said: str) -> None:
    source = Source("moments", limit=3, things={"car": folders})
    with pytest.raises(UsageError, match=said):
        read_sources([Source("folders", media), source], held=0)


class Asked:
    """Answers questions with their numbers; the disk is full from the fifth on, until it is freed."""

    def __init__(self) -> None:
        self.questions: list[int] = []
        self.full = True

    def __call__(self, start: int, stop: int) -> list[np.ndarray]:
        if self.full and stop > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.questions += range(start, stop)
        return [np.arange(start, stop, dtype=np.uint16), np.full((stop - start, 3), start, np.float16)]


def test_a_teacher_that_was_stopped_is_asked_for_the_rest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsearch.training.taught._AT_ONCE", 2)
    asked = Asked()
    with pytest.raises(OSError, match="No space left"):
        taught.ask(tmp_path / "one", ("layer", "classes"), 7, asked)
    assert not list((tmp_path / "one").glob("[!.]*.npy"))
    with (tmp_path / "one" / ".layer.npy").open("ab") as cut:
        cut.write(b"half a row")
    asked.full = False
    layer, classes = taught.ask(tmp_path / "one", ("layer", "classes"), 7, asked)
    assert asked.questions == list(range(7)), "each once"
    assert layer.tolist() == list(range(7))
    assert classes.tolist() == [[n // 2 * 2] * 3 for n in range(7)]
    again = taught.ask(tmp_path / "one", ("layer", "classes"), 7, asked)
    assert asked.questions == list(range(7)), "what is there isn't asked for"
    assert again[0].tolist() == list(range(7))


@pytest.mark.parametrize("named", [0, 1, 2])
def test_a_teacher_killed_while_its_answers_get_their_names_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: int
) -> None:
    asked, replaced = Asked(), Path.replace
    asked.full = False
    names: list[str] = []

    def replace(file: Path, target: Path) -> Path:
        if target.suffix == ".npy":
            names.append(target.name)
            if len(names) > named:
                raise KeyboardInterrupt
        return replaced(file, target)

    monkeypatch.setattr(Path, "replace", replace)
    if named < 2:
        with pytest.raises(KeyboardInterrupt):
            taught.ask(tmp_path / "one", ("layer", "classes"), 7, asked)
    else:
        taught.ask(tmp_path / "one", ("layer", "classes"), 7, asked)
        (tmp_path / "one" / "layer.npy").unlink()
    monkeypatch.undo()
    layer, classes = taught.ask(tmp_path / "one", ("layer", "classes"), 7, asked)
    assert (layer.tolist(), len(classes)) == (list(range(7)), 7)
    assert len(asked.questions) == (14 if named == 2 else 7), "one that was deleted is asked for again"


def test_a_teacher_without_anything_to_look_at_is_said(media: Path) -> None:
    examples = read_sources([Source("files", media / "tones")], held=0)
    with pytest.raises(UsageError, match=r"eyes\.tflite has nothing to teach from"):
        taught.teach_pictures(prepare(examples, 16), TeacherRecipe("litert", media / "eyes.tflite"))


def test_what_shares_a_recording_is_held_out_together(tmp_path: Path) -> None:
    (tmp_path / "rain").mkdir()
    for recording in range(40):
        for piece in range(5):
            (tmp_path / "rain" / f"{recording}-{piece}.ogg").touch()
    examples = read_sources([Source("folders", tmp_path, group=r"^(\d+)-")], held=4)
    by_recording: dict[str, set[bool]] = {}
    for row in examples.rows:
        assert row.path is not None
        by_recording.setdefault(row.path.name.partition("-")[0], set()).add(row.held)
    assert {len(held) for held in by_recording.values()} == {1}
    assert 2 <= sum(held == {True} for held in by_recording.values()) <= 20
    unlike = read_sources([Source("folders", tmp_path, group=r"[a-z]*")], held=4)
    assert {row.held for row in unlike.rows} == {False, True}, "a group of nothing is none"


def test_a_file_that_one_source_holds_out_is_not_trained_on_by_another(media: Path) -> None:
    sources = [Source("folders", media), Source("files", media / "lakes", held=1)]
    rows = read_sources(sources, held=0).rows
    held = {row.path for row in rows if row.held}
    assert len(held) == 3
    assert not held & {row.path for row in rows if not row.held}
    assert len(rows) == 7


def test_columns_of_a_dictionary_are_parallel_words(media: Path) -> None:
    (media / "words.tsv").write_text("chien\tdog\nodd\nchat\tcat\n", "utf-8")
    examples = read_sources([Source("parallel", media / "words.tsv", languages=("fr", "en"))], held=0)
    assert [words(examples, row.texts) for row in examples.rows] == [
        [("dog", "en"), ("chien", "fr")],
        [("cat", "en"), ("chat", "fr")],
    ]


def test_a_translation_is_taught_the_vector_of_what_it_translates(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Teacher:
        def __call__(self, texts: list[str]) -> np.ndarray:
            return np.asarray([[len(text), text.count("o")] for text in texts], np.float32)

    monkeypatch.setattr("mmsearch.training.taught.SentenceTeacher", Teacher)
    for language, lines in {"de": "eins", "en": "one"}.items():
        (media / f"lines.{language}").write_text(lines, "utf-8")
    examples = read_sources(
        [Source("parallel", media / "lines.{}", languages=("en", "de")), Source("folders", media)], held=0
    )
    vectors = teach_texts(prepare(examples, 16), examples)
    assert vectors[:2].tolist() == [[3, 1], [3, 1]]
    assert len(vectors) == len(examples.texts)


def test_a_sentence_teacher_that_reads_english_is_given_nothing_else(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Teacher:
        def __call__(self, texts: list[str]) -> np.ndarray:
            asked.extend(texts)
            return np.ones((len(texts), 2), np.float32)

    monkeypatch.setattr("mmsearch.training.taught.SentenceTeacher", Teacher)
    (media / "german.txt").write_text("eins\n", "utf-8")
    german = Source("texts", media / "german.txt", languages=("de",))
    examples = read_sources([german, Source("folders", media, prompts=("{}",))], held=0)
    vectors = teach_texts(prepare(examples, 16), examples)
    assert vectors.tolist() == [[0, 0], [1, 1], [1, 1], [1, 1]]
    assert asked == ["lakes", "red cars", "tones"]


def test_lines_that_say_what_is_said_of_a_held_out_file_are_left_out(media: Path) -> None:
    (media / "lines.txt").write_text("Blue water.\nGreen water\n", "utf-8")
    sources = [Source("files", media, name="photos", held=1), Source("texts", media / "lines.txt")]
    examples = read_sources(sources, held=10)
    assert [examples.texts[row.texts[0]].words for row in examples.rows if row.path is None] == ["Green water"]
