"""A faulty folder of CLAP is a model error that names the file, and nothing of it is ever run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clap_folders import Trap
from support.clap_folders import folder as folder
from support.clap_folders import unfused as unfused

from mmsearch.errors import MissingPackageError, ModelError
from mmsearch.spaces.clap import load_clap
from mmsearch.types import View


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def cut(name: str, share: float) -> Callable[[Path], None]:
    def truncate(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(share * len(whole))])

    return truncate


def changed(name: str, *path: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        fields = json.loads((folder / name).read_bytes())
        inner = fields
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        (folder / name).write_text(json.dumps(fields))

    return change


def lacking(weight: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        save_file({name: tensor.clone() for name, tensor in load_file(file).items() if name != weight}, file)

    return drop


def pickled(content: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return write


FAULTS: dict[str, tuple[Sequence[Callable[[Path], None]], str]] = {
    "no config": ([without("config.json")], r"config\.json can't be loaded .*No such file.*download"),
    "config cut": ([cut("config.json", 0.5)], r"config\.json can't be loaded"),
    "config a list": ([holding("config.json", b"[1]")], r"config\.json can't be loaded \(it is no JSON obj"),
    "another model": ([changed("config.json", "model_type", value="clip")], r"config\.json describes clip, not a CLAP"),
    "config of nonsense": (
        [changed("config.json", "text_config", "hidden_size", value="wide")],
        r"config\.json can't be loaded",
    ),
    "four channels": (
        [
            changed("config.json", "audio_config", "enable_fusion", value=True),
            changed("config.json", "audio_config", "fusion_type", value="channel_map"),
        ],
        r"config\.json can't be loaded \(a sound tower of several channels",
    ),
    "no weights": ([without("model.safetensors")], r"neither model\.safetensors nor pytorch_model\.bin; download"),
    "weights cut": ([cut("model.safetensors", 0.7)], r"model\.safetensors can't be loaded"),
    "weights empty": ([holding("model.safetensors", b"")], r"model\.safetensors can't be loaded"),
    "weights of another shape": (
        [changed("config.json", "text_config", "intermediate_size", value=64)],
        r"model\.safetensors can't be loaded .*size mismatch",
    ),
    "a weight missing": (
        [lacking("audio_projection.linear2.weight")],
        r"model\.safetensors can't be loaded \(1 weights are missing, such as audio_projection\.linear2\.weight",
    ),
    "no dictionary": ([pickled([1, 2])], r"pytorch_model\.bin can't be loaded"),
    "no torch file": (
        [without("model.safetensors"), holding("pytorch_model.bin", b"PK\x03\x04 not a zip")],
        r"pytorch_model\.bin can't be loaded",
    ),
    "no preprocessor": ([without("preprocessor_config.json")], r"preprocessor_config\.json can't be loaded"),
    "preprocessor cut": ([cut("preprocessor_config.json", 0.5)], r"preprocessor_config\.json can't be loaded"),
    "other bands": (
        [changed("preprocessor_config.json", "feature_size", value=80)],
        r"preprocessor_config\.json can't be loaded \(it makes 1001 by 80.*1024 by 64",
    ),
    "too long": (
        [changed("preprocessor_config.json", "max_length_s", value=20)],
        r"preprocessor_config\.json can't be loaded \(it makes 2001 by 64",
    ),
    "odd padding": ([changed("preprocessor_config.json", "padding", value="mirror")], r"padding is one of"),
    "no tokenizer": ([without("merges.txt")], r"neither tokenizer\.json nor vocab\.json and merges\.txt; download"),
    "vocabulary cut": ([cut("vocab.json", 0.5)], r"vocab\.json can't be loaded"),
    "tokenizer of nonsense": ([holding("tokenizer.json", b"{}")], r"tokenizer\.json can't be loaded"),
    "a larger vocabulary": (
        [changed("vocab.json", f"word{i}", value=1000 + i) for i in range(100)],
        r"vocab\.json can't be loaded \(it has \d+ tokens, the text tower only",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_a_model_error_that_names_the_file(
    folder: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    harms, message = FAULTS[fault]
    for harm in harms:
        harm(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_clap(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_is_never_unpickled(folder: Path, tmp_path: Path) -> None:
    pickled({"logit_scale_a": Trap(tmp_path / "sprung")})(folder)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin can't be loaded"):
        load_clap(folder)
    assert not (tmp_path / "sprung").exists()


def test_no_code_of_a_checkpoint_runs(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        remote = {f"Auto{kind}": "code.Thing" for kind in ("Config", "Model", "FeatureExtractor")}
        changed(name, "auto_map", value={**remote, "AutoTokenizer": ["code.Thing", "code.Thing"]})(folder)
    load_clap(folder)
    assert not sprung.exists()


def test_loading_says_nothing_and_touches_no_network(folder: Path) -> None:
    program = (
        "import socket, sys, pathlib\n"
        "def refuse(*_): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from mmsearch.spaces.clap import load_clap\n"
        "load_clap(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_transformers_the_error_names_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r"CLAP needs transformers; run: pip install 'mmsearch\[clap\]'"):
        load_clap(folder)


def test_buffers_that_follow_from_the_configuration_may_be_missing(folder: Path, unfused: Path) -> None:
    lacking("text_model.embeddings.position_ids")(folder)
    module, whole = (load_clap(place).towers[View.TEXT].module for place in (folder, unfused))
    ids = load_clap(unfused).towers[View.TEXT].example
    with torch.inference_mode():
        np.testing.assert_array_equal(module(ids).numpy(), whole(ids).numpy())


def test_loading_leaves_the_settings_of_transformers_as_they_were(folder: Path) -> None:
    from transformers.utils import logging as settings

    before = settings.get_verbosity()
    try:
        settings.set_verbosity(logging.ERROR)
        load_clap(folder)
        assert settings.get_verbosity() == logging.ERROR
    finally:
        settings.set_verbosity(before)
