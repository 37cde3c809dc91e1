"""Exported models on this disk: made once from a checkpoint, and found again by a fingerprint.

    $MMSEARCH_CACHE, else the user's cache folder
    ├── spaces/NAME-FINGERPRINT/    spec.json, image.onnx, image.bin, text.onnx, ..., whole.json
    ├── locks/NAME.lock             held while one of this name is exported
    ├── sources/NAME-DIGEST.json    which fingerprint a name stood for, and what its files looked like then
    └── approved/NAME-DIGEST.json   a folder that the user has named as a model: see approval.py

A model is exported when the user names it. For a library that names its own model, only what is there is used.

A space is built in a folder of its own, synced, and renamed into its place, so that a process killed anywhere leaves
all of it or nothing. `whole.json` is written last and says what each file has to look like.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.errors import FULL, CacheFullError, ModelError, ModelUnavailableError
from mmsearch.extras import require
from mmsearch.files import Layout, open_regular, remove_own, remove_unfinished, write_whole
from mmsearch.spaces.models import ALIASES, CLAP_MODEL
from mmsearch.spaces.onnx import OnnxSpace
from mmsearch.spaces.places import cache_folder, export_folder, remedy, slug, source_file
from mmsearch.spaces.sources import CLAP, Checkpoint, architecture_of, find_checkpoint, is_local
from mmsearch.spaces.spec import read_object
from mmsearch.types import View

if TYPE_CHECKING:
    from mmsearch.spaces.towers import Towers

_log = logging.getLogger(__name__)
_EXTRAS = {CLAP_MODEL: "clap", ALIASES["multilingual"]: "multilingual"}
"""The extra that a model is exported with, where that takes more than `torch`."""
_CHECKED_BYTES = 2**16
"""How much of a file's beginning and end is looked at before it is trusted: the whole takes a second a gigabyte."""


def find_export(name: str, fingerprint: str = "") -> Path | None:
    """Return the folder of an exported model where it is whole, else None; of this fingerprint, or of what it is now.

    Neither torch nor the network is needed for that, nor the checkpoint where a fingerprint is given.
    """
    fingerprint = fingerprint or _remembered(name)
    folder = export_folder(name, fingerprint)
    return folder if fingerprint and is_whole(folder) else None


def kept_export(name: str, fingerprint: str) -> Path:
    """Return the folder of a model that a library names, which the user has exported before on this machine.

    Nothing is downloaded or exported for it, and its checkpoint isn't looked at: the library may come from anyone.
    Raises `ModelError` with the remedy.
    """
    if fingerprint and (folder := find_export(name, fingerprint)):
        return folder
    recorded = _recorded_fingerprint(name)
    if recorded not in ("", fingerprint) and find_export(name, recorded):
        raise replaced(name)
    raise ModelUnavailableError(f"the model {name} isn't ready on this machine; if you trust it, {remedy(name)}")


def was_exported_here(name: str) -> bool:
    """Return whether the user has had a model of this very name exported on this machine."""
    return bool(_recorded_fingerprint(name))


def export_model(name: str, fingerprint: str = "", *, fresh: bool = False) -> Path:
    """Return the folder of an exported model, exporting it if that is needed: some seconds to a minute.

    With `fresh`, the name is looked up anew. Raises `ModelError`, also where a fingerprint is asked for that the
    checkpoint no longer has.
    """
    if not fresh and (found := find_export(name, fingerprint)):
        return found
    _require_packages(name)
    checkpoint = find_checkpoint(name)
    with _disk_errors(), _lock(slug(name)):
        if not fresh and (found := find_export(name, fingerprint)):  # another process was sooner
            return found
        states = _states(checkpoint)
        folder = _export(checkpoint, fingerprint)
        _remember(name, json.loads((folder / "spec.json").read_bytes())["fingerprint"], states)
        return folder


def is_torn(space: OnnxSpace) -> bool:
    """Return whether any byte of an exported space isn't what was written: half a second a gigabyte."""
    folder = export_folder(space.name, space.fingerprint)
    return space.is_exported and folder.is_dir() and not is_whole(folder, thorough=True)


def replaced(name: str) -> ModelError:
    """Return the error for a model that isn't any more what a library knows it by."""
    return ModelError(
        f"{name} is no longer what this library was embedded with; put the old checkpoint back, or run "
        f"'mmsearch index PATH --model {name}' to embed it again"
    )


