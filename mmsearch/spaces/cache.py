"""The cache of exported models: each is exported once from its checkpoint, and found by its fingerprint.

    $MMSEARCH_CACHE, else the user's cache folder
    ├── spaces/NAME-FINGERPRINT/    spec.json, image.onnx, image.bin, text.onnx, ..., whole.json
    ├── locks/NAME.lock             held during an export under this name
    ├── sources/NAME-DIGEST.json    the fingerprint of a name at its last export, and the state of its files
    └── approved/NAME-DIGEST.json   a folder that the user has named as a model: see approval.py

A model is exported when the user names it. A model that only a library names is used if it is in the cache already.

A space is built in a temporary folder, synced, and renamed, so that a killed process leaves all of it or nothing.
`whole.json` is written last and has the size and checksums of each file.
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
"""Bytes at a file's beginning and end that are checked before use: checking all takes a second per gigabyte."""


def find_export(name: str, fingerprint: str = "") -> Path | None:
    """Return the folder of an exported model, None if it is missing or damaged.

    Without a fingerprint, the one of the name's last export is used. This needs neither torch nor the network, and with
    a fingerprint not even the checkpoint.
    """
    fingerprint = fingerprint or _remembered(name)
    folder = export_folder(name, fingerprint)
    return folder if fingerprint and is_whole(folder) else None


def kept_export(name: str, fingerprint: str) -> Path:
    """Return the export of a model that a library names, if the user has exported it on this machine before.

    A library may come from anyone, so nothing is downloaded, exported or read from the checkpoint. Raises `ModelError`
    with the remedy.
    """
    if fingerprint and (folder := find_export(name, fingerprint)):
        return folder
    recorded = _recorded_fingerprint(name)
    if recorded not in ("", fingerprint) and find_export(name, recorded):
        raise replaced(name)
    raise ModelUnavailableError(f"the model {name} isn't ready on this machine; if you trust it, {remedy(name)}")


def was_exported_here(name: str) -> bool:
    """Return whether the user has exported a model of this name on this machine."""
    return bool(_recorded_fingerprint(name))


def export_model(name: str, fingerprint: str = "", *, fresh: bool = False) -> Path:
    """Return the folder of an exported model; export it first if necessary, which takes seconds to a minute.

    With `fresh`, the name is always looked up again. Raises `ModelError`, also if the checkpoint no longer has the
    requested fingerprint.
    """
    if not fresh and (found := find_export(name, fingerprint)):
        return found
    _require_packages(name)
    checkpoint = find_checkpoint(name)
    with _disk_errors(), _lock(slug(name)):
        if not fresh and (found := find_export(name, fingerprint)):  # another process has exported it meanwhile
            return found
        states = _states(checkpoint)
        folder = _export(checkpoint, fingerprint)
        _remember(name, json.loads((folder / "spec.json").read_bytes())["fingerprint"], states)
        return folder


def is_torn(space: OnnxSpace) -> bool:
    """Return whether any byte of an exported space has changed; this takes half a second per gigabyte."""
    folder = export_folder(space.name, space.fingerprint)
    return space.is_exported and folder.is_dir() and not is_whole(folder, thorough=True)


def replaced(name: str) -> ModelError:
    """Return the error for a model whose checkpoint was replaced since a library was embedded with it."""
    return ModelError(
        f"{name} has changed since this library was embedded with it; put the old checkpoint back, or run "
        f"'mmsearch index PATH --model {name}' to embed it again"
    )


def is_whole(folder: Path, *, thorough: bool = False) -> bool:
    """Return whether every file of an exported space is undamaged, by its size, beginning and end.

    With `thorough`, the whole file is read, which takes half a second per gigabyte.
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
    """Return the ONNX file of a space's image tower with 8-bit weights; make it from the exported one if necessary."""
    folder = export_folder(space.name, space.fingerprint + "-int8")
    if is_whole(folder):
        return folder / "image.onnx"
    with _disk_errors(), _lock(slug(space.name)):
        if not is_whole(folder):
            from mmsearch.spaces.export import quantise

            _build(folder, lambda building: quantise(space.tower_file(View.VISUAL), building / "image.onnx"))
    return folder / "image.onnx"


