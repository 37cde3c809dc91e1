"""Finds the checkpoint of a model by the name that `--model` takes.

- `ViT-B-32-256/datacomp_s34b_b86k`: an architecture of open_clip with one of its published checkpoints
- `ViT-B-32-256:/models/mine.safetensors`: the same architecture with a checkpoint of your own
- `hf-hub:organisation/repository`: a repository of the Hugging Face hub, for open_clip or a CLAP
- `local-dir:/models/mine`, or just the folder: a folder with the files of such a repository
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from mmsearch.errors import ModelUnavailableError, WrongModelError
from mmsearch.extras import command, find, is_installed
from mmsearch.files import open_regular
from mmsearch.paths import expand
from mmsearch.spaces import hub
from mmsearch.spaces.models import known_models

HUB, FOLDER = "hf-hub:", "local-dir:"
OPEN_CLIP, CLAP = "open_clip", "clap"
CONFIGS = {"open_clip_config.json": OPEN_CLIP, "config.json": CLAP}
"""The configuration files that tell the kind of checkpoint in a folder; if both exist, open_clip's counts."""
NAMES = {
    # In open_clip's own order of preference; safetensors first, since they can't contain code.
    OPEN_CLIP: (
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "model.safetensors",
        "open_clip_pytorch_model.bin",
        "open_clip_pytorch_model.pth",
        "pytorch_model.bin",
        "pytorch_model.pth",
        "model.pth",
    ),
    CLAP: ("model.safetensors", "pytorch_model.bin"),
}
WEIGHTS = tuple(dict.fromkeys(name for names in NAMES.values() for name in names))
"""The names that a repository's weights may have."""
_BESIDE = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".npz"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this disk. `architecture` is open_clip's name of it, `tag` that of a published checkpoint."""

    name: str
    family: str
    weights: Path
    folder: Path | None = None
    architecture: str = ""
    tag: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that define the model: weights, configurations, tokenizer."""
        beside = [] if self.folder is None else [self.folder / name for name in (*CONFIGS, *_BESIDE)]
        return (self.weights, *dict.fromkeys(file for file in beside if file.is_file()))

    def digest(self) -> str:
        """Return the SHA-256 of the weights in hexadecimal, which takes half a second per gigabyte."""
        try:
            with open_regular(self.weights) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelUnavailableError(
                f"{self.weights} can't be read ({error.strerror}); check its permissions"
            ) from None


def canonical(name: str) -> str:
    """Return a model's name with absolute paths. Raises `ModelError` for an invalid name.

    This uses neither the network nor torch, so that a wrong name is reported at once.
    """
    if name.startswith(HUB):
        hub.check_name(name.removeprefix(HUB))
        return name
    if name.startswith(FOLDER):
        return FOLDER + str(_absolute(name.removeprefix(FOLDER)))
    if ":" in name and name.partition(":")[0].replace("/", "-") in architectures():
        architecture, _, file = name.partition(":")
        return f"{architecture.replace('/', '-')}:{_absolute(file)}"
    if _is_model_folder(Path(name)):
        return FOLDER + str(_absolute(name))
    architecture, tag = _split(name)
    return f"{architecture}/{tag}" if tag else architecture


def _is_model_folder(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*CONFIGS, "spec.json"))


def is_local(name: str) -> bool:
    """Return whether a model's checkpoint is a file of the user's own, which may change."""
    return not name.startswith(HUB) and ":" in name


@cache
def architectures() -> Mapping[str, Path]:
    """Return open_clip's architectures and their files, without importing open_clip, which would take seconds."""
    package = find("open_clip")
    folders = [Path(folder) / "model_configs" for folder in (package and package.submodule_search_locations) or ()]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.json"))}


def _split(name: str) -> tuple[str, str]:
    """Return the architecture and the tag in a name: ViT-B/32/openai is ViT-B-32 and openai."""
    known = architectures()
    if (whole := name.replace("/", "-")) in known:
        return whole, ""
    before, _, tag = name.rpartition("/")
    if (architecture := before.replace("/", "-")) in known:
        return architecture, tag
    names = ["auto", *(model.name for model in known_models())]
    guess = "".join(f" (did you mean {near}?)" for near in get_close_matches(name, names, n=1))
    own = ", ".join(names)
    if not is_installed("open_clip"):
        raise WrongModelError(
            f"no model here is called {name!r}{guess}; there are {own} and folders, and those of open_clip after: "
            f"{command('torch')}"
        )
    near = get_close_matches(architecture or whole, known, n=3)
    hint = guess or (f"; open_clip has {', '.join(near)}" if near else "")
    raise WrongModelError(
        f"no model is called {name!r}{hint}; a model is {own}, NAME/TAG, NAME:CHECKPOINT, hf-hub:ORG/REPO or "
        "local-dir:DIR"
    )


