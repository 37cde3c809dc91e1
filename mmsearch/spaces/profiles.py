"""Profiles: the ordered list of spaces that a library uses, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmsearch.errors import ModelError
from mmsearch.spaces.base import Space
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.types import View


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `mmsearch model list` says of a profile."""

    name: str
    dim: int
    views: tuple[View, ...]
    languages: str
    megabytes: float
    licence: str
    summary: str


@dataclass(frozen=True, slots=True)
class Profile:
    """An ordered list of spaces; each pair of query view and item view is answered by the first that covers both."""

    name: str
    spaces: tuple[Space, ...]

    @property
    def key(self) -> str:
        """Names the spaces with their fingerprints: contents embedded under another key are out of date."""
        return " ".join(f"{space.name}:{space.fingerprint}" for space in self.spaces)

    @property
    def pins(self) -> tuple[str, ...]:
        """What `load_profile` makes these very spaces again from, whatever the profile's name stands for by then."""
        return tuple(space.pin for space in self.spaces)

    def space_for(self, *views: View) -> Space | None:
        """Return the first space that has a tower for every one of these views."""
        return next((space for space in self.spaces if set(views) <= set(space.front_ends)), None)


_MINI = ModelInfo(
    name="mini",
    dim=256,
    views=(View.TEXT, View.VISUAL, View.AUDIO),
    languages="en de fr cs",
    megabytes=23.5,
    licence="CC BY-NC 4.0",
    summary="embedded: no network, no download, starts at once",
)
_HASHING = ModelInfo(
    name="hashing",
    dim=64,
    views=(View.TEXT, View.VISUAL, View.AUDIO),
    languages="any",
    megabytes=0.0,
    licence="Apache-2.0",
    summary="for tests: knows words and colours, not meaning",
)


def known_models() -> tuple[ModelInfo, ...]:
    """Return every profile by name, the default first."""
    return (_MINI, _HASHING)


def resolve_name(name: str) -> str:
    """Return the profile that a `--model` value stands for. Raises `ModelError` naming the known ones."""
    chosen = "mini" if name == "auto" else name
    if chosen not in (known := [model.name for model in known_models()]):
        raise ModelError(f"no model is called {name!r}; this version has: auto, {', '.join(known)}")
    return chosen


def load_profile(name: str, device: str = "auto", pins: Sequence[str] = ()) -> Profile:
    """Return the profile of this name; its towers are loaded when first used. Raises `ModelError`.

    `pins` are those of the profile as a library knows it; without, the name is looked up anew.
    """
    match resolve_name(name):
        case "hashing":
            return Profile("hashing", (HashingSpace(),))
        case chosen:
            return Profile(chosen, (OnnxSpace(chosen, mini_folder(), device),))


def mini_folder() -> Path:
    """Return the folder of the embedded space: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "data" / "mini", package.parent / "data" / "mini"):
        if (folder / "spec.json").is_file():
            return folder
    raise ModelError(f"the embedded space is missing from {package}; reinstall mmsearch")
