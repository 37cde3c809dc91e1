"""The operations that write to a library or to the cache, each with the library that it begins from.

An operation has a place: `media/`, and `start/library` and `start/cache`, which every case gets a copy of in `case/`.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.adapted_maker import make_photos, outcome
from support.clip_maker import HIGH, LOW, sound_bytes
from support.media_maker import BLUE, GREEN, RED, encoded, plain, put, quarters
from support.old_catalogs import downgrade
from victim import fork, pretend

from mmsearch.search import calibration
from mmsearch.search.scoring import bank
from mmsearch.spaces import cache as exports

PASSAGES = 120
"""More than a library needs to have its confidence measured: the bank's files are written, too."""
CHECKPOINT = "open_clip_model.safetensors"


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of an operation."""

    root: Path

    @property
    def media(self) -> Path:
        return self.root / "media"

    @property
    def library(self) -> Path:
        """The library of the case at hand; its path is the same in every case."""
        return self.root / "case" / "library"

    @property
    def cache(self) -> Path:
        return self.root / "case" / "cache"

    def filled(self, arguments: Sequence[str]) -> list[str]:
        """Return arguments with their {media} and {library} filled in."""
        return [argument.format(media=self.media, library=self.library) for argument in arguments]

    def run(self, *arguments: str) -> None:
        """Run a command without a fault; it must succeed."""
        (said,) = fork([self.filled(arguments)], cache=self.cache).said
        assert said.code == 0, (arguments, said)

    def begin(self) -> None:
        """Begin a case: copy what it starts from."""
        shutil.rmtree(self.root / "case", ignore_errors=True)
        shutil.copytree(self.root / "start", self.root / "case", symlinks=True)

    def keep(self) -> None:
        """Let what the case at hand has become be what every later case starts from."""
        shutil.rmtree(self.root / "start", ignore_errors=True)
        shutil.move(self.root / "case", self.root / "start")


@dataclass(frozen=True, slots=True)
class Operation:
    """A command, and how to make what it begins from."""

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Place], None]
    query: str = "a red note about low sounds"
    refusals: tuple[str, ...] = ()
    """What the same command may say when it is run again, for it had been done already."""
    notices: tuple[str, ...] = ()
    """What the command may say on lines of their own before it meets the error."""

    @property
    def next_runs(self) -> tuple[tuple[str, ...], ...]:
        """The same command again, and an index run; after it nothing of a killed process may be left."""
        return (self.arguments,) if self.arguments[0] in ("index", "model") else (self.arguments, SETTLE)


SETTLE = ("index", "{media}/a", "--library", "{library}", "--json")
INDEX = ("index", "{media}", "--library", "{library}", "--json", "--batch", "3")
_FIRST = (*INDEX, "--model", "hashing")


def write_media(media: Path) -> None:
    """Write pictures, a captioned one, sounds, notes, a long text, and files that can't be read."""
    put(media, "a/red.png", encoded(plain(RED), "PNG"))
    put(media, "a/green.jpg", encoded(plain(GREEN), "JPEG"))
    put(media, "a/quarters.png", encoded(quarters(), "PNG"))
    put(media, "a/quarters.txt", "four quarters in a caption")
    put(media, "a/low.wav", sound_bytes([(LOW, 1.0)], 8_000))
    put(media, "a/broken.png", b"\x89PNG\r\n\x1a\n" + bytes(40))
    put(media, "a/many.txt", "\n\n".join(f"Note passage {number}." for number in range(PASSAGES)))
    put(media, "b/blue.png", encoded(plain(BLUE), "PNG"))
    put(media, "b/high.wav", sound_bytes([(HIGH, 1.0)], 8_000))
    put(media, "b/note.txt", "A note about a lighthouse.")
    put(media, "b/broken.txt", bytes(100))


def prepare_new(place: Place) -> None:
    """Leave media, and no library yet."""
    write_media(place.media)
    place.cache.mkdir(parents=True)
    place.library.mkdir()
    place.keep()


def _indexed(place: Place, model: str = "hashing") -> None:
    write_media(place.media)
    place.cache.mkdir(parents=True)
    place.run(*INDEX, "--model", model)


def _kept(place: Place, model: str = "hashing") -> None:
    _indexed(place, model)
    place.keep()


def _change_media(media: Path) -> None:
    """Change a file, add, rename and remove some, mend one and break one."""
    put(media, "a/red.png", encoded(plain(RED, 32, 32), "PNG"))
    put(media, "a/new/yellow.png", encoded(plain((240, 230, 40)), "PNG"))
    put(media, "a/new/note.txt", "Another note, about a donkey.")
    (media / "a/quarters.png").rename(media / "a/new/renamed.png")
    (media / "a/quarters.txt").rename(media / "a/new/renamed.txt")
    (media / "b/note.txt").unlink()
    put(media, "b/broken.txt", "mended by now")
    put(media, "b/high.wav", b"RIFF" + bytes(60))


