"""Every place of a library's folder that may be a link, the user's own things behind it, and every command."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

from mmsearch import Library
from mmsearch.evaluation.evaluate import evaluate
from mmsearch.evaluation.judged import read_judged, write_captions
from support.adapted_maker import make_adapted, outcome

FOLDERS = [
    "indexes",
    "indexes/2",
    "indexes/2/SPACE",
    "indexes/2/SPACE/visual",
    "indexes/1",
    "indexes/1/OLD",
    "indexes/1/OLD/visual",
    "adapted",
    "adapted/HEADS",
]
FILES = [
    "indexes/.mmsearch",
    "indexes/2/SPACE/visual/manifest.json",
    "indexes/2/SPACE/visual/BASE",
    "indexes/2/SPACE/visual/manifest.json.tmp",
    "indexes/2/SPACE/visual/base-000002-000.faiss.tmp",
    "indexes/2/SPACE/visual.bank.npz",
    "indexes/2/SPACE/.visual.bank.npz.1",
    "adapted/HEADS/spec.json",
    "adapted/HEADS/heads.npz",
    "write.lock",
    "catalog.sqlite",
    "catalog.sqlite-wal",
    "catalog.sqlite-shm",
    "catalog.sqlite-journal",
]
STRAY = [
    "indexes/7",
    "indexes/2/other-0123456789abcdef",
    "adapted/0123456789abcdef",
    "adapted/.building-x",
    "adapted/HEADS/.heads.npz.1",
    ".catalog.sqlite.1234",
]
"""Every place that mmsearch reads, writes or removes, and last what it would only remove.

Capitals stand for names that depend on the model.
"""
OURS = "manifest.json manifest.json.tmp base-000001-000.faiss deleted-000001.npy visual.bank.npz spec.json heads.npz"
OURS += " catalog.sqlite write.lock .manifest.json.1 .heads.npz.1 notes.txt"
INNER = "1 2 1/x-0123456789abcdef 2/x-0123456789abcdef/visual x-0123456789abcdef/text visual 0123456789abcdef"
INNER += " .building-x .building-x/before before"


class adapting:
    """Let adaptation gain without training."""

    def __enter__(self) -> None:
        self.before = sys.modules.get("mmsearch.adaptation.fit")
        sys.modules["mmsearch.adaptation.fit"] = SimpleNamespace(adapt=lambda *_, **__: outcome())  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        del sys.modules["mmsearch.adaptation.fit"]
        if self.before is not None:
            sys.modules["mmsearch.adaptation.fit"] = self.before


def place(library: Path, name: str) -> Path:
    """Return the path of a name in which capitals stand for what depends on the model."""
    names = {
        "SPACE": next((library / "indexes" / "2").iterdir()).name,
        "OLD": next((library / "indexes" / "1").iterdir()).name,
        "HEADS": next(entry.name for entry in (library / "adapted").iterdir() if len(entry.name) == 16),
        "BASE": "base-000001-000.faiss",
    }
    return library.joinpath(*(names.get(part, part) for part in name.split("/")))


def fill(folder: Path) -> None:
    """Put canaries into a folder, with names of mmsearch's own."""
    for inner in (".", *INNER.split()):
        (folder / inner).mkdir(parents=True, exist_ok=True)
        for name in OURS.split():
            if not (folder / inner / name).exists():
                (folder / inner / name).write_text(f"the user's own {name}")


def tree(folder: Path) -> dict[str, object]:
    """Return all that there is to see of a folder: names, kinds, contents, times."""
    seen: dict[str, object] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        seen[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink, content)
    return seen


def commands(tmp_path: Path, *, again: bool = False) -> Iterator[tuple[str, Callable[[Library], object]]]:
    """Yield every command that opens a library."""
    nothing = tmp_path / "nothing"
    nothing.mkdir(exist_ok=True)
    (nothing / "judged.jsonl").write_text('{"query": "a drum", "relevant": ["/made/1.jpg"]}\n')
    other = make_adapted(tmp_path / "heads", "hashing", seed=9)
    yield "query", lambda library: library.query("a drum and a candle")
    yield "status", lambda library: (library.status(), library.failures(), library.outdated())
    yield "eval", lambda library: evaluate(library, read_judged(nothing / "judged.jsonl"), exact=True)
    yield "synthesize", lambda library: write_captions(library, tmp_path / "captions.jsonl")
    yield "index", lambda library: library.index(nothing, exclude=["*"])
    yield "forget", lambda library: library.forget("/made/3.jpg")
    yield "adapt", lambda library: library.adapt()
    yield "index --model", lambda library: library.index(nothing, exclude=["*"], model=f"local-dir:{other}")
    yield "index --model, back", lambda library: library.index(nothing, exclude=["*"], model="hashing", prune=True)
    if again:
        yield "adapt again", lambda library: library.adapt()
    yield "index --prune", lambda library: library.index(nothing, exclude=["*"], prune=True)


def move_out(name: str, link: Path, target: Path) -> None:
    """Move what there is to a target outside of the library, with canaries, and leave a link to it."""
    if name in ("indexes", "adapted"):  # as it was, it carries the library's marker, and may be linked
        shutil.rmtree(link)
    elif os.path.lexists(link) and name != "catalog.sqlite":
        shutil.move(link, target)
    if name in FOLDERS + STRAY[:4]:
        target.mkdir(exist_ok=True)
        fill(target)
    elif name == "catalog.sqlite":
        link.unlink()
        with closing(sqlite3.connect(target)) as connection:
            connection.execute("CREATE TABLE media (name TEXT)")
            connection.execute("PRAGMA user_version = 3")
            connection.commit()
    elif not target.exists():
        target.write_text("the user's own")
    link.symlink_to(target)
