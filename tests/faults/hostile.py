"""Libraries as somebody else may have made them: every file replaced, every column of the catalog twisted.

A maker changes a copy of a good library. `Twist.answers` says what a query may still answer: nothing may be made up,
and what the twist doesn't concern is found as before.
"""

from __future__ import annotations

import io
import json
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, partial
from pathlib import Path

import numpy as np
from hostile_catalogs import catalogs
from support.hostile_models import hostile_models
from twist import ADAPTED, CATALOG, NEW, PLAIN, Twist

# Files replaced


def _replace(path: Path, put: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.aside"))
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path)


def _socket(path: Path) -> None:
    at = Path.cwd()
    os.chdir(path.parent)  # a socket's path may be but 107 bytes long
    try:
        with closing(socket.socket(socket.AF_UNIX)) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(at)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


SUBSTITUTES: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "a socket": _socket,
    "nothing in it": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(1).bytes(20_000)),
    "3 GB of zeros": _sparse,
}
FILES = (
    "catalog.sqlite",
    "catalog.sqlite-wal",
    "catalog.sqlite-shm",
    "write.lock",
    "indexes",
    "indexes/1",
    "indexes/1/*",
    "indexes/1/*/visual",
    "indexes/1/*/text/manifest.json",
    "indexes/1/*/text/base-*.faiss",
    "indexes/1/*/audio/manifest.json",
    "indexes/1/*/visual.bank.npz",
    "adapted",
)
ADAPTED_FILES = ("adapted/*", "adapted/*/spec.json", "adapted/*/heads.npz")


def _one(library: Path, pattern: str) -> Path:
    if "*" not in pattern:
        return library / pattern
    return min(found for found in library.glob(pattern) if not found.name.startswith("."))


def replaced() -> Iterator[Twist]:
    """Yield libraries in which something else is where a file or a folder should be."""
    for base, patterns in ((PLAIN, FILES), (ADAPTED, ADAPTED_FILES)):
        for pattern in patterns:
            for what, put in SUBSTITUTES.items():
                make = partial(_substituted, pattern, put)
                yield Twist(f"{pattern} is {what}", make, base, answers=pattern != CATALOG)
    for pattern in (*FILES, *ADAPTED_FILES):
        base = ADAPTED if pattern in ADAPTED_FILES else PLAIN
        yield Twist(f"{pattern} is a link to a user's folder", partial(_linked, pattern), base)


def _substituted(pattern: str, put: Callable[[Path], object], library: Path, _outside: Path) -> None:
    _replace(_one(library, pattern), put)


def _linked(pattern: str, library: Path, outside: Path) -> None:
    _replace(_one(library, pattern), lambda path: path.symlink_to(outside))


# Manifests, archives, heads

MANIFESTS: dict[str, Callable[[dict[str, object]], object]] = {
    "another dim": lambda fields: {**fields, "dim": 63},
    "an enormous dim": lambda fields: {**fields, "dim": 10**12},
    "a later format": lambda fields: {**fields, "format": 99},
    "a revision that is text": lambda fields: {**fields, "revision": "x"},
    "an enormous serial": lambda fields: {**fields, "serial": 10**30},
    "a serial below zero": lambda fields: {**fields, "serial": -7},
    "no generations": lambda fields: {**fields, "generations": []},
    "generations that are text": lambda fields: {**fields, "generations": "abc"},
    "a generation twice": lambda fields: {**fields, "generations": [*fields["generations"], *fields["generations"]]},  # type: ignore[misc]
    "a name that climbs": lambda fields: _named(fields, "../../../../../outside/canary"),
    "an absolute name": lambda fields: _named(fields, "/dev/zero"),
    "a name that is empty": lambda fields: _named(fields, ""),
    "a name that is long": lambda fields: _named(fields, "x" * 100_000),
    "a count below zero": lambda fields: _counted(fields, -1),
    "an enormous count": lambda fields: _counted(fields, 2**62),
    "a list": lambda fields: [fields],
    "null": lambda _fields: None,
    "a number": lambda _fields: 7,
    "more than is known": lambda fields: {**fields, "more": {"deep": [1] * 10}},
}


def _named(fields: dict[str, object], name: str) -> dict[str, object]:
    return {**fields, "generations": [{**file, "name": name} for file in fields["generations"]]}  # type: ignore[attr-defined]


def _counted(fields: dict[str, object], count: int) -> dict[str, object]:
    return {**fields, "generations": [{**file, "count": count} for file in fields["generations"]]}  # type: ignore[attr-defined]


def _manifest(change: Callable[[dict[str, object]], object], library: Path, _outside: Path) -> None:
    file = _one(library, "indexes/1/*/text/manifest.json")
    file.write_text(json.dumps(change(json.loads(file.read_text("utf-8")))), "utf-8")


def _deep(library: Path, _outside: Path) -> None:
    _one(library, "indexes/1/*/text/manifest.json").write_bytes(b'{"a":' * 200_000)


