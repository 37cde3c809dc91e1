"""Records which space folders the user has approved on this machine, by naming them, and the state of their files.

    CACHE/approved/NAME-DIGEST.json    size, times and SHA-256 of each file

A library names its model by a path, and may come from anyone. So a query loads the folder at that path only if the user
has named it before and its files haven't changed. Any other folder is first tried in a separate process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmsearch.errors import ModelError, ModelUnavailableError
from mmsearch.files import open_regular, remove_unfinished, write_whole
from mmsearch.spaces.places import approval_file, remedy
from mmsearch.spaces.spec import SPEC, is_adapted, is_file_name, read_adapted_spec, read_object, read_spec

_log = logging.getLogger(__name__)
_States = Mapping[str, list[int]]


def approve(name: str, folder: Path) -> None:
    """Try a space folder that the user names and record its state. An unchanged, recorded folder isn't tried again.

    Raises `ModelError` if it can't be used.
    """
    known = _recorded(name)
    if known and _is_unchanged(folder, known):
        return
    from mmsearch.spaces.trial import try_folder  # no query starts a process

    adapted = is_adapted(folder)
    spec = read_adapted_spec(folder) if adapted else read_spec(folder)
    before = _states(folder, spec.files)
    beside = set() if adapted else try_folder(folder)
    names = sorted({*spec.files, *beside})
    digests = {name: _digest(folder / name) for name in names}
    for file, digest in () if adapted else read_spec(folder).digests.items():
        if digests.get(file, digest) != digest:
            raise ModelError(f"{folder / file} is damaged (its digest isn't the spec's); copy the model again")
    after = _states(folder, names)
    if any(after[name] != state for name, state in before.items()):
        raise ModelUnavailableError(f"{folder} is being changed at this moment; run it again")
    _remember(name, {name: {"state": after[name], "sha256": digests[name]} for name in names})


def approved_folder(name: str, path: str) -> Path | None:
    """Return a space folder if the user has approved it on this machine; otherwise None, without reading the folder.

    Raises `ModelError` if its files have changed since.
    """
    known = _recorded(name)
    if not known:
        return None
    folder = Path(path)
    if not _is_unchanged(folder, known):
        if not (folder / SPEC).is_file():
            raise ModelUnavailableError(
                f"{folder} isn't a model's folder any more; put the model back, or use another --model"
            )
        raise ModelUnavailableError(
            f"{folder} has changed since you last used it; if you trust it, {remedy(str(folder))}"
        )
    return folder


def _recorded(name: str) -> Mapping[str, Any]:
    """Return the recorded state of each file of a folder; empty if the record is missing or invalid."""
    try:
        record = read_object(approval_file(name))
    except (OSError, ValueError):
        return {}
    files = record.get("files")
    if record.get("name") != name or not isinstance(files, dict):
        return {}
    return files if all(is_file_name(file) and isinstance(state, dict) for file, state in files.items()) else {}


def _is_unchanged(folder: Path, known: Mapping[str, Any]) -> bool:
    """Return whether files are unchanged. A file whose size or times differ is compared by its digest."""
    try:
        states = _states(folder, known)
        touched = [name for name, record in known.items() if record.get("state") != states[name]]
        return all(_digest(folder / name) == known[name].get("sha256") for name in touched)
    except ModelError:
        return False


def _states(folder: Path, names: Iterable[str]) -> _States:
    """Return size and times of files. Raises `ModelError` if one isn't a regular file in the folder."""
    states = {}
    for name in names:
        try:
            status = os.lstat(folder / name)
        except OSError as error:
            raise ModelUnavailableError(
                f"{folder / name} can't be read ({error.strerror}); copy the model again"
            ) from None
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(
                f"{folder / name} is no regular file; a model's folder must not contain links: copy it with 'cp -rL'"
            )
        states[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return states


def _digest(file: Path) -> str:
    try:
        with open_regular(file, follow_links=False) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnavailableError(f"{file} can't be read ({error.strerror}); copy the model again") from None


def _remember(name: str, files: Mapping[str, Any]) -> None:
    record = approval_file(name)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(record)
        write_whole(record, json.dumps({"name": name, "files": files}, indent=1).encode("utf-8", "replace"))
    except OSError as error:
        _log.warning(
            "%s can't be written (%s), so a query will not use this model; fix that, or set MMSEARCH_CACHE",
            error.filename or record,
            error.strerror or error,
        )