def prepare_indexed(place: Place) -> None:
    """Leave a library of pictures, sounds and texts."""
    _kept(place)


def prepare_adapted(place: Place) -> None:
    """Leave a library that was adapted."""
    _captioned(place)
    place.begin()
    place.run("adapt", "--library", "{library}", "--json")
    place.keep()


def _updated(place: Place) -> None:
    _indexed(place)
    _change_media(place.media)
    place.keep()


def _behind(place: Place) -> None:
    """Leave a library whose catalog is further than its indexes, as a killed run does."""
    _indexed(place)
    shutil.copytree(place.library / "indexes", place.root / "older")
    _change_media(place.media)
    place.run(*INDEX)
    shutil.rmtree(place.library / "indexes")
    shutil.move(place.root / "older", place.library / "indexes")
    place.keep()


def _emptied(place: Place) -> None:
    _kept(place)
    for file in (place.media / "b").iterdir():
        file.unlink()


def _captioned(place: Place) -> None:
    """Leave a library whose pictures were turned away from their captions, so that adapting it gains."""
    os.environ["MMSEARCH_CACHE"] = str(place.cache)
    place.cache.mkdir(parents=True)
    place.media.joinpath("a").mkdir(parents=True)
    make_photos(place.library, 120)
    place.run("index", "{media}", "--library", "{library}", "--json")
    place.keep()


def _old(place: Place) -> None:
    _indexed(place)
    downgrade(place.library / "catalog.sqlite", 1)
    place.keep()


def _rotten(place: Place) -> None:
    """Leave a library of which a disk has changed a vector, a row and an index, and in which a file was left behind."""
    _indexed(place)
    with closing(sqlite3.connect(place.library / "catalog.sqlite")) as catalog:
        catalog.execute("UPDATE embedding SET vector = zeroblob(128) WHERE view = 'visual' AND id % 2 = 0")
        catalog.execute("UPDATE text SET words = 'something else' WHERE words LIKE 'Note passage 7%'")
        catalog.commit()
    index = next(place.library.glob("indexes/*/*/audio/base-*.faiss"))
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 16
    index.write_bytes(bytes(content))
    index.with_name(f"{index.name}.tmp").write_bytes(bytes(100))
    place.keep()


def _checkpoint(place: Place) -> None:
    place.media.mkdir(parents=True)
    put(place.media, CHECKPOINT, bytes(100))
    put(place.media, "open_clip_config.json", "{}")
    place.cache.mkdir(parents=True)
    place.library.mkdir()
    place.keep()


PULL = ("model", "pull", "local-dir:{media}")
DOCTOR = ("doctor", "--repair", "--library", "{library}", "--json")
OPERATIONS = (
    Operation("index, new library", _FIRST, prepare_new),
    Operation("index, changed files", INDEX, _updated),
    Operation("query that catches up", ("query", "red", "--library", "{library}", "--json"), _behind),
    Operation(
        "forget", ("forget", "{media}/b", "--library", "{library}"), _kept, refusals=("the library holds nothing at",)
    ),
    Operation("index --prune", (*INDEX, "--prune"), _emptied),
    Operation("index --model", _FIRST, lambda place: _kept(place, "mini")),
    Operation("index --model --prune", (*_FIRST, "--prune"), lambda place: _kept(place, "mini")),
    Operation(
        "adapt that gains",
        ("adapt", "--library", "{library}", "--json"),
        _captioned,
        query="a lighthouse",
        refusals=("is adapted already",),
    ),
    Operation("model pull (export)", PULL, _checkpoint, query="", notices=("exporting ",)),
    Operation("first use of an old catalog", ("query", "red", "--library", "{library}", "--json"), _old),
    Operation("doctor --repair", DOCTOR, _rotten, notices=("holds damaged vectors",)),
)


def pretend_adapting() -> None:
    """Let adapting gain at once, without torch."""
    pretend("mmsearch.adaptation.fit", adapt=lambda *_, **__: outcome())


def pretend_exports() -> None:
    """Let an export be three small files, without torch."""
    pretend("mmsearch.spaces.export", export=_export)
    vars(exports)["load_towers"] = _load_towers


def shorten_bank() -> None:
    """Let confidence be measured with few texts."""
    texts = bank()[:32]
    vars(calibration)["bank"] = lambda: texts


def _load_towers(checkpoint: Any, _wanted: str = "") -> tuple[None, dict[str, Any]]:  # noqa: ANN401
    return None, {"fingerprint": checkpoint.digest()[:16], "dim": 4}


def _export(_towers: None, spec: Mapping[str, Any], folder: Path) -> None:
    (folder / "spec.json").write_text(json.dumps(spec))
    for name in ("image.onnx", "text.onnx"):
        (folder / name).write_bytes(struct.pack("<I", 7) * 5_000 + np.arange(5_000, dtype="<u4").tobytes())
