"""Whoever asks while the model of a library changes gets the answer of one model, never of both."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.model_changes import NEW, OLD, Answers, answers, fresh
from support.model_changes import library as library
from support.model_changes import media as media
from support.model_changes import pattern as pattern

import mmsearch
from mmsearch import Library
from mmsearch.catalog import Catalog
from mmsearch.search.retrieve import Retriever


def test_a_reader_in_another_process_sees_the_switch(library: Library, media: Path) -> None:
    script = (
        "import sys, mmsearch\n"
        f"with mmsearch.open({str(library.folder)!r}) as library:\n"
        "    for _ in sys.stdin:\n"
        "        print(library.profile, *sorted({hit.space for hit in library.query('red', k=50)}), flush=True)\n"
    )
    reader = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask() -> str:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert ask() == f"{OLD} {OLD}"
        library.index(media, model=NEW, prune=True)
        assert ask() == f"{NEW} {NEW}"
        library.index(media, model=OLD)
        assert ask() == f"{OLD} {OLD}"
        reader.stdin.close()


def test_the_new_indexes_are_ready_when_the_new_model_begins_to_answer(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: list[int] = []
    switch = Catalog.switch

    def look(catalog: Catalog, embedded_by: str, *, drop: bool) -> int | None:
        ready.append(len(list((library.folder / "indexes" / "2").rglob("manifest.json"))))
        return switch(catalog, embedded_by, drop=drop)

    monkeypatch.setattr(Catalog, "switch", look)
    library.index(media, model=NEW)
    assert ready == [3]


def test_an_answer_that_was_under_way_at_the_switch_is_made_anew(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with mmsearch.open(library.folder) as reader:
        answers(reader)
        search = Retriever.candidates
        pending = [True]

        def switch_meanwhile(*arguments: Any) -> object:  # noqa: ANN401
            found = search(*arguments)
            if pending:
                pending.clear()
                library.index(media, model=NEW, prune=True)
            return found

        monkeypatch.setattr(Retriever, "candidates", switch_meanwhile)
        got = answers(reader)
        assert not pending
    assert got == fresh(tmp_path / "fresh", NEW, media)


def test_threads_that_ask_while_the_model_changes_get_the_one_or_the_other(library: Library, media: Path) -> None:
    old, done = answers(library), threading.Event()
    seen: list[Answers] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            while not done.is_set():
                hits = library.query("red", k=100)
                seen.append([[(round(h.score, 3), h.path, h.view, h.start_s, h.end_s, h.text, h.space) for h in hits]])
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        library.index(media, model=NEW, prune=True)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
    new = answers(library)
    assert seen
    assert all(answer[0] in (old[0], new[0]) for answer in seen)
