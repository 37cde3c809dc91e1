"""What teachers answer is asked once, kept, and taught to translations."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from support.training_media import media as media

from mmsearch.errors import UsageError
from mmsearch.training import taught
from mmsearch.training.recipe import Source, TeacherRecipe
from mmsearch.training.sources import read_sources
from mmsearch.training.store import prepare
from mmsearch.training.taught import teach_texts


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
