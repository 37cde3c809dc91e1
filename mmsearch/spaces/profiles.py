"""Models as the user names them: ordered lists of spaces (`Profile`)."""

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
_MAX_PINS = 16
_MAX_NAME = 4096


@dataclass(frozen=True, slots=True)
class Profile:
    """A model: an ordered list of spaces. Each pair of query view and item view uses the first space that has both."""

    name: str
    spaces: tuple[Space, ...]
    own: Path | None = None
    """The library's folder of adapted spaces."""
    asked: bool = False
    """Whether the user named the model in this call, so that missing files may be downloaded and exported."""

    @property
    def key(self) -> str:
        """The names and fingerprints of the spaces. Contents embedded under another key are out of date."""
        return " ".join(f"{space.name}:{space.fingerprint}" for space in self.spaces)

    @property
    def pins(self) -> tuple[str, ...]:
        """References by which `load_profile` opens the same spaces again, even if the name has a new meaning."""
        return tuple(space.pin for space in self.spaces)

    @property
    def front_ends(self) -> Mapping[tuple[str, View], FrontEnd]:
        """The front ends of all towers, by space name and view."""
        return {(space.name, view): end for space in self.spaces for view, end in space.front_ends.items()}

    def space_for(self, *views: View) -> Space | None:
        """Return the first space that has a tower for every one of these views."""
        return next((space for space in self.spaces if set(views) <= set(space.front_ends)), None)


def resolve_name(name: str | Path) -> str:
    """Return the canonical name of a `--model` value, with absolute paths.

    `auto` is `standard` if its weights are on this disk or the hub answers within 3 s, else `mini`. Raises `ModelError`
    for an invalid name.
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
        "the model is 'mini', since 'standard' is not on this disk and the hub doesn't answer; "
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
    """Return the model of this name. Its towers are loaded when first used. Raises `ModelError`.

    Without `pins`, the user has named the model: it is downloaded, and exported for the CPU, if it isn't on this disk
    yet. `pins` are a library's references to the spaces of its model. A library may come from anyone, so a pin is
    opened only if the user has named that space on this machine before; the network and other paths aren't used,
    unless the user `asked` for the model in this call. `own` is the library's folder of adapted spaces.
    """
    asked = not pins if asked is None else asked
    resolved = str(name) if pins else resolve_name(name)
    if len(pins) > _MAX_PINS or not all(isinstance(pin, str) and len(pin) <= _MAX_NAME for pin in pins):
        raise ModelError("the library's model has an invalid name; choose one with --model")
    spaces: list[Space] = []
    for pin in pins or _members(resolved):
        where = device if not spaces else "auto"
        try:
            space = open_pinned(pin, where, own, asked=asked) if pins else open_named(pin, where, own)
        except ModelError as error:
            if pins or not spaces:
                raise
            _log.warning("continuing without %s: %s", pin, error)
            continue
        if pins or _adds(space, spaces):
            spaces.append(space)
    _agree_on_a_rate(spaces)
    return Profile(resolved, tuple(spaces), own, asked)


def pull_model(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the names and folders of a model's spaces; download and export, or try, each if necessary.

    A library that names them may use them from then on.
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
    """Return the model for an index run: on a CUDA device if there is one and `device` is auto.

    Every byte of an export is checked first, since damage would spoil all vectors of the run. A damaged export is made
    again if the user named the model in this call; otherwise `ModelError` is raised.
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
    except (ModelError, MissingPackageError) as error:  # there is a driver, but torch or the checkpoint is missing
        _log.info("encoding on the CPU: %s", error)
        return profile


def _has_cuda() -> bool:
    """Return whether the driver reports a CUDA device. Importing torch for this would take seconds."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False


def _members(name: str) -> tuple[str, ...]:
    """Return the names of a model's spaces in order: each covers pairs of views that the earlier ones don't."""
    if name in _BUILT_IN:
        return (name,)
    main = ALIASES.get(name, name)
    sounds = (CLAP_MODEL,) if main != CLAP_MODEL and _has_clap(name) else ()
    return (main, *sounds, "mini")


def _has_clap(name: str) -> bool:
    """Return whether a model includes CLAP: it was exported, or its extra is installed and it can be had."""
    if find_export(CLAP_MODEL):
        return True
    if not is_installed("torch", "transformers"):
        return False
    return bool(hub.find(CLAP_MODEL.removeprefix(HUB), WEIGHTS)) or (name in ALIASES and not find_export(ALIASES[name]))


def _adds(space: Space, before: Sequence[Space]) -> bool:
    """Return whether a space covers a pair of views that no earlier space covers."""
    covered = {pair for earlier in before for pair in _pairs(earlier)}
    return not _pairs(space) <= covered


def _pairs(space: Space) -> set[tuple[View, View]]:
    return {(query, item) for query in space.front_ends for item in space.front_ends}


def _agree_on_a_rate(spaces: Sequence[Space]) -> None:
    """Set all spaces to the highest sample rate that one of them needs, since sounds are decoded only once."""
    ends = [end for space in spaces for end in space.front_ends.values()]
    rates = {end.sample_rate_hz for end in ends if isinstance(end, SoundFrontEnd)}
    for space in spaces if len(rates) > 1 else ():
        if isinstance(space, OnnxSpace | AdaptedSpace):
            space.set_sample_rate(max(rates))
