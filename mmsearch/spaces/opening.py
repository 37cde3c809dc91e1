"""Opens a space by its name, which comes from the user or from a library.

A space that the user names may be downloaded, exported and tried. A library names a space by a *pin*. Since a library
may come from anyone, a pin is opened only if the user has named that space on this machine before.

| pin | is opened if |
|---|---|
| mini, hashing | always |
| NAME#FINGERPRINT | that model was exported on this machine, in this state |
| local-dir:FOLDER | the user has named that folder, and its files haven't changed |
| adapted:FINGERPRINT | it lies in the library itself, and the pins of its base spaces can be opened |
"""

from __future__ import annotations

from pathlib import Path

from mmsearch.errors import ModelError, ModelUnavailableError, WrongModelError
from mmsearch.extras import needed_for
from mmsearch.files import is_real_folder
from mmsearch.spaces.adapted import AdaptedSpace
from mmsearch.spaces.base import Space
from mmsearch.spaces.cache import export_model, find_export, kept_export, replaced, was_exported_here
from mmsearch.spaces.hashing import HashingSpace
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.sources import FOLDER
from mmsearch.spaces.spec import SPEC, is_adapted, is_fingerprint

ADAPTED = "adapted:"
"""Prefix of the name of an adapted space, which lies in its library's folder; the fingerprint follows."""
_MAX_DEPTH = 4
"""Maximum depth of adapted spaces over adapted spaces: a hostile space may name itself as its base."""


def open_named(name: str, device: str, own: Path | None) -> Space:
    """Open a space that the user names, in its canonical form. Raises `ModelError`."""
    if built_in := _built_in(name, device):
        return built_in
    if name.startswith(ADAPTED):
        return _adapted(name, _own_folder(name, own), device, own, 0)
    if folder := space_folder(name):
        from mmsearch.spaces.approval import approve

        approve(name, folder)
        return _in_folder(name, folder, device, own, 0)
    return _exported(name, export_model(name), device, fetch=True)


def open_pinned(pin: str, device: str, own: Path | None, *, asked: bool = False, depth: int = 0) -> Space:
    """Open the space of a library's pin, in the state in which the library was embedded.

    `asked` says that the user named the model in the same call. Raises `ModelError`.
    """
    if depth > _MAX_DEPTH:
        raise ModelError("its model is adapted from itself; choose another with --model")
    name, mark, fingerprint = pin.rpartition("#")
    if not mark or not is_fingerprint(fingerprint):
        name, fingerprint = pin, ""
    if built_in := _built_in(name, device):
        return built_in
    if name.startswith(ADAPTED):
        space: Space = _adapted(name, _own_folder(name, own), device, own, depth)
    elif fingerprint and find_export(name, fingerprint):
        space = _kept(name, fingerprint, device, asked=asked)
    elif name.startswith(FOLDER) and (folder := _approved(name)):
        space = _in_folder(name, folder, device, own, depth)
    else:
        space = _kept(name, fingerprint, device, asked=asked)
    if fingerprint and space.fingerprint != fingerprint:
        raise replaced(name)
    return space


def _approved(name: str) -> Path | None:
    from mmsearch.spaces.approval import approved_folder  # other models don't need it

    return approved_folder(name, name.removeprefix(FOLDER))


def _built_in(name: str, device: str) -> Space | None:
    if name == "hashing":
        return HashingSpace()
    return OnnxSpace("mini", mini_folder(), device) if name == "mini" else None


def _in_folder(name: str, folder: Path, device: str, own: Path | None, depth: int) -> Space:
    if is_adapted(folder):
        return _adapted(name, folder, device, own, depth)
    return OnnxSpace(name, folder, device)


def _adapted(name: str, folder: Path, device: str, own: Path | None, depth: int) -> AdaptedSpace:
    """Open an adapted space. Its spec names the base spaces, so these are pins even if the user named the space."""
    return AdaptedSpace(name, folder, lambda pin: open_pinned(pin, device, own, depth=depth + 1))


def _kept(name: str, fingerprint: str, device: str, *, asked: bool) -> Space:
    """Open an exported space; it is exported first only if the user `asked` for the model."""
    folder = export_model(name, fingerprint) if asked else kept_export(name, fingerprint)
    if device == "cuda" and not asked and not was_exported_here(name):
        raise ModelUnavailableError(f"the checkpoint of {name} was never used on this machine; use --device cpu")
    return _exported(name, folder, device, fetch=asked)


def _exported(name: str, folder: Path, device: str, *, fetch: bool) -> Space:
    if device == "cuda":
        with needed_for(f"running {name} on a GPU", "gpu"):
            from mmsearch.spaces.cuda import CudaSpace
        return CudaSpace(name, folder, fetch=fetch)
    return OnnxSpace(name, folder, "cpu")


def space_folder(name: str) -> Path | None:
    """Return the folder of a name if it is a space folder, None if it is a checkpoint or anything else."""
    if name.startswith(ADAPTED):
        return _own_folder(name, None)
    folder = Path(name.removeprefix(FOLDER))
    return folder if name.startswith(FOLDER) and (folder / SPEC).is_file() else None


def _own_folder(name: str, own: Path | None) -> Path:
    """Return the folder of a space that belongs to a library. Raises `ModelError` if it is missing."""
    fingerprint = name.removeprefix(ADAPTED)
    if own is not None and is_fingerprint(fingerprint):
        folder = own / fingerprint
        if is_real_folder(folder, own) and (folder / SPEC).is_file():
            return folder
    where = "outside its own library" if own is None else f"in {own}"
    raise WrongModelError(f"there is no space {name} {where}; name another model, or a folder: local-dir:DIR")


def mini_folder() -> Path:
    """Return the folder of the embedded space: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "data" / "mini", package.parent / "data" / "mini"):
        if (folder / SPEC).is_file():
            return folder
    raise ModelUnavailableError(f"the embedded space is missing from {package}; reinstall mmsearch")