def is_whole(folder: Path, *, thorough: bool = False) -> bool:
    """Return whether every file of an exported space is as it was written.

    That is its size, its beginning and its end; `thorough` reads the rest too, half a second a gigabyte.
    """
    try:
        files: dict[str, list[int]] = read_object(folder / "whole.json")
        parts = 3 if thorough else 2
        return bool(files) and all(_check(folder / name, parts) == check[:parts] for name, check in files.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _export(checkpoint: Checkpoint, wanted: str) -> Path:
    from mmsearch.spaces.export import export

    towers, spec = load_towers(checkpoint, wanted)
    folder = export_folder(checkpoint.name, spec["fingerprint"])
    if is_whole(folder, thorough=True):
        return folder
    _log.info("exporting %s for the CPU, once; this takes up to a minute", checkpoint.name)
    _build(folder, lambda building: export(towers, spec, building))
    return folder


def int8_tower(space: OnnxSpace) -> Path:
    """Return the ONNX file of a space's image tower with weights of 8 bits, made from the exported one if need be."""
    folder = export_folder(space.name, space.fingerprint + "-int8")
    if is_whole(folder):
        return folder / "image.onnx"
    with _disk_errors(), _lock(slug(space.name)):
        if not is_whole(folder):
            from mmsearch.spaces.export import quantise

            _build(folder, lambda building: quantise(space.tower_file(View.VISUAL), building / "image.onnx"))
    return folder / "image.onnx"


def _build(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder so that it is there as a whole or not at all; the caller holds the model's lock."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_building(folder)  # of a process that was killed: we hold the lock
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(building)
        files = sorted(file for file in building.iterdir() if file.is_file())
        (building / "whole.json").write_text(json.dumps({file.name: _check(file, 3) for file in files}), "utf-8")
        for file in (*files, building / "whole.json"):
            file.chmod(0o644)  # other users may run what one has exported
            _sync(file)
        if folder.exists():  # torn: a name can't be given to a second folder
            folder.rename(Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)) / "torn")
        building.rename(folder)
        folder.chmod(0o755)  # mkdtemp's are for their owner alone
    finally:
        _remove_building(folder)


def _remove_building(folder: Path) -> None:
    """Remove the folders in which a space was being built, or was put aside as torn; links in them stay."""
    every = re.compile(".+")
    within = Layout(every, {every: Layout(every)})
    building = Layout(folders={re.compile(rf"\.{re.escape(folder.name)}-\w{{8}}"): within})
    remove_own(folder.parent, folder.parent, building, lambda _: True)


def load_towers(checkpoint: Checkpoint, wanted: str = "") -> tuple[Towers, dict[str, Any]]:
    """Load a checkpoint's towers in torch; return them and the spec of their space.

    Raises `ModelError` where a fingerprint is wanted that it doesn't have any more.
    """
    from mmsearch.spaces.export import specification

    architecture = architecture_of(checkpoint)  # which refuses what no model is like, before any of it is built
    if checkpoint.family == CLAP:
        from mmsearch.spaces.clap import load_clap

        assert checkpoint.folder is not None
        towers = load_clap(checkpoint.folder)
    else:
        from mmsearch.spaces.openclip import load_open_clip

        towers = load_open_clip(checkpoint)
    spec = specification(towers, checkpoint.digest(), architecture)
    if wanted and spec["fingerprint"] != wanted:
        raise replaced(checkpoint.name)
    return towers, spec


def _states(checkpoint: Checkpoint) -> Mapping[str, list[int]]:
    found = {}
    for file in checkpoint.files:
        status = file.stat()
        found[str(file)] = [status.st_size, status.st_mtime_ns]
    return found


def _remember(name: str, fingerprint: str, states: Mapping[str, list[int]]) -> None:
    file = source_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(file)
    record = json.dumps({"name": name, "fingerprint": fingerprint, "files": states}, ensure_ascii=False)
    write_whole(file, record.encode("utf-8", "surrogateescape"))


def _remembered(name: str) -> str:
    """Return the fingerprint that a name stood for when it was last exported; "" where its files changed since.

    What was downloaded counts until it is pulled again, whatever became of the download.
    """
    try:
        record = read_object(source_file(name))
        if is_local(name) and _states(find_checkpoint(name)) != record["files"]:
            return ""
        return str(record["fingerprint"])
    except (ModelError, OSError, ValueError, KeyError):
        return ""


def _recorded_fingerprint(name: str) -> str:
    """Return the fingerprint that a name stood for when it was last exported, "" if never; looks at no checkpoint."""
    try:
        return str(read_object(source_file(name))["fingerprint"])
    except (OSError, ValueError, KeyError):
        return ""


def _check(file: Path, parts: int) -> list[int]:
    """Return a file's size, a check of its beginning and end, and as the third part one of all of it."""
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        ends = zlib.crc32(opened.read(_CHECKED_BYTES))
        opened.seek(max(0, size - _CHECKED_BYTES))
        found = [size, zlib.crc32(opened.read(), ends)]
        if parts == 3:
            opened.seek(0)
            whole = 0
            while block := opened.read(2**24):
                whole = zlib.crc32(block, whole)
            found.append(whole)
    return found


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:  # Windows syncs only what is open for writing
        os.fsync(opened.fileno())


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Let one process at a time export under a folder's name; the others wait for it, and then find it done."""
    from filelock import FileLock

    file = cache_folder() / "locks" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file):
        yield


def _require_packages(name: str) -> None:
    """Raise `MissingPackageError` where a model can't be exported here: before anything is downloaded for it."""
    extra = _EXTRAS.get(name, "torch")
    packages = ("torch", "onnx") if extra == "torch" else ("torch", "onnx", "transformers")
    require(f"exporting the model {name}", *packages, extra=extra)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter is how torch and onnx say that a file can't be written
        folder = cache_folder()
        if _is_full(error, folder):
            raise CacheFullError(f"{folder}: the disk is full; free some GB there, or set MMSEARCH_CACHE") from error
        if isinstance(error, RuntimeError):
            raise
        raise ModelUnavailableError(
            f"{error.filename or folder} can't be written ({error.strerror or error}); mend that, or set MMSEARCH_CACHE"
        ) from error


def _is_full(error: OSError | RuntimeError, folder: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    with suppress(OSError):
        return shutil.disk_usage(folder).free < 2**26
    return False
