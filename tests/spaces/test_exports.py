"""The cache of exported models: made once, found again, made anew when torn; and what a bad checkpoint says."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_clip import SIGLIP, XLM_R, make_clip

import mmsearch
from mmsearch.errors import ModelError
from mmsearch.media.text import passages
from mmsearch.spaces import (
    OnnxSpace,
    TextFrontEnd,
    Vectors,
    decoding_needs,
    embed,
    for_indexing,
    int8_tower,
    load_profile,
    normalise,
    pull_model,
    resolve_name,
)
from mmsearch.spaces import cache as exports
from mmsearch.spaces.cache import export_model, find_export, is_whole
from mmsearch.spaces.cuda import CudaSpace
from mmsearch.spaces.openclip import load_open_clip
from mmsearch.spaces.places import cache_folder
from mmsearch.spaces.sources import OPEN_CLIP, Checkpoint, canonical
from mmsearch.types import View

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def exported(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the model's export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", str(tmp_path_factory.mktemp("exported")))
        load_profile(name(made))
        return cache_folder()


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def name(folder: Path) -> str:
    return f"local-dir:{folder}"


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_checkpoint: object) -> None:
        raise AssertionError("it is exported again")

    monkeypatch.setattr(exports, "load_towers", load)


def vector(folder: Path) -> Vectors:
    return normalise(embed(load_profile(name(folder)).spaces[0], View.TEXT, ["a red car"])[0])


# Made once, found again


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


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("image.bin", "cut"),
        ("text.bin", "end"),
        ("text.onnx", "missing"),
        ("tokenizer.json", "empty"),
        ("spec.json", "cut"),
        ("whole.json", "missing"),
        ("whole.json", "empty"),
    ],
)
def test_a_torn_export_is_made_anew(made: Path, exported: Path, cache: Path, file: str, harm: str) -> None:
    shutil.copytree(exported, cache)
    folder = made
    before = vector(folder)
    found = find_export(name(folder))
    assert found is not None
    torn = found / file
    content = torn.read_bytes()
    torn.unlink()
    if harm != "missing":
        torn.write_bytes({"cut": content[: len(content) // 2], "end": content[:-8] + bytes(8), "empty": b""}[harm])
    assert not is_whole(found)
    np.testing.assert_allclose(vector(folder), before, atol=1e-6)
    assert find_export(name(folder)) == found


def test_damage_in_the_middle_is_found_before_a_run(made: Path, exported: Path, cache: Path) -> None:
    shutil.copytree(exported, cache)
    before = vector(made)
    profile = load_profile(name(made))
    found = find_export(name(made))
    assert found is not None
    content = bytearray((found / "text.bin").read_bytes())
    assert len(content) > 2**18
    middle = slice(2**17, len(content) - 2**17)
    content[middle] = bytes(len(content[middle]))
    (found / "text.bin").write_bytes(content)
    assert is_whole(found)
    assert not is_whole(found, thorough=True)
    for_indexing(profile, "cpu")
    assert is_whole(found, thorough=True)
    np.testing.assert_allclose(vector(made), before, atol=1e-6)


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


def test_an_export_is_killed_at_any_moment_and_leaves_all_or_nothing(folder: Path, cache: Path) -> None:
    random.seed(4)
    code = f"from mmsearch.spaces import load_profile; print('begun', flush=True); load_profile({name(folder)!r})"
    seconds = time.monotonic()
    wanted = vector(folder)
    seconds = time.monotonic() - seconds
    shutil.rmtree(cache)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.3, 1.0) * (seconds + 4))  # a moment, not a wait for something
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = find_export(name(folder))
        assert found is None or is_whole(found)
    np.testing.assert_allclose(vector(folder), wanted, atol=1e-6)
    assert [left.name for left in (cache / "spaces").iterdir() if left.name.startswith(".")] == []


def test_what_a_killed_export_left_beside_its_record_goes_with_the_next_one(folder: Path, cache: Path) -> None:
    load_profile(name(folder))
    (record,) = (cache / "sources").iterdir()
    record.rename(record.with_name(f".{record.name}.4711"))
    foreign = record.with_name(f".{record.name}.txt")
    foreign.write_text("mine")
    load_profile(name(folder))
    assert set(record.parent.iterdir()) == {record, foreign}


def test_two_processes_export_the_same_model_and_one_of_them_does_it(folder: Path) -> None:
    code = f"from mmsearch.spaces import load_profile; print(load_profile({name(folder)!r}).key)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    keys = {process.communicate(timeout=120)[0] for process in both}
    assert len(keys) == 1
    assert keys.pop().startswith("local-dir:")


def test_a_folder_that_cant_be_written_is_said_with_the_remedy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"can't be written .*set MMSEARCH_CACHE"):
        load_profile(name(folder))


def test_a_full_disk_is_said_with_the_remedy_and_leaves_nothing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"the disk is full; free some GB there, or set MMSEARCH_CACHE"):
        load_profile(name(folder))
    assert list((cache / "spaces").iterdir()) == []


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


# What a bad checkpoint says


def cut(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def garble(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"<html>404</html>" * 100)


def shrink(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_file(
        {key: value[:8].contiguous() if "mlp" in key else value for key, value in state.items()}, folder / WEIGHTS
    )


def lose(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    del state["visual.proj"]
    save_file(state, folder / WEIGHTS)


class Trap:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("trapped",)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"state_dict": Trap()}))


def torch_pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"state_dict": Trap()}, folder / "open_clip_pytorch_model.bin")


def described(section: str = "vision_cfg", **changes: object) -> Callable[[Path], object]:
    """Return what changes the configuration of a tower."""

    def change(folder: Path) -> None:
        file = folder / "open_clip_config.json"
        config = json.loads(file.read_text())
        config["model_cfg"][section] |= changes
        file.write_text(json.dumps(config))

    return change


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "half a download": (
        cut,
        r"open_clip_model\.safetensors can't be loaded: it is damaged, incomplete or of another",
    ),
    "another file": (garble, r"open_clip_model\.safetensors can't be loaded: it is damaged"),
    "another model's": (shrink, r"it belongs to another model .*give the checkpoint of this architecture"),
    "a weight is missing": (lose, r"it belongs to another model"),
    "a pickle": (pickled, r"open_clip_pytorch_model\.bin can't be loaded: .*(never unpickled|download it again)"),
    "a pickle of torch": (torch_pickled, r"it holds more than weights, and is never unpickled; get it as safetensors"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"holds no weights; call the one that counts"),
    "no configuration": (lambda f: (f / "open_clip_config.json").unlink(), r"holds no model: neither open_clip_conf"),
    "no folder": (shutil.rmtree, r"isn't a folder; give the one that holds the model"),
    "no JSON": (lambda f: (f / "open_clip_config.json").write_text("{"), r"open_clip_config\.json can't be read"),
    "a list": (
        lambda f: (f / "open_clip_config.json").write_text("[]"),
        r"open_clip_config\.json can't be read \(it is no JSON object",
    ),
    "a million layers": (described(layers=10**6), r"open_clip_config\.json can't be used \(layers is more than 256\)"),
    "a tower of terabytes": (described(layers=200, width=2**15), r"describes a larger model than its weights are"),
    "a picture of terabytes": (described(image_size=10**7), r"can't be used \(image_size is more than 4,096\)"),
    "code of its own": (
        described("text_cfg", tokenizer_kwargs={"trust_remote_code": True}),
        r"tokenizer_kwargs has options that mmsearch doesn't pass on",
    ),
    "code beside it": (
        lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["trap.Trap", null]}}'),
        r"tokenizer_config\.json can't be used \(auto_map would run code that comes with the model\)",
    ),
    "an unknown tower": (
        lambda f: (f / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8, "vision_cfg": {}}}'),
        r"can't be built .*correct its open_clip_config\.json",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_one_line_that_names_the_file_and_the_remedy(
    kind: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    harm, message = BAD[kind]
    harm(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_profile(name(folder))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "trapped").exists()
    assert not (cache / "spaces").exists() or list((cache / "spaces").iterdir()) == []


def test_several_checkpoints_in_a_folder_are_no_guess(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "epoch_1.pt")
    shutil.copy(folder / "epoch_1.pt", folder / "epoch_2.pt")
    with pytest.raises(ModelError, match=r"several checkpoints \(epoch_1\.pt, epoch_2\.pt\); call the one that counts"):
        load_profile(name(folder))


def test_a_checkpoint_of_another_activation_is_said_to_be_one(
    made: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> None:
        raise ModelError("enough")

    monkeypatch.setattr("mmsearch.spaces.openclip._model", build)
    checkpoint = Checkpoint("ViT-B-32/openai", OPEN_CLIP, made / WEIGHTS, architecture="ViT-B-32", tag="openai")
    with pytest.raises(ModelError, match="enough"):
        load_open_clip(checkpoint)
    assert "ViT-B-32-quickgelu/openai answers better" in caplog.text


def test_a_checkpoint_of_ones_own_for_a_known_architecture(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"")
    assert canonical(f"ViT-B-32:{file}") == f"ViT-B-32:{file}"
    assert canonical(f"ViT-B/32:{file}") == f"ViT-B-32:{file}"
    with pytest.raises(ModelError, match=r"mine\.safetensors can't be loaded: it is damaged"):
        load_profile(f"ViT-B-32:{file}")
    with pytest.raises(ModelError, match=r"nothing\.pt isn't a file"):
        load_profile(f"ViT-B-32:{tmp_path}/nothing.pt")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gigantic", r"no model is called 'gigantic'.*auto, mini, standard"),
        ("ViT-B-23", r"no model is called 'ViT-B-23'; open_clip has ViT-B-32"),
        ("ViT-B-32/laion3b", r"ViT-B-32 has no checkpoint 'laion3b'; give one of: openai, laion400m_e31"),
        ("ViT-B-32", r"ViT-B-32 has several checkpoints; give one of: openai"),
        ("hf-hub:", r"can't be the name of a model on the hub"),
        ("local-dir:", r"lacks a path after its colon"),
    ],
)
def test_a_name_that_stands_for_nothing_is_said_with_what_there_is(given: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_profile(given)


def test_names_are_brought_to_one_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert resolve_name("local-dir:model") == resolve_name("local-dir:./model") == name(folder)
    assert resolve_name(f"./{folder.name}") == name(folder)
    assert resolve_name("ViT-B/32/openai") == "ViT-B-32/openai"


def test_a_tokenizer_or_text_tower_that_is_nowhere_says_what_to_do(tmp_path: Path) -> None:
    folder = make_clip(tmp_path / SIGLIP, SIGLIP)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"the tokenizer of local-dir:.* can't be loaded"):
        load_profile(name(folder))
    folder = make_clip(tmp_path / XLM_R, XLM_R)
    shutil.rmtree(folder / "text")
    with pytest.raises(ModelError, match=r"can't be built .*(aren't on this disk|correct its open_clip_config)"):
        load_profile(name(folder))


def test_a_relative_cache_stays_where_it_was_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEARCH_CACHE", "a cache of this test")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    first = cache_folder()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cache_folder() == first == tmp_path / "a cache of this test"
