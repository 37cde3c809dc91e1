"""Profiles: the ordered list of spaces that a library uses, by name."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmsearch.errors import MissingPackageError, ModelError, ModelUnavailableError
from mmsearch.extras import command, is_installed
from mmsearch.spaces import hub
from mmsearch.spaces.adapted import AdaptedSpace
from mmsearch.spaces.base import FrontEnd, SoundFrontEnd, Space
from mmsearch.spaces.cache import export_model, find_export, is_torn
from mmsearch.spaces.models import ALIASES, CLAP_MODEL, STANDARD_REPOSITORY
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.opening import ADAPTED, mini_folder, open_named, open_pinned, space_folder
from mmsearch.spaces.places import remedy
from mmsearch.spaces.sources import HUB, WEIGHTS, canonical
from mmsearch.types import View

_log = logging.getLogger(__name__)
_BUILT_IN = ("mini", "hashing")
_MOST_PINS = 16
_MOST_NAME = 4096


@dataclass(frozen=True, slots=True)
class Profile:
    """An ordered list of spaces; each pair of query view and item view is answered by the first that covers both."""

    name: str
    spaces: tuple[Space, ...]
    own: Path | None = None
    """The folder of the spaces that belong to the library alone."""
    asked: bool = False
    """Whether the user named it in this call, so that what is missing of it may be fetched and exported."""

    @property
    def key(self) -> str:
        """Names the spaces with their fingerprints: contents embedded under another key are out of date."""
        return " ".join(f"{space.name}:{space.fingerprint}" for space in self.spaces)

    @property
    def pins(self) -> tuple[str, ...]:
        """What `load_profile` makes these very spaces again from, whatever the profile's name stands for by then."""
        return tuple(space.pin for space in self.spaces)

    @property
    def front_ends(self) -> Mapping[tuple[str, View], FrontEnd]:
        """What prepares the inputs of its towers, by space and view."""
        return {(space.name, view): end for space in self.spaces for view, end in space.front_ends.items()}

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
    if find_export(ALIASES["standard"]):
        return "standard"
    if not is_installed("torch", "open_clip"):
        _log.info("the model is 'mini'; 'standard' finds much more, and needs an extra: %s", command("torch"))
        return "mini"
    if hub.find(STANDARD_REPOSITORY, WEIGHTS):
        return "standard"
    if hub.answers(STANDARD_REPOSITORY):
        _log.info("the model is 'standard': 605 MB are downloaded once; --model mini does without")
        return "standard"
    _log.info(
        "the model is 'mini', for 'standard' is not on this disk and the hub doesn't answer; "
        "to change it later: mmsearch index PATH --model standard"
    )
    return "mini"


def load_profile(
    name: str | Path,
    device: str = "auto",
    pins: Sequence[str] = (),
    own: Path | None = None,
    *,
    asked: bool | None = None,
) -> Profile:
    """Return the profile of this name; its towers are loaded when first used. Raises `ModelError`.

    Without `pins`, the user names the profile: the name is looked up, and what isn't on this disk yet is downloaded,
    and exported for the CPU, once. `pins` are those of the profile as a library knows it. A library may come from
    anyone, so they stand only for models that the user has named before on this machine; the network isn't used, and
    no other path is looked at, unless they are `asked` for. `own` is where a library keeps the spaces that it was
    adapted to.
    """
    asked = not pins if asked is None else asked
    resolved = str(name) if pins else resolve_name(name)
    if len(pins) > _MOST_PINS or not all(isinstance(pin, str) and len(pin) <= _MOST_NAME for pin in pins):
        raise ModelError("the library names no model that there could be; choose one with --model")
    spaces: list[Space] = []
    for pin in pins or _members(resolved):
        where = device if not spaces else "auto"
        try:
            space = open_pinned(pin, where, own, asked=asked) if pins else open_named(pin, where, own)
        except ModelError as error:
            if pins or not spaces:
                raise
            _log.warning("going on without %s: %s", pin, error)
            continue
        if pins or _adds(space, spaces):
            spaces.append(space)
    _agree_on_a_rate(spaces)
    return Profile(resolved, tuple(spaces), own, asked)


def pull_model(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the spaces of a profile and the folders that they run from: downloaded and exported, or tried, if need be.

    From then on a library that names them may use them.
    """
    for member in _members(resolve_name(name)):
        if member == "mini":
            yield member, mini_folder()
        elif folder := space_folder(member):
            open_named(member, "cpu", None)
            yield member, folder
        elif member != "hashing":
            yield member, export_model(member, fresh=True)


def for_indexing(profile: Profile, device: str) -> Profile:
    """Return the profile as an index run encodes with it: on a CUDA device where there is one and `device` is auto.

    Exports are read from end to end first: damage in the middle would spoil every vector of the run. A damaged one is
    made again if the user named the model in this call; else it is a `ModelError`.
    """
    run = [base for space in profile.spaces for base in (space.bases if isinstance(space, AdaptedSpace) else (space,))]
    torn = [space for space in run if isinstance(space, OnnxSpace) and is_torn(space)]
    for space in torn:
        if not (profile.asked and space in profile.spaces):
            raise ModelUnavailableError(
                f"the files of the model {space.name} are damaged in the cache; {remedy(space.name)}"
            )
        export_model(space.name, space.fingerprint, fresh=True)
    if torn:
        profile = load_profile(profile.name, device, profile.pins, profile.own, asked=profile.asked)
    if device != "auto" or not _has_cuda() or profile.name in _BUILT_IN:
        return profile
    try:
        return load_profile(profile.name, "cuda", profile.pins, profile.own, asked=profile.asked)
    except (ModelError, MissingPackageError) as error:  # the driver is there; torch or the checkpoint isn't
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
    """Return whether sounds are CLAP's: it was exported, or its extra is installed and it is here or comes along."""
    if find_export(CLAP_MODEL):
        return True
    if not is_installed("torch", "transformers"):
        return False
    return bool(hub.find(CLAP_MODEL.removeprefix(HUB), WEIGHTS)) or (name in ALIASES and not find_export(ALIASES[name]))


def _adds(space: Space, before: Sequence[Space]) -> bool:
    """Return whether a space covers a pair of views that no space before it does."""
    covered = {pair for other in before for pair in _pairs(other)}
    return not _pairs(space) <= covered


def _pairs(space: Space) -> set[tuple[View, View]]:
    return {(query, item) for query in space.front_ends for item in space.front_ends}


def _agree_on_a_rate(spaces: Sequence[Space]) -> None:
    """Let all spaces hear at the highest rate that one of them wants: sounds are decoded but once."""
    ends = [end for space in spaces for end in space.front_ends.values()]
    rates = {end.sample_rate_hz for end in ends if isinstance(end, SoundFrontEnd)}
    for space in spaces if len(rates) > 1 else ():
        if isinstance(space, OnnxSpace | AdaptedSpace):
            space.hear_at(max(rates))