@cache
def npz_bomb(size_bytes: int) -> bytes:
    """Return an archive of zeros that unpacks to so many bytes."""
    file = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (size_bytes // 4,)})
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w1.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(size_bytes // 2**20):
            member.write(bytes(2**20))
    return file.getvalue()


def _pickled(value: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, w1=np.asarray([value], dtype=object), format=np.asarray(3))
    return file.getvalue()


def _saved(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


class _Lure:
    """Would make a folder if anybody unpickled it."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("unpickled",)


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a bomb": lambda: npz_bomb(3 * 2**30),
    "pickled": lambda: _pickled(_Lure()),
    "empty arrays": lambda: _saved(
        vectors=np.zeros((0, 0)), stds=np.zeros(0), numbers=np.zeros(0), format=np.asarray(3)
    ),
    "texts": lambda: _saved(
        vectors=np.asarray(["x"] * 5), stds=np.asarray("y"), numbers=np.asarray("z"), format=np.asarray(3)
    ),
    "not numbers": lambda: _saved(
        marks=np.asarray([1]),
        numbers=np.full(5, np.nan),
        stds=np.full(512, np.nan),
        format=np.asarray(3),
        vectors=np.full((512, 64), np.nan, np.float16),
    ),
    "other shapes": lambda: _saved(
        marks=np.asarray([1]),
        numbers=np.ones(50),
        stds=np.ones((3, 3)),
        vectors=np.ones((7, 7, 7), np.float16),
        format=np.asarray(3),
    ),
    "half an archive": lambda: _saved(vectors=np.ones(9000))[:5000],
}
SPECS: dict[str, Callable[[dict[str, object]], object]] = {
    "towers from a hub": lambda spec: {**spec, "towers": dict.fromkeys(("text", "visual", "audio"), "hf-hub:any/body")},
    "towers that are folders": lambda spec: {
        **spec,
        "towers": dict.fromkeys(("text", "visual", "audio"), "local-dir:/"),
    },
    "towers of itself": lambda spec: {
        **spec,
        "towers": dict.fromkeys(("text", "visual", "audio"), f"adapted:{spec.get('fingerprint', '')}"),
    },
    "no towers": lambda spec: {**spec, "towers": {}},
    "towers that are a list": lambda spec: {**spec, "towers": ["mini"]},
    "an unknown view": lambda spec: {**spec, "towers": {"smell": "hashing"}},
    "another dim": lambda spec: {**spec, "dim": 63},
    "an enormous dim": lambda spec: {**spec, "dim": 10**9},
    "a dim that is text": lambda spec: {**spec, "dim": "x"},
    "another digest": lambda spec: {
        name: "0" * 32 if name in ("heads", "digest", "fingerprint") else value for name, value in spec.items()
    },
    "a list": lambda spec: [spec],
    "null": lambda _spec: None,
    "nothing": lambda _spec: {},
}


def archives() -> Iterator[Twist]:
    """Yield libraries whose manifests, archives of arrays and adapted spaces are crafted."""
    for what, change in MANIFESTS.items():
        # A manifest that leaves out whole files is sound by itself; only `doctor` compares it with the catalog.
        yield Twist(f"a manifest with {what}", partial(_manifest, change), answers=what != "no generations")
    yield Twist("a manifest that is deep", _deep)
    for what, make in ARCHIVES.items():
        yield Twist(f"visual.bank.npz holds {what}", partial(_written, "indexes/1/*/visual.bank.npz", make))
        yield Twist(f"text.bank.npz holds {what}", partial(_written, "indexes/1/*/text.bank.npz", make))
        yield Twist(f"heads.npz holds {what}", partial(_written, "adapted/*/heads.npz", make), ADAPTED)
    for what, change in SPECS.items():
        yield Twist(f"an adapted space with {what}", partial(_spec, change), ADAPTED)


def _written(pattern: str, make: Callable[[], bytes], library: Path, _outside: Path) -> None:
    folder, _, name = pattern.rpartition("/")
    (_one(library, folder) / name).write_bytes(make())


def _spec(change: Callable[[dict[str, object]], object], library: Path, _outside: Path) -> None:
    file = _one(library, "adapted/*/spec.json")
    file.write_text(json.dumps(change(json.loads(file.read_text("utf-8")))), "utf-8")


# Model folders


def models() -> Iterator[Twist]:
    """Yield hostile model folders, each beside a library that isn't there yet."""
    for name, make in hostile_models():
        yield Twist(f"model: {name}", partial(_model, make), NEW)


def _model(make: Callable[[Path], object], library: Path, _outside: Path) -> None:
    folder = library.parent / "model"
    folder.mkdir()
    make(folder)


def twists() -> list[Twist]:
    """Return every hostile library and model folder."""
    return [*replaced(), *catalogs(), *archives(), *models()]
