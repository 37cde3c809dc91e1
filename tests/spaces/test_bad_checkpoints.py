"""A checkpoint or a name that can't be used is one line that names the file and the remedy."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.exports import WEIGHTS, name
from support.exports import cache as cache
from support.exports import folder as folder
from support.exports import made as made
from support.small_clip import SIGLIP, XLM_R, make_clip

from mmsearch.errors import ModelError
from mmsearch.spaces import load_profile, resolve_name
from mmsearch.spaces.openclip import load_open_clip
from mmsearch.spaces.sources import OPEN_CLIP, Checkpoint, canonical


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
    "half a download": (cut, r"open_clip_model\.safetensors can't be loaded: it is damaged, incomplete or of another"),
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
    assert "ViT-B-32-quickgelu/openai gives better results" in caplog.text


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