def _absolute(path: str) -> Path:
    if not path:
        raise WrongModelError("the model's name lacks a path after its colon; give one: local-dir:/models/mine")
    found = Path(os.path.abspath(expand(path)))  # noqa: PTH100  .. and . are taken out, and links stay
    try:
        str(found).encode()
    except UnicodeEncodeError:
        raise WrongModelError(f"{found} isn't valid UTF-8, which PyTorch and the catalog need; rename it") from None
    return found


def find_checkpoint(name: str, *, fetch: bool = True) -> Checkpoint:
    """Return the checkpoint of a canonical name; with `fetch`, missing files are downloaded. Raises `ModelError`."""
    if name.startswith(HUB):
        return _in_repository(name, fetch=fetch)
    if name.startswith(FOLDER):
        return _in_folder(name, Path(name.removeprefix(FOLDER)))
    if ":" in name:
        architecture, _, file = name.partition(":")
        weights = Path(file)
        if not weights.is_file():
            raise WrongModelError(f"{weights} isn't a file; give the checkpoint's path: --model {architecture}:FILE")
        if weights.suffix not in _SUFFIXES:
            raise WrongModelError(
                f"{weights} is no checkpoint (none of {', '.join(sorted(_SUFFIXES))}); give another file"
            )
        return Checkpoint(name, OPEN_CLIP, weights, architecture=architecture)
    return _published(name, fetch=fetch)


def _in_repository(name: str, *, fetch: bool) -> Checkpoint:
    # Both configurations are requested: the cache may have only the one that another program needed.
    needed, optional = (tuple(CONFIGS), WEIGHTS), (*CONFIGS, *_BESIDE)
    folder = hub.fetch_all(name.removeprefix(HUB), needed, optional, fetch=fetch)
    return _in_folder(name, folder)


def _in_folder(name: str, folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise WrongModelError(f"{folder} isn't a folder; give the one that holds the model: --model local-dir:DIR")
    family = next((family for config, family in CONFIGS.items() if (folder / config).is_file()), None)
    if family is None:
        raise WrongModelError(
            f"{folder} holds no model: neither open_clip_config.json nor a CLAP's config.json is there; "
            "give the folder that has one"
        )
    found = [folder / candidate for candidate in NAMES[family] if (folder / candidate).is_file()]
    found = found or sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not found or (len(found) > 1 and found[0].name not in NAMES[family]):
        what = f"several checkpoints ({', '.join(file.name for file in found[:4])})" if found else "no weights"
        raise WrongModelError(f"{folder} holds {what}; call the one that counts {NAMES[family][0]}")
    return Checkpoint(name, family, found[0], folder, f"{FOLDER}{folder}")


def _published(name: str, *, fetch: bool) -> Checkpoint:
    """Return one of open_clip's published checkpoints."""
    from open_clip import pretrained

    architecture, tag = _split(name)
    tags = pretrained.list_pretrained_tags_by_model(architecture)
    if not tag and len(tags) == 1:
        (tag,) = tags
    found: Mapping[str, Any] = pretrained.get_pretrained_cfg(architecture, tag) if tag else {}
    if not found:
        which = f"has no checkpoint {tag!r}" if tag else "has several checkpoints"
        offered = f"give one of: {', '.join(tags)}" if tags else "give a file: NAME:CHECKPOINT"
        raise WrongModelError(f"{architecture} {which}; {offered}")
    if not (place := found.get("hf_hub")):
        raise WrongModelError(
            f"{name} isn't on the hub; download {found.get('url')} and use --model {architecture}:FILE"
        )
    repository, _, file = str(place).rpartition("/")
    # A published .bin or .pt file may also exist as safetensors.
    names = (str(Path(file).with_suffix(".safetensors")), file) if file else NAMES[OPEN_CLIP]
    return Checkpoint(name, OPEN_CLIP, hub.fetch(repository, names, fetch=fetch), architecture=architecture, tag=tag)


def architecture_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the configuration of a checkpoint, which is part of its fingerprint.

    Raises `ModelError` if it, or another configuration in its folder, describes a model that can't have these weights.
    """
    from mmsearch.spaces.architecture import read_architecture  # not needed for a query

    if checkpoint.folder is None:
        return read_architecture(architectures()[checkpoint.architecture])
    try:
        weights_bytes = checkpoint.weights.stat().st_size
    except OSError as error:
        raise ModelUnavailableError(
            f"{checkpoint.weights} can't be read ({error.strerror}); check its permissions"
        ) from None
    names = [*CONFIGS, *(name for name in _BESIDE if name.endswith("config.json") and name != "config.json")]
    configs = {
        name: read_architecture(checkpoint.folder / name, weights_bytes)
        for name in names
        if (checkpoint.folder / name).is_file()
    }
    return next(configs[name] for name, family in CONFIGS.items() if family == checkpoint.family)
