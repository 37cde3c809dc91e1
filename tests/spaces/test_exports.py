"""The cache of exported models: an export is made once, found again, and told from that of any other checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.exports import WEIGHTS, name, vector
from support.exports import cache as cache
from support.exports import folder as folder
from support.exports import made as made
from support.small_clip import SIGLIP, make_clip

import mmsearch
from mmsearch.errors import ModelError
from mmsearch.media.text import passages
from mmsearch.spaces import OnnxSpace, TextFrontEnd, decoding_needs, embed, int8_tower, load_profile, pull_model
from mmsearch.spaces import cache as exports
from mmsearch.spaces.cache import export_model, find_export
from mmsearch.spaces.cuda import CudaSpace
from mmsearch.spaces.places import cache_folder
from mmsearch.types import View


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_checkpoint: object) -> None:
        raise AssertionError("it is exported again")

    monkeypatch.setattr(exports, "load_towers", load)


def test_an_export_is_made_once_and_needs_its_checkpoint_no_more(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_export(name(folder)) is None
    profile = load_profile(name(folder))
    before = vector(folder)
    assert [left.name for left in (cache / "spaces").iterdir() if left.name.startswith(".")] == []
    forbid(monkeypatch)
    np.testing.assert_array_equal(vector(folder), before)
    shutil.rmtree(folder)
    again = load_profile(profile.name, pins=profile.pins)
    assert again.key == profile.key
    np.testing.assert_array_equal(embed(again.spaces[0], View.TEXT, ["a red car"])[0], before)


def test_a_library_answers_without_the_checkpoint_it_was_made_from(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    with mmsearch.open(tmp_path / "library", model=name(folder)) as library:
        library.index(tmp_path / "note.txt")
    shutil.rmtree(folder)
    with mmsearch.open(tmp_path / "library") as library:
        assert [hit.path.name for hit in library.query("red car")] == ["note.txt"]


def test_another_checkpoint_in_the_same_place_is_another_space(folder: Path, tmp_path: Path) -> None:
    before = load_profile(name(folder))
    other = make_clip(tmp_path / "other", seed=1)
    (other / WEIGHTS).replace(folder / WEIGHTS)
    after = load_profile(name(folder))
    assert after.key != before.key
    assert load_profile(before.name, pins=before.pins).key == before.key
    shutil.rmtree(cache_folder() / "spaces")
    with pytest.raises(ModelError, match="isn't ready on this machine; if you trust it, run 'mmsearch model pull"):
        load_profile(before.name, pins=before.pins)
    export_model(before.name)
    with pytest.raises(ModelError, match="since this library was embedded with it; put the old checkpoint back"):
        load_profile(before.name, pins=before.pins)


def test_the_same_checkpoint_elsewhere_has_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert load_profile(name(copy)).spaces[0].fingerprint == load_profile(name(folder)).spaces[0].fingerprint


def test_preprocessing_is_part_of_the_fingerprint(folder: Path) -> None:
    before = load_profile(name(folder)).spaces[0].fingerprint
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert load_profile(name(folder)).spaces[0].fingerprint != before


def test_weights_that_come_to_count_are_another_space(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model.safetensors")
    before = load_profile(name(folder)).key
    shutil.copy(make_clip(tmp_path / "other", seed=1) / WEIGHTS, folder / WEIGHTS)  # open_clip would take this one
    assert load_profile(name(folder)).key != before


def test_another_tokenizer_is_another_space(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / SIGLIP, SIGLIP)
    before = load_profile(name(folder)).key
    fields = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = fields["model"]["vocab"]
    first, second = [word for word in vocabulary if len(word) > 3 and not word.startswith("<")][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    assert load_profile(name(folder)).key != before


def test_torch_refuses_a_checkpoint_that_was_replaced(folder: Path, tmp_path: Path) -> None:
    place = export_model(name(folder))
    shutil.copy(make_clip(tmp_path / "other", seed=1) / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ModelError, match="has changed since this library was embedded with it"):
        CudaSpace(name(folder), place, device="cpu")


def test_a_space_folder_that_was_replaced_is_refused(folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(export_model(name(folder)), tmp_path / "space")
    profile = load_profile(str(moved))
    shutil.rmtree(moved)
    shutil.copytree(export_model(name(make_clip(tmp_path / "other", seed=1))), moved)
    with pytest.raises(
        ModelError, match="has changed since you last used it; if you trust it, run 'mmsearch model pull"
    ):
        load_profile(profile.name, pins=profile.pins)
    load_profile(str(moved))
    with pytest.raises(ModelError, match="has changed since this library was embedded with it"):
        load_profile(profile.name, pins=profile.pins)


def test_a_library_answers_again_after_its_cache_was_deleted_and_its_model_pulled(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("a red car")
    with mmsearch.open(tmp_path / "library", model=name(folder)) as library:
        library.index(tmp_path / "note.txt")
    with mmsearch.open(tmp_path / "library") as library:
        assert library.status().segments == 1
        shutil.rmtree(cache)
        with pytest.raises(ModelError, match="isn't ready on this machine; if you trust it, run 'mmsearch model pull"):
            library.query("red car")
        list(pull_model(name(folder)))
        assert [hit.path.name for hit in library.query("red car")] == ["note.txt"]


def test_a_library_whose_model_is_gone_says_what_it_holds_and_changes(
    folder: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for n in range(3):
        (notes / f"{n}.txt").write_text(f"a red car {n}")
    with mmsearch.open(tmp_path / "library", model=name(folder)) as library:
        library.index(notes)
    shutil.rmtree(cache)
    shutil.rmtree(folder)
    with mmsearch.open(tmp_path / "library") as library:
        assert library.status().segments == 3
        assert "isn't ready on this machine" in caplog.text
        with pytest.raises(ModelError, match=r"isn't ready on this machine.*index PATH --model OTHER --library"):
            library.query("red car")
        (notes / "2.txt").unlink()
        assert library.forget(notes / "2.txt") == 1
        assert library.index(notes, model="hashing").switched_to == "hashing"
        assert {hit.path.name for hit in library.query("red car")} == {"0.txt", "1.txt"}


def test_passages_fit_every_text_tower_of_a_profile(folder: Path) -> None:
    profile = load_profile(name(folder))
    ends = [end for space in profile.spaces for end in space.front_ends.values()]
    _, most, count, _ = decoding_needs(ends)
    text = " ".join(["Donaudampfschifffahrtsgesellschaft 12345 zzyzx"] * 40)
    for passage in passages(text, count, most):
        for end in ends:
            if isinstance(end, TextFrontEnd):
                assert end.count_tokens(passage) <= end.max_tokens


def test_a_space_folder_is_taken_as_it_is(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = vector(folder)
    moved = tmp_path / "elsewhere"
    shutil.copytree(export_model(name(folder)), moved)
    forbid(monkeypatch)
    for given in (str(moved), name(moved)):
        space = load_profile(given).spaces[0]
        np.testing.assert_array_equal(embed(space, View.TEXT, ["a red car"])[0], before)


def test_pulling_names_every_space_and_where_it_is(folder: Path) -> None:
    found = dict(pull_model(name(folder)))
    assert list(found) == [name(folder), "mini"]
    assert all((place / "spec.json").is_file() for place in found.values())


def test_int8_is_nearly_the_same_and_a_quarter_of_the_size(folder: Path) -> None:
    space = load_profile(name(folder)).spaces[0]
    assert isinstance(space, OnnxSpace)
    pixels = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8) for n in range(20)]
    exact = space.encode(View.VISUAL, pixels)
    file = int8_tower(space)
    assert file == int8_tower(space)
    space.replace_tower(View.VISUAL, file)
    rough = space.encode(View.VISUAL, pixels)
    assert 0.98 < float(np.sum(exact * rough, axis=1).min()) < 0.9999999
    weights = space.tower_file(View.VISUAL).with_suffix(".bin").stat().st_size
    assert sum(part.stat().st_size for part in file.parent.iterdir()) < weights


def test_a_relative_cache_stays_where_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEARCH_CACHE", "a cache of this test")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    first = cache_folder()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cache_folder() == first == tmp_path / "a cache of this test"