def _build(folder: Path, fill: Callable[[Path], None]) -> None:
    """Create a folder and its content atomically. The caller holds the model's lock."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_building(folder)  # those left by killed processes; holding the lock makes this safe
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(building)
        files = sorted(file for file in building.iterdir() if file.is_file())
        (building / "whole.json").write_text(json.dumps({file.name: _check(file, 3) for file in files}), "utf-8")
        for file in (*files, building / "whole.json"):
            file.chmod(0o644)  # so that all users of the machine can share an export
            _sync(file)
        if folder.exists():  # it is damaged: a folder can't be renamed onto another one
            folder.rename(Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)) / "torn")
        building.rename(folder)
        folder.chmod(0o755)  # mkdtemp makes it accessible to its owner only
    finally:
        _remove_building(folder)


def _remove_building(folder: Path) -> None:
    """Remove the temporary folders of a space, and copies that were set aside as damaged. Links in them stay."""
    every = re.compile(".+")
    within = Layout(every, {every: Layout(every)})
    building = Layout(folders={re.compile(rf"\.{re.escape(folder.name)}-\w{{8}}"): within})
    remove_own(folder.parent, folder.parent, building, lambda _: True)


def load_towers(checkpoint: Checkpoint, wanted: str = "") -> tuple[Towers, dict[str, Any]]:
    """Load a checkpoint's towers in torch; return them and the spec of their space.

    Raises `ModelError` if the checkpoint doesn't have the fingerprint `wanted`.
    """
    from mmsearch.spaces.export import specification

    architecture = architecture_of(checkpoint)  # refuses an implausible configuration before anything is built
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
    states = {}
    for file in checkpoint.files:
        status = file.stat()
        states[str(file)] = [status.st_size, status.st_mtime_ns]
    return states


def _remember(name: str, fingerprint: str, states: Mapping[str, list[int]]) -> None:
    file = source_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(file)
    record = json.dumps({"name": name, "fingerprint": fingerprint, "files": states}, ensure_ascii=False)
    write_whole(file, record.encode("utf-8", "surrogateescape"))


def _remembered(name: str) -> str:
    """Return the fingerprint of a name at its last export; "" if never exported, or if local files have changed since.

    A downloaded model counts as unchanged until it is pulled again, even if the download was deleted.
    """
    try:
        record = read_object(source_file(name))
        if is_local(name) and _states(find_checkpoint(name)) != record["files"]:
            return ""
        return str(record["fingerprint"])
    except (ModelError, OSError, ValueError, KeyError):
        return ""


def _recorded_fingerprint(name: str) -> str:
    """Return the fingerprint of a name at its last export, "" if never exported, without reading the checkpoint."""
    try:
        return str(read_object(source_file(name))["fingerprint"])
    except (OSError, ValueError, KeyError):
        return ""


def _check(file: Path, parts: int) -> list[int]:
    """Return a file's size, the CRC-32 of its beginning and end, and with three parts the CRC-32 of all of it."""
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        ends = zlib.crc32(opened.read(_CHECKED_BYTES))
        opened.seek(max(0, size - _CHECKED_BYTES))
        checks = [size, zlib.crc32(opened.read(), ends)]
        if parts == 3:
            opened.seek(0)
            whole = 0
            while block := opened.read(2**24):
                whole = zlib.crc32(block, whole)
            checks.append(whole)
    return checks


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:  # Windows syncs only files that are open for writing
        os.fsync(opened.fileno())


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Let only one process at a time export under a name; others wait, and then find the finished export."""
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
    except (OSError, RuntimeError) as error:  # torch and onnx raise RuntimeError if a file can't be written
        folder = cache_folder()
        if _is_full(error, folder):
            raise CacheFullError(f"{folder}: the disk is full; free some GB there, or set MMSEARCH_CACHE") from error
        if isinstance(error, RuntimeError):
            raise
        raise ModelUnavailableError(
            f"{error.filename or folder} can't be written ({error.strerror or error}); fix that, or set MMSEARCH_CACHE"
        ) from error


def _is_full(error: OSError | RuntimeError, folder: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    with suppress(OSError):
        return shutil.disk_usage(folder).free < 2**26
    return False
