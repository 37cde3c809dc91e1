"""A library adapts its space to what it holds: where that gains, the new space is kept; else nothing changes."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image
from support.adaptations import COUNT, answers, assert_as_it_was, matrix, vectors
from support.adaptations import adapted as adapted
from support.adaptations import learnt as learnt
from support.adaptations import library as library
from support.adaptations import photos as photos
from support.adaptations import quick as quick
from support.adapted_maker import MODEL, captions, make_clips, make_photos

import mmsearch
from mmsearch import AdaptReport, UsageError, View
from mmsearch.adaptation import fit as training
from mmsearch.adaptation.early_stopping import Trial
from mmsearch.adaptation.fit import Outcome
from mmsearch.adaptation.pairs import Collection, collect
from mmsearch.folder import CATALOG
from mmsearch.metrics import Interval
from mmsearch.search.query import Query
from mmsearch.spaces import AdaptedSpace, HeadWeights, embed, load_profile
from mmsearch.types import Term


@pytest.fixture
def changed(adapted: tuple[Path, AdaptReport], tmp_path: Path) -> Path:
    """A library that was adapted, to be written to."""
    return Path(shutil.copytree(adapted[0], tmp_path / "changed"))


def found(folder: Path, texts: Sequence[str]) -> float:
    """Return how often a caption finds its own photo among ten by what is seen alone."""
    with mmsearch.open(folder) as opened:
        shares = []
        for n, text in enumerate(texts):
            query = Query((Term(text),), 10, rerank=False, views=frozenset({View.VISUAL}))
            shares.append(Path(f"/made/{n}.jpg") in {hit.path for hit in opened.answer(query).hits})
    return float(np.mean(shares))


def test_it_gains_where_captions_say_what_the_space_has_scrambled(
    photos: Path, adapted: tuple[Path, AdaptReport]
) -> None:
    folder, report = adapted
    assert (report.adapted, report.pairs) == (True, COUNT)
    assert [gain.direction for gain in report.gains] == ["text→visual", "visual→text"]
    assert all(gain.after > 2 * gain.before and gain.metric == "mrr" for gain in report.gains)
    assert report.overall.value > report.overall.low > 0.1
    with mmsearch.open(folder) as opened:
        assert opened.profile == report.model
        assert opened.status().kept_models == (MODEL,)
        assert (opened.outdated(), opened.status().changing_to) == (0, None)
    texts = captions(COUNT)[:40]
    assert found(folder, texts) > found(photos, texts) + 0.3


def test_what_is_stored_is_moved_by_the_heads_and_nothing_else_changes(
    photos: Path, adapted: tuple[Path, AdaptReport]
) -> None:
    folder, _ = adapted
    with mmsearch.open(folder) as opened:
        space = opened.seen().profile.spaces[0]
    assert isinstance(space, AdaptedSpace)
    for view in (View.TEXT, View.VISUAL):
        before, after = vectors(photos, view), vectors(folder, view)
        assert len(before) == COUNT
        assert before.keys() == after.keys()
        np.testing.assert_allclose(matrix(after), space.head(view, matrix(before)), atol=2e-3)
        assert float(np.sum(matrix(before) * matrix(after), axis=1).mean()) < 0.99
    said = "(SELECT group_concat(words) FROM text WHERE text.segment_id = segment.id)"
    rows = f"SELECT content.hash, start_s, end_s, {said}, silent, view, embedding.modality, draw FROM embedding"
    joined = f"{rows} JOIN segment ON segment.id = segment_id JOIN content ON content.id = content_id"
    with closing(sqlite3.connect(folder / CATALOG)) as connection:
        old, new = (
            sorted(map(str, connection.execute(f"{joined} WHERE segment.profile_id = ?", (n,)))) for n in (1, 2)
        )
    assert len(old) == 2 * COUNT
    assert new == old


def test_with_captions_shuffled_it_keeps_the_old_space(tmp_path: Path) -> None:
    make_photos(tmp_path / "library", COUNT, shuffled=True)
    before = answers(tmp_path / "library")
    with mmsearch.open(tmp_path / "library") as opened:
        report = opened.adapt()
    assert (report.adapted, report.model) == (False, MODEL)
    assert report.overall.low <= 0
    assert_as_it_was(tmp_path / "library", before)
    assert not (tmp_path / "library" / "adapted").exists()


def test_pictures_and_sounds_of_clips_come_together_and_words_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_NEGATIVES", 64)
    make_clips(tmp_path / "library", 60)
    before = {view: vectors(tmp_path / "library", view) for view in View}
    with mmsearch.open(tmp_path / "library") as opened:
        report = opened.adapt()
    assert report.adapted
    assert [gain.direction for gain in report.gains] == ["audio→visual", "visual→audio"]
    after = {view: vectors(tmp_path / "library", view) for view in View}
    np.testing.assert_allclose(matrix(after[View.TEXT]), matrix(before[View.TEXT]), atol=1e-3)
    own = [
        float(np.sum(matrix(some[View.VISUAL]) * matrix(some[View.AUDIO]), axis=1).mean()) for some in (before, after)
    ]
    assert own[1] > own[0] + 0.2


def test_what_has_no_pair_stays_as_near_to_the_rest_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clips(tmp_path / "library", 60)
    with mmsearch.open(tmp_path / "library") as opened:
        collection = collect(opened.seen().catalog, opened.seen().profile.spaces[0])
    assert len(collection.anchors[View.TEXT]) == 40

    def drift() -> float:
        heads = adapt_anyway(collection, monkeypatch)
        seen, words = collection.frames.vectors, collection.anchors[View.TEXT]
        return float(np.abs((heads(seen) - seen) @ words.T).mean())

    held = drift()
    monkeypatch.setattr(training, "_ANCHORS", 0.0)
    assert held < 0.8 * drift()


def adapt_anyway(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> HeadWeights:
    """Return the head of pictures after as many steps as there are, whatever it gains."""
    monkeypatch.setattr(training, "STEPS", 60)
    monkeypatch.setattr(Trial, "measure", lambda *_: True)
    monkeypatch.setattr(Trial, "is_over", False)
    monkeypatch.setattr(Trial, "overall", lambda _: Interval(1.0, 1.0, 1.0))
    monkeypatch.setattr(Trial, "gains", lambda _: ())
    heads = training.adapt(collection).heads
    assert heads is not None
    return heads[View.VISUAL]


def test_too_little_to_learn_from_is_an_error_that_says_what_is_missing(tmp_path: Path, run: Run) -> None:
    make_photos(tmp_path / "library", 49)
    done = run("adapt", library=tmp_path / "library")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "49 pictures or clips with a caption and 0 clips with sound, where 50 in all are needed" in done.stderr
    assert "photo.txt" in done.stderr
    assert run("adapt", library=tmp_path / "none").returncode == 2


def test_an_adapted_library_says_how_to_adapt_it_again(
    changed: Path, learnt: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "adapt", lambda *_, **__: learnt)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "new.png")
    with mmsearch.open(changed) as opened:
        with pytest.raises(UsageError, match=r"adapted already; go back with 'mmsearch index PATH --model hashing"):
            opened.adapt()
        opened.index(tmp_path / "new.png")
        assert opened.index(tmp_path / "new.png", model=MODEL).switched_to == MODEL
        assert opened.adapt().adapted
        hits = opened.query(tmp_path / "new.png", k=1)
        assert hits[0].path == tmp_path / "new.png"


def test_a_library_that_changes_to_another_model_or_lacks_vectors_is_refused(library: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red door")
    with mmsearch.open(library) as opened:
        opened.index(tmp_path / "note.txt", model="mini")  # what was made is nowhere to be read
        assert opened.status().changing_to == "mini"
        with pytest.raises(UsageError, match=r"changing to the model 'mini'; finish that with"):
            opened.adapt()
        opened.index(tmp_path / "note.txt", model=MODEL)
        with closing(sqlite3.connect(library / CATALOG)) as connection:
            connection.execute("UPDATE embedded SET resume_s = 5 WHERE content_id = 1")
            connection.commit()
        with pytest.raises(UsageError, match=r"1 of the files in .* aren't embedded completely; run 'mmsearch index'"):
            opened.adapt()


def test_a_moved_library_answers_as_before(changed: Path, tmp_path: Path) -> None:
    before = answers(changed)
    moved = changed.rename(tmp_path / "elsewhere")
    assert answers(moved) == before
    assert {hit[2].partition(":")[0] for some in before for hit in some} == {"adapted"}


def test_files_that_come_later_are_found_in_the_adapted_space(changed: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "purple").save(tmp_path / "purple.png")
    (tmp_path / "note.txt").write_text("a zeppelin over the harbour")
    with mmsearch.open(changed) as opened:
        assert opened.index(tmp_path / "purple.png", tmp_path / "note.txt").added == 2
        (first,) = opened.query("a zeppelin over the harbour", k=1)
        assert (first.path.name, first.space) == ("note.txt", opened.profile)
        assert opened.query(tmp_path / "purple.png", k=1)[0].path.name == "purple.png"
        space = opened.seen().profile.spaces[0]
    assert isinstance(space, AdaptedSpace)
    base = load_profile(MODEL).spaces[0]
    want = space.head(View.TEXT, embed(base, View.TEXT, ["a zeppelin over the harbour"]))[0]
    stored = next(row for name, row in vectors(changed, View.TEXT).items() if "note.txt" in name)
    np.testing.assert_allclose(stored, want, atol=2e-3)


def test_the_way_back_costs_nothing_and_prune_removes_what_was_learnt(
    photos: Path, changed: Path, tmp_path: Path
) -> None:
    name = next(entry for entry in (changed / "adapted").iterdir() if entry.is_dir()).name
    (tmp_path / "media").mkdir()
    with mmsearch.open(changed) as opened:
        report = opened.index(tmp_path / "media", model=MODEL)
        assert (report.switched_to, report.updated) == (MODEL, 0)
    assert answers(changed) == answers(photos)
    with mmsearch.open(changed) as opened:
        assert opened.index(tmp_path / "media", model=f"adapted:{name}").switched_to == f"adapted:{name}"
        opened.index(tmp_path / "media", model=MODEL, prune=True)
        assert opened.status().kept_models == ()
    assert [entry for entry in (changed / "adapted").iterdir() if entry.is_dir()] == []
    assert answers(changed) == answers(photos)


def test_a_library_that_is_open_elsewhere_answers_in_the_adapted_space_at_once(
    library: Path, learnt: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "adapt", lambda *_, **__: learnt)
    with mmsearch.open(library) as opened, mmsearch.open(library) as reader:
        assert reader.query("a canoe", k=1)[0].space == MODEL
        report = opened.adapt()
        assert reader.query("a canoe", k=1)[0].space == opened.query("a canoe", k=1)[0].space == report.model


def test_an_adapted_library_is_asked_without_torch(changed: Path) -> None:
    code = f"import sys, mmsearch; assert mmsearch.open({str(changed)!r}).query('a canoe'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mmsearch.spaces.adapted" in done.stdout.split()
    assert "torch" not in done.stdout.split()
