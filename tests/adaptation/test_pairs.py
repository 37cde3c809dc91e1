"""The pairs that adaptation learns from: which there are, which are held out, and which are too few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.adaptations import COUNT
from support.adaptations import photos as photos
from support.adaptations import quick as quick
from support.adapted_maker import MODEL

import mmsearch
from mmsearch import View
from mmsearch.adaptation import fit as training
from mmsearch.adaptation import pairs as collecting
from mmsearch.adaptation.pairs import TRAIN, collect
from mmsearch.catalog import Catalog, NewContent, NewMedia
from mmsearch.catalog.rows import NewSegment
from mmsearch.folder import CATALOG
from mmsearch.records import Origin, Segment, Text
from mmsearch.spaces import embed, load_profile
from mmsearch.types import Modality


def test_captions_are_cut_into_sentences_folders_are_tags_and_what_is_said_in_a_moment_is_left_out(
    tmp_path: Path,
) -> None:
    space = load_profile(MODEL).spaces[0]
    with mmsearch.open(tmp_path / "library", model=MODEL):
        pass
    catalog = Catalog(tmp_path / "library" / CATALOG)
    space_id = catalog.add_space(space.name, space.fingerprint, space.dim)
    words = embed(space, View.TEXT, ["whole", "other"])

    def content(n: int, folder: str, *segments: NewSegment) -> NewContent:
        names = [NewMedia(f"/{folder}/{n}".encode(), 1, 1, "", "1")]
        return NewContent(b"%020d" % n, Modality.IMAGE, segments, names)

    def segment(text: str | None, *views: View, start_s: float | None = None, silent: bool = False) -> NewSegment:
        vectors = {(space_id, view): words[int(view is View.TEXT)] for view in views}
        said = Origin.SUBTITLE if {View.VISUAL, View.AUDIO} & {*views} and start_s is not None else Origin.CAPTION
        return Segment(vectors, start_s, None, (Text(said, text),) if text else (), silent)

    seen, text, heard = View.VISUAL, View.TEXT, View.AUDIO
    catalog.commit(
        [
            content(1, "beach", segment("One boat. Two boats!\nThree boats", seen, text)),
            content(2, "beach", segment("A gull", seen, text)),
            content(3, "alone", segment(" ".join(f"Sentence {n}." for n in range(9)), seen, text)),
            content(
                4, "clips", segment("he speaks", seen, text, heard, start_s=0.0), segment("A talk", text, start_s=0.0)
            ),
            content(5, "clips", segment("he speaks", seen, text, heard, start_s=0.0, silent=True)),
            content(6, "beach", segment(None, seen)),
            content(7, "beach", segment("a note", text)),
        ],
        "key",
    )
    found = collect(catalog, space)
    catalog.close()
    assert (found.captioned, found.sounding, len(found.folds)) == (4, 1, 4)
    want = embed(space, View.TEXT, ["One boat.", "Two boats!", "Three boats"])
    np.testing.assert_allclose(found.captions.of(np.arange(4) == 0).vectors, want, atol=1e-6)
    np.testing.assert_allclose(found.captions.of(np.arange(4) == 1).vectors, words[1:], atol=1e-3)  # as it is stored
    assert np.bincount(found.captions.owners).tolist() == [3, 1, 5, 1]
    assert found.tags.tolist() == [0, 0, -1, -1]
    np.testing.assert_allclose(found.sounds.vectors, words[:1], atol=1e-3)
    assert found.sounds.owners.tolist() == found.frames.owners.tolist() == [3]


def test_a_tenth_is_held_out_by_the_hash_of_contents_and_its_halves_are_as_large(photos: Path) -> None:
    with mmsearch.open(photos) as opened:
        catalog, space = opened.seen().catalog, opened.seen().profile.spaces[0]
        one, again, other = collect(catalog, space), collect(catalog, space), collect(catalog, space, seed=1)
    assert np.bincount(one.folds).tolist() == [COUNT - 30, 15, 15]  # never fewer than thirty
    np.testing.assert_array_equal(one.folds, again.folds)
    assert (one.folds != other.folds).any()


def test_of_very_many_pairs_some_are_learnt_from(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mmsearch.open(photos) as opened:
        catalog, space = opened.seen().catalog, opened.seen().profile.spaces[0]
        whole = collect(catalog, space)
        monkeypatch.setattr(collecting, "_MAX_PAIRS", 40)
        few = collect(catalog, space)
    assert (len(whole.folds), len(few.folds)) == (COUNT, 40)
    assert few.captions.owners.tolist() == few.pictures.owners.tolist() == list(range(40))
    places = [int((whole.captions.vectors @ row).argmax()) for row in few.captions.vectors]
    assert places == sorted(places)
    np.testing.assert_array_equal(few.pictures.vectors, whole.pictures.vectors[places])
    held = set(np.flatnonzero(whole.folds != TRAIN).tolist())
    assert {places[n] for n in np.flatnonzero(few.folds != TRAIN)} <= held


def test_a_handful_of_one_kind_of_pairs_is_left_out_and_moves_nothing(photos: Path) -> None:
    with mmsearch.open(photos) as opened:
        whole = collect(opened.seen().catalog, opened.seen().profile.spaces[0])
    few = whole.pictures.of(np.arange(COUNT) % 6 == 0)  # sixteen of them have a sound, which looks like the picture
    mixed = replace(whole, frames=few, sounds=few, anchors={View.AUDIO: few.vectors})
    assert (mixed.captioned, mixed.sounding, mixed.pairs) == (COUNT, 16, COUNT)
    told = mixed.without_rare_kinds()
    assert (told.captioned, told.sounding, told.pairs) == (COUNT, 0, COUNT)
    heads = training.adapt(told).heads
    assert heads is not None
    assert set(heads) == {View.TEXT, View.VISUAL}
    none = replace(mixed, captions=few, pictures=few).without_rare_kinds()
    assert (none.pairs, int((none.folds != TRAIN).sum())) == (0, 0)
