"""Profiles: the ordered list of spaces that a library uses, by name."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmsearch.errors import ModelError
from mmsearch.spaces import hub
from mmsearch.spaces.adapted import AdaptedSpace, is_adapted
from mmsearch.spaces.base import SoundFrontEnd, Space
from mmsearch.spaces.cache import export_model, find_export, mend_export, replaced
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.spaces.models import ALIASES, CLAP_MODEL, STANDARD_REPOSITORY
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.sources import FOLDER, HUB, WEIGHTS, canonical
from mmsearch.types import View

_log = logging.getLogger("mmsearch")
_BUILT_IN = ("mini", "hashing")
ADAPTED = "adapted:"
"""Before the fingerprint of a space that lies in a library's own folder, wherever that is moved to."""
_PINNED = re.compile(r"#[0-9a-f]{16}$")


@dataclass(frozen=True, slots=True)
class Profile:
    """An ordered list of spaces; each pair of query view and item view is answered by the first that covers both."""

    name: str
    spaces: tuple[Space, ...]
    own: Path | None = None
    """The folder of the spaces that belong to the library alone."""

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


def resolve_name(name: str | Path) -> str:
    """Return the profile that a `--model` value stands for, with its paths made absolute.

    `auto` is `standard` where its weights are on this disk or the hub answers within 3 s, else `mini`. Raises
    `ModelError` for what can't be a model's name.
    """
    name = str(name)
    if name == "auto":
        return _auto()
    if name in (*_BUILT_IN, *ALIASES) or name.startswith(ADAPTED):
        return name
    return canonical(name)


@cache
def _auto() -> str:
    if find_export(ALIASES["standard"]) or hub.find(STANDARD_REPOSITORY, WEIGHTS):
        return "standard"
    if hub.answers(STANDARD_REPOSITORY):
        _log.info("the model is 'standard': 605 MB are downloaded once; --model mini does without")
        return "standard"
    _log.info(
        "the model is 'mini', for 'standard' is not on this disk and the hub doesn't answer; "
        "to change it later: mmsearch index PATH --model standard"
    )
    return "mini"


def load_profile(name: str | Path, device: str = "auto", pins: Sequence[str] = (), own: Path | None = None) -> Profile:
    """Return the profile of this name; its towers are loaded when first used. Raises `ModelError`.

    `pins` are those of the profile as a library knows it; without, the name is looked up anew. What isn't on this disk
    yet is downloaded, and exported for the CPU, once. `own` is where a library keeps the spaces that it was adapted to.
    """
    resolved = str(name) if pins else resolve_name(name)
    spaces: list[Space] = []
    for pin in pins or _members(resolved):
        try:
            space = _space(*_parted(pin, pinned=bool(pins)), device if not spaces else "auto", own)
        except ModelError as error:
            if pins or not spaces:
                raise
            _log.warning("going on without %s: %s", pin, error)
            continue
        if pins or _adds(space, spaces):
            spaces.append(space)
    _agree_on_a_rate(spaces)
    return Profile(resolved, tuple(spaces), own)


