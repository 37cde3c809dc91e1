"""What an odd file is, what must become of it, and a library that has seen a folder of them twice."""

from __future__ import annotations

import os
import random
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import mmsearch
from mmsearch import Failure, Hit, IndexReport, Library, Modality, Settings, View
from mmsearch.media import by_name
from support.clip_maker import HIGH, LOW, MIDDLE, sound_bytes
from support.media_maker import COLOURS, encoded, plain, put


class Fate(Enum):
    """What becomes of a file: whether it is in the library, and whether it is among the failures."""

    KEPT = "kept"
    FAILED = "failed"
    KEPT_AND_FAILED = "kept and failed"
    EITHER_WAY_KEPT = "kept, and perhaps among the failures"
    ANY = "either kept or failed"


KEPT = {Fate.KEPT, Fate.KEPT_AND_FAILED, Fate.EITHER_WAY_KEPT}
FAILED = {Fate.FAILED, Fate.KEPT_AND_FAILED}


@dataclass(frozen=True, slots=True)
class Answer:
    """A word that must find a file, by which view, and the moment it must point to, give or take `within_s`."""

    word: str
    view: View
    start_s: float | None
    end_s: float | None
    within_s: float


def sees(word: str, start_s: float | None = None, end_s: float | None = None, within_s: float = 1.0) -> Answer:
    """Return the answer of a picture; of a photo, without times."""
    return Answer(word, View.VISUAL, start_s, end_s, within_s)


def hears(word: str, start_s: float, end_s: float, within_s: float = 1.0) -> Answer:
    """Return the answer of a sound."""
    return Answer(word, View.AUDIO, start_s, end_s, within_s)


def reads(word: str) -> Answer:
    """Return the answer of a text."""
    return Answer(word, View.TEXT, None, None, 0.0)


@dataclass(frozen=True, slots=True)
class Odd:
    """A file by its name, and its bytes or what makes them; `modality` is given where the name lies."""

    name: str
    made: bytes | Callable[[], bytes]
    answers: tuple[Answer, ...] = ()
    fate: Fate = Fate.KEPT
    modality: Modality | None = None

    @property
    def kind(self) -> Modality:
        """The modality that it is to be indexed as."""
        kind = self.modality or by_name(self.name)
        assert kind is not None, self.name
        return kind

    def make(self) -> bytes:
        """Return the bytes of the file."""
        return self.made if isinstance(self.made, bytes) else self.made()


def nonsense(*extensions: str) -> Iterator[Odd]:
    """Yield files that are empty, zeros, random, or a sentence."""
    for extension in extensions:
        draw = random.Random(extension)
        yield Odd(f"empty.{extension}", b"", fate=Fate.FAILED)
        yield Odd(f"zeros.{extension}", bytes(4096 + draw.randrange(4096)), fate=Fate.FAILED)
        yield Odd(f"random.{extension}", draw.randbytes(4096), fate=Fate.FAILED)
        yield Odd(f"words.{extension}", f"This is no {extension} but a sentence.".encode(), fate=Fate.FAILED)


@dataclass(frozen=True, slots=True)
class Content:
    """What a library holds of a file: its modality, and start, end and views of each segment."""

    modality: str
    segments: tuple[tuple[float | None, float | None, frozenset[str]], ...]


def contents(library: Library, folder: Path) -> dict[Path, Content]:
    """Return what a library holds below a folder, by path."""
    with closing(sqlite3.connect(library.folder / "catalog.sqlite")) as catalog:
        media = catalog.execute(
            "SELECT path, modality, content_id FROM media JOIN content ON content.id = content_id"
        ).fetchall()
        rows = catalog.execute(
            "SELECT content_id, start_s, end_s, group_concat(view) FROM segment"
            " LEFT JOIN embedding ON segment_id = segment.id GROUP BY segment.id ORDER BY start_s, segment.id"
        ).fetchall()
    segments: dict[int, list[tuple[float | None, float | None, frozenset[str]]]] = {}
    for content, start_s, end_s, views in rows:
        segments.setdefault(content, []).append((start_s, end_s, frozenset((views or "").split(",")) - {""}))
    return {
        Path(os.fsdecode(path)): Content(modality, tuple(segments.get(content, ())))
        for path, modality, content in media
        if Path(os.fsdecode(path)).is_relative_to(folder)
    }


def ballast(folder: Path) -> Path:
    """Fill a folder with pictures and sounds of all sorts, so that what a word finds is a small part of a library."""
    values = list(COLOURS.values())
    for number, (a, b) in enumerate((a, b) for a in values for b in values if a != b):
        for width in (8, 24, 40):
            picture = plain(a)
            picture.paste(b, (0, 0, width, 48))
            put(folder, f"{number}-{width}.png", encoded(picture, "PNG"))
    for number, hz in enumerate((LOW, MIDDLE, HIGH) * 20 + (LOW, MIDDLE) * 40):
        put(folder, f"{number}.wav", sound_bytes([(hz, 0.5 + number / 1000)], 8_000))
    return folder


@dataclass(slots=True)
class Shelf:
    """A folder of odd files, the library that was made of it, and what two runs over it said."""

    folder: Path
    library: Library
    first: IndexReport
    held: dict[Path, Content]
    failures: list[Failure]
    second: IndexReport
    called: bool
    """Whether anything asked for the address that lures name."""
    _answers: dict[str, list[Hit]] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        return self.folder / name

    def answers(self, word: str) -> list[Hit]:
        """Return every hit of a word."""
        if word not in self._answers:
            self._answers[word] = self.library.query(word, k=10_000)
        return self._answers[word]

    def hit(self, name: str, word: str) -> Hit:
        """Return a file's hit for a word."""
        found = [hit for hit in self.answers(word) if hit.path == self.path(name)]
        assert found, f"{name} isn't among the answers to {word!r}"
        return found[0]

    def names(self, paths: Iterable[Path]) -> set[str]:
        """Return paths as names of files of the folder."""
        return {str(path.relative_to(self.folder)) for path in paths}


@contextmanager
def shelf(folder: Path, cases: Iterable[Odd]) -> Iterator[Shelf]:
    """Write the files of all cases into a folder and index it twice; also listen at the address that lures name."""
    media = folder / "media"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"
        for case in cases:
            raw = case.make()
            for name, meant in ((b"@URL@", url), (b"@FILE@", str(media / "lure" / "target.mp4"))):
                raw = raw.replace(name, meant.encode()) if case.name.startswith("lure/") else raw
            put(media, case.name, raw)
        with mmsearch.open(folder / "library", model="hashing", settings=Settings(workers=2)) as library:
            library.index(ballast(folder / "ballast"))
            first = library.index(media)
            held, failures = contents(library, media), library.failures()
            second = library.index(media)
            server.settimeout(0)
            try:
                server.accept()[0].close()
                called = True
            except BlockingIOError:
                called = False
            yield Shelf(media, library, first, held, failures, second, called)
