"""The confidence of a hit: where there is one, what it cuts, and when its calibration is made again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.search_libraries import ONE_WORKER, cut, draw, library_of, write
from support.search_libraries import crowd as crowd
from support.search_libraries import library as library
from support.search_libraries import media as media

import mmsearch
from mmsearch import Library, ModelError, Term, View
from mmsearch.search.calibration import Calibration
from mmsearch.search.query import make_query


def test_a_library_of_fewer_than_100_segments_has_no_confidence_and_cuts_nothing(library: Library) -> None:
    assert library.status().segments < 100
    answer = cut(library, "zebra")
    assert answer.hits
    assert (answer.weak, {hit.confidence for hit in answer.hits}) == (0, {None})


def test_what_is_there_is_more_certain_than_what_isnt(crowd: Library) -> None:
    there = crowd.query("purple", k=1)[0].confidence
    absent = [crowd.query(text, k=1)[0].confidence for text in ("zebra", "volcano", "trombone", "harbour at dawn")]
    assert there is not None
    assert all(one is not None and 0 <= one < there <= 1 for one in absent)


def test_confidence_doesnt_depend_on_how_many_hits_are_asked_for(crowd: Library) -> None:
    few, many = (crowd.query("purple thing", k=k) for k in (3, 100))
    assert [hit.confidence for hit in few] == pytest.approx([hit.confidence for hit in many[:3]])


def test_only_words_that_ask_alone_have_a_confidence(crowd: Library, media: Path) -> None:
    photo = Term(media / "photos" / "fruit.png")
    for items in ([photo], [Term("purple"), Term("red")], [Term("purple"), Term("red", -1)], [Term("purple"), photo]):
        assert {hit.confidence for hit in crowd.query(items, cut=True)} == {None}


def test_weak_matches_are_cut_and_counted_however_few_are_asked_for(
    crowd: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = crowd.query("purple", k=50)
    sure = [hit.confidence or 0.0 for hit in hits]
    monkeypatch.setattr("mmsearch.search.answer.WEAK", sorted(sure)[30])
    strong = [hit.path for hit, one in zip(hits, sure, strict=True) if one >= sorted(sure)[30]]
    for k in (1, 3, 10):
        answer = crowd.answer(make_query("purple", k=k, cut=True))
        assert [hit.path for hit in answer.hits] == strong[:k]
        assert answer.weak + answer.hidden == [hit.path for hit in hits].index(strong[k - 1]) + 1 - k
        assert [hit.rank for hit in answer.hits] == list(range(1, k + 1))


def test_a_torn_calibration_gives_no_confidence_and_the_next_run_mends_it(crowd: Library, tmp_path: Path) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "torn")
    for file in folder.rglob("*.bank.npz"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        assert library.query("purple", k=1)[0].confidence is None
        added = draw(tmp_path / "media" / "added.png", "purple", "grey", 0.1)
        library.index(added)
        assert library.query("purple", k=1)[0].confidence is not None


def test_a_calibration_is_made_anew_when_an_eighth_of_a_view_is_new(crowd: Library, tmp_path: Path) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "library")

    def written() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*.bank.npz")}

    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        before = written()
        assert len(before) == 2
        draw(tmp_path / "media" / "one.png", "purple", "grey", 0.1)
        library.index(tmp_path / "media")
        assert written() == before
        for at in range(2, 14):
            draw(tmp_path / "media" / f"{at}.png", "purple", "grey", at / 16)
        library.index(tmp_path / "media")
        assert [name for name in before if written()[name] != before[name]] == ["visual.bank.npz"]
        grown = written()
        for at in range(2, 14):  # as many are gone as come
            (tmp_path / "media" / f"{at}.png").unlink()
            draw(tmp_path / "media" / f"other {at}.png", "brown", "orange", at / 16)
        library.index(tmp_path / "media")
        assert [name for name in grown if written()[name] != grown[name]] == ["visual.bank.npz"]
        library.forget(tmp_path / "media", *(hit.path for hit in library.query("note", k=60, modalities={"text"})))
        assert written() == {}  # fewer than 100 segments are left


def test_a_view_much_smaller_than_it_was_measured_has_no_confidence(
    crowd: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "library")
    monkeypatch.setattr(Calibration, "catch_up", lambda _: None)  # as if killed before
    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        photos = [hit.path for hit in library.query("red", k=60, modalities={"image"})]
        library.forget(*photos[10:])
        hits = library.query("red", modalities={"image"}, cut=True)
        assert {hit.confidence for hit in hits if hit.view is View.VISUAL} == {None}


def test_a_run_whose_bank_cant_be_asked_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_space: object) -> None:
        raise ModelError("text.onnx can't be loaded")

    monkeypatch.setattr("mmsearch.search.calibration._texts", fail)
    for at in range(120):
        write(tmp_path / "media" / f"{at}.md", f"note {at}")
    with library_of(tmp_path / "library") as library:
        assert library.index(tmp_path / "media").added == 120
        assert "how sure a hit is can't be measured" in caplog.text
        assert library.query("note 7", k=1)[0].confidence is None


def test_a_file_of_bytes_by_chance_is_no_calibration(crowd: Library, tmp_path: Path) -> None:
    folder = shutil.copytree(crowd.folder, tmp_path / "library")
    (file, *_) = (whole for whole in folder.rglob("visual.bank.npz"))
    content, random = bytearray(file.read_bytes()), np.random.default_rng(0)
    with mmsearch.open(folder, settings=ONE_WORKER) as library:
        for turn in range(60):
            harmed = content.copy()
            place = int(random.choice([0, len(content) - 900])) + int(random.integers(0, 900))
            harmed[place] ^= 1 << int(random.integers(0, 8))
            file.write_bytes(harmed)
            os.utime(file, ns=(turn, turn))
            assert library.query("purple", k=1, modalities={"image"})