def pull_model(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the spaces of a profile and the folders that they run from, looked up anew, downloaded and exported."""
    for member in _members(resolve_name(name)):
        if member == "mini":
            yield member, mini_folder()
        elif member != "hashing":
            yield member, _space_folder(member) or export_model(member, fresh=True)


def for_indexing(profile: Profile, device: str) -> Profile:
    """Return the profile as an index run encodes with it: on a CUDA device where there is one and `device` is auto.

    Exports are looked at from end to end first: what is damaged in its middle would spoil every vector of the run.
    """
    run = [base for space in profile.spaces for base in (space.bases if isinstance(space, AdaptedSpace) else (space,))]
    torn = [space for space in run if isinstance(space, OnnxSpace) and mend_export(space)]
    if torn:
        profile = load_profile(profile.name, device, profile.pins, profile.own)
    if device != "auto" or not _has_cuda() or profile.name in _BUILT_IN:
        return profile
    try:
        return load_profile(profile.name, "cuda", profile.pins, profile.own)
    except ModelError as error:  # the driver is there; torch, or the checkpoint that it needs, isn't
        _log.info("encoding on the CPU: %s", error)
        return profile


def _has_cuda() -> bool:
    """Return whether the driver shows a CUDA device; asks it without torch, whose import takes seconds."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def _members(name: str) -> tuple[str, ...]:
    """Return the spaces that a profile asks, in order: what the first doesn't cover is left to the next."""
    if name in _BUILT_IN:
        return (name,)
    main = ALIASES.get(name, name)
    sounds = (CLAP_MODEL,) if main != CLAP_MODEL and _has_clap(name) else ()
    return (main, *sounds, "mini")


def _has_clap(name: str) -> bool:
    """Return whether sounds are CLAP's: its extra is installed, and it is on this disk or comes with a profile."""
    if importlib.util.find_spec("transformers") is None:
        return False
    on_disk = find_export(CLAP_MODEL) or hub.find(CLAP_MODEL.removeprefix(HUB), WEIGHTS)
    return bool(on_disk) or (name in ALIASES and not find_export(ALIASES[name]))


def _adds(space: Space, before: Sequence[Space]) -> bool:
    """Return whether a space covers a pair of views that no space before it does."""
    covered = {pair for other in before for pair in _pairs(other)}
    return not _pairs(space) <= covered


def _pairs(space: Space) -> set[tuple[View, View]]:
    return {(query, item) for query in space.front_ends for item in space.front_ends}


def _parted(pin: str, *, pinned: bool = True) -> tuple[str, str]:
    """Return the name in a pin, and the fingerprint or ""."""
    return (pin[:-17], pin[-16:]) if pinned and _PINNED.search(pin) else (pin, "")


def _space(name: str, fingerprint: str, device: str, own: Path | None = None) -> Space:
    """Return a space by its name, in the very state of it that a library holds where a fingerprint is given."""
    if name == "hashing":
        return HashingSpace()
    if name == "mini":
        return OnnxSpace("mini", mini_folder(), device)
    if folder := _space_folder(name, own):
        space: OnnxSpace | AdaptedSpace
        if is_adapted(folder):
            space = AdaptedSpace(name, folder, lambda pin: _space(*_parted(pin), device, own))
        else:
            space = OnnxSpace(name, folder, device)
        if fingerprint and space.fingerprint != fingerprint:
            raise replaced(name)
        return space
    if device == "cuda":
        from mmsearch.spaces.cuda import CudaSpace

        return CudaSpace(name, export_model(name, fingerprint))
    return OnnxSpace(name, export_model(name, fingerprint), "cpu")


def _space_folder(name: str, own: Path | None = None) -> Path | None:
    """Return the folder that a name stands for where it holds a space as it is, and not a checkpoint."""
    if name.startswith(ADAPTED):
        if own is None or not (own / name.removeprefix(ADAPTED) / "spec.json").is_file():
            where = "outside its own library" if own is None else f"in {own}"
            raise ModelError(f"there is no space {name} {where}; name another model, or a folder: local-dir:DIR")
        return own / name.removeprefix(ADAPTED)
    folder = Path(name.removeprefix(FOLDER))
    return folder if name.startswith(FOLDER) and (folder / "spec.json").is_file() else None


def _agree_on_a_rate(spaces: Sequence[Space]) -> None:
    """Let all spaces hear at the highest rate that one of them wants: sounds are decoded but once."""
    ends = [end for space in spaces for end in space.front_ends.values()]
    rates = {end.sample_rate_hz for end in ends if isinstance(end, SoundFrontEnd)}
    for space in spaces if len(rates) > 1 else ():
        if isinstance(space, OnnxSpace | AdaptedSpace):
            space.hear_at(max(rates))


def mini_folder() -> Path:
    """Return the folder of the embedded space: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "data" / "mini", package.parent / "data" / "mini"):
        if (folder / "spec.json").is_file():
            return folder
    raise ModelError(f"the embedded space is missing from {package}; reinstall mmsearch")
