"""Adapted spaces: heads in NumPy over another space's towers, from a folder that is whole or not at all.

What every space promises is tested in test_spaces.py, for these too.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.adapted_maker import make_adapted, random_head, write_heads

import mmsearch
from mmsearch.errors import ModelError
from mmsearch.files import write_whole
from mmsearch.spaces import AdaptedSpace, HeadWeights, SoundFrontEnd, adapted, embed, load_profile, normalise
from mmsearch.training.heads import Head
from mmsearch.types import View


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapted(tmp_path_factory.mktemp("spaces"), "hashing")


@pytest.fixture
def folder(pattern: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pattern, tmp_path / pattern.name))


def opened(folder: Path) -> AdaptedSpace:
    space = load_profile(folder).spaces[0]
    assert isinstance(space, AdaptedSpace)
    return space


def rows(count: int, dim: int) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(1).standard_normal((count, dim)))


# Heads


def test_a_head_computes_what_its_formula_says() -> None:
    head, vectors = random_head(6, 3), rows(4, 6)
    for got, v in zip(head(vectors), vectors.astype(np.float64), strict=True):
        inner = [float(w @ v) + float(b) for w, b in zip(head.w1, head.b1, strict=True)]
        bent = [0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) for x in inner]
        want = v + head.w2 @ np.asarray(bent) + head.b2
        np.testing.assert_allclose(got, want / np.linalg.norm(want), atol=1e-6)


@pytest.mark.parametrize("dim", [96, 40])
def test_a_head_is_in_numpy_what_it_was_in_torch(dim: int) -> None:
    torch.manual_seed(0)
    head = Head(dim, into=96)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.2)
    vectors = rows(200, 96)
    with torch.inference_mode():
        trained = head(torch.from_numpy(vectors)).numpy()
    run = head.weights()(vectors)
    assert run.dtype == np.float32
    assert np.sum(trained * run, axis=1).min() >= 0.999999
    assert np.abs(trained - vectors[:, :dim]).max() > 0.1  # it does something


def test_before_its_first_step_a_head_leaves_the_space_as_it_is() -> None:
    vectors = rows(50, 32)
    for head in (Head(32).weights(), HeadWeights.identity(32)):
        np.testing.assert_allclose(head(vectors), vectors, atol=1e-6)


# A space of them


def test_files_and_stored_vectors_are_moved_alike(folder: Path) -> None:
    space, base = opened(folder), load_profile("hashing").spaces[0]
    texts = ["a red car", "snow", "two boats on the water"]
    before, after = embed(base, View.TEXT, texts), embed(space, View.TEXT, texts)
    np.testing.assert_array_equal(space.head(View.TEXT, before), after)
    assert np.sum(before * after, axis=1).max() < 0.99
    picture = Image.new("RGB", (40, 30), "orange")
    np.testing.assert_array_equal(
        embed(space, View.VISUAL, [picture]), space.head(View.VISUAL, embed(base, View.VISUAL, [picture]))
    )


def test_its_background_is_what_was_measured_and_else_its_bases(folder: Path) -> None:
    space, base = opened(folder), load_profile("hashing").spaces[0]
    assert space.background(View.TEXT, View.VISUAL) == space.background(View.VISUAL, View.TEXT) == (0.25, 0.125)
    assert space.background(View.AUDIO, View.TEXT) == base.background(View.AUDIO, View.TEXT)


def test_a_head_may_take_a_tower_of_another_space_into_it(tmp_path: Path) -> None:
    mini, hashing = load_profile("mini").spaces[0], load_profile("hashing").spaces[0]
    bases = {View.TEXT: mini, View.AUDIO: hashing}
    heads = {View.TEXT: HeadWeights.identity(mini.dim), View.AUDIO: random_head(mini.dim, 4, entering=hashing.dim)}
    space = opened(tmp_path / write_heads(tmp_path, bases, heads))
    assert set(space.front_ends) == {View.TEXT, View.AUDIO}
    sound = np.sin(np.arange(16_000, dtype=np.float32))
    np.testing.assert_allclose(
        embed(space, View.AUDIO, [sound]), heads[View.AUDIO](embed(hashing, View.AUDIO, [sound])), atol=1e-6
    )
    np.testing.assert_allclose(embed(space, View.TEXT, ["rain"]), embed(mini, View.TEXT, ["rain"]), atol=1e-6)
    with pytest.raises(ModelError, match="no tower for the visual view"):
        space.encode(View.VISUAL, [])


def test_it_hears_at_the_rate_that_its_profile_decodes_at(tmp_path: Path) -> None:
    space = opened(make_adapted(tmp_path, "mini"))
    wave = np.sin(np.arange(48_000, dtype=np.float32) / 20)
    alone = embed(space, View.AUDIO, [wave[::3].copy()])
    space.set_sample_rate(48_000)
    end = space.front_ends[View.AUDIO]
    assert isinstance(end, SoundFrontEnd)
    assert end.sample_rate_hz == 48_000
    assert float(embed(space, View.AUDIO, [wave])[0] @ alone[0]) >= 0.99


def test_the_fingerprint_is_that_of_towers_and_heads_and_of_nothing_else(folder: Path, tmp_path: Path) -> None:
    space = opened(folder)
    assert folder.name == space.fingerprint
    spec = json.loads((folder / "spec.json").read_bytes())
    (folder / "spec.json").write_text(json.dumps({**spec, "background": {}, "gained": {}, "profile": "x"}))
    assert opened(folder).fingerprint == space.fingerprint
    assert make_adapted(tmp_path / "other", "hashing", seed=1).name != space.fingerprint
    assert make_adapted(tmp_path / "other", "hashing").name == space.fingerprint


def test_a_library_and_embed_take_its_folder_as_a_model(folder: Path, tmp_path: Path) -> None:
    np.testing.assert_array_equal(mmsearch.embed("red", model=folder), embed(opened(folder), View.TEXT, ["red"]))
    (tmp_path / "note.txt").write_text("a red car")
    with mmsearch.open(tmp_path / "library", model=folder) as library:
        assert library.index(tmp_path / "note.txt").added == 1
        assert [hit.path.name for hit in library.query("red car")] == ["note.txt"]
    with mmsearch.open(tmp_path / "library") as again:
        assert again.profile == f"local-dir:{folder}"
        assert again.query("red car")[0].space == f"local-dir:{folder}"


# Its folder


def rewrite(spec: dict[str, Any], **changes: Any) -> str:  # noqa: ANN401
    return json.dumps({**spec, **changes})


@pytest.mark.parametrize(
    "damage",
    [
        lambda spec: "{",
        lambda spec: rewrite(spec, dim=32),
        lambda spec: rewrite(spec, dim="x"),
        lambda spec: rewrite(spec, heads={}),
        lambda spec: rewrite(spec, heads=5),
        lambda spec: rewrite(spec, towers=[]),
        lambda spec: rewrite(spec, towers={"text": spec["towers"]["text"]}),
        lambda spec: rewrite(spec, towers={**spec["towers"], "smell": spec["towers"]["text"]}),
    ],
)
def test_a_damaged_spec_is_a_model_error_of_one_line(folder: Path, damage: Callable[[dict[str, Any]], str]) -> None:
    spec = json.loads((folder / "spec.json").read_bytes())
    (folder / "spec.json").write_text(damage(spec))
    with pytest.raises(ModelError, match="space") as caught:
        load_profile(folder)
    assert "\n" not in str(caught.value)


def test_damaged_or_missing_heads_are_a_model_error(folder: Path) -> None:
    whole = bytearray((folder / "heads.npz").read_bytes())
    for at in (0, len(whole) // 2, len(whole) - 1):
        torn = whole.copy()
        torn[at] ^= 1
        (folder / "heads.npz").write_bytes(torn)
        with pytest.raises(ModelError, match="isn't a complete adapted space"):
            load_profile(folder)
    (folder / "heads.npz").unlink()
    with pytest.raises(ModelError, match=r"heads\.npz can't be read"):
        load_profile(folder)


def test_heads_that_fit_neither_each_other_nor_their_tower_are_a_model_error(tmp_path: Path) -> None:
    hashing = load_profile("hashing").spaces[0]
    wrong = random_head(64, 0)
    for heads in (HeadWeights(wrong.w1, wrong.b1[:-1], wrong.w2, wrong.b2), random_head(64, 0, entering=32)):
        folder = tmp_path / write_heads(tmp_path, {View.TEXT: hashing}, {View.TEXT: heads})
        with pytest.raises(ModelError, match=r"other shapes than the spec says|dimension of its tower"):
            load_profile(folder)


def test_a_base_that_has_become_another_is_a_model_error_that_says_how_to_go_on(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_bytes())
    for tower in spec["towers"].values():
        tower["fingerprint"] = "hashing-0"
    (folder / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match=r"was adapted from hashing, which has changed.*--model mini.*adapt") as caught:
        load_profile(folder)
    assert "\n" not in str(caught.value)


def test_a_space_of_a_library_is_not_found_outside_of_it(folder: Path) -> None:
    name = f"adapted:{folder.name}"
    found = load_profile(name, own=folder.parent)
    assert (found.name, found.pins) == (name, (name,))
    for own in (None, folder.parent / "elsewhere"):
        with pytest.raises(ModelError, match=f"there is no space {name}"):
            load_profile(name, own=own)


@pytest.mark.parametrize("dies_at", ["heads.npz", "spec.json", "rename"])
def test_a_folder_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    write, rename = write_whole, Path.rename

    def die(file: Path, content: bytes) -> None:
        if file.name == dies_at:
            raise KeyboardInterrupt
        write(file, content)

    def die_late(path: Path, target: Path) -> Path:
        if dies_at == "rename":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(adapted, "write_whole", die)
    monkeypatch.setattr(Path, "rename", die_late)
    with pytest.raises(KeyboardInterrupt):
        make_adapted(tmp_path, "hashing")
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == []
    monkeypatch.undo()
    folder = make_adapted(tmp_path, "hashing")
    assert list(tmp_path.iterdir()) == [folder]
    (folder / "heads.npz").write_bytes(b"torn")
    assert make_adapted(tmp_path, "hashing") == folder  # and what is damaged is replaced
    assert opened(folder).dim == 64
    assert {file.name for file in folder.iterdir()} == {"heads.npz", "spec.json"}
