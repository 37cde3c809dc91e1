"""A catalog of random contents, random filters over it, and a plain reading of what they hold for."""

from __future__ import annotations

import fnmatch
import math
import os
import random
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np

from mmsearch import Filter, Modality
from mmsearch.catalog import NewContent, NewMedia
from mmsearch.filters import Fact
from mmsearch.filters.conditions import (
    After,
    And,
    Before,
    Camera,
    Expression,
    Has,
    Kind,
    Larger,
    Longer,
    Measure,
    Name,
    Near,
    Not,
    Or,
    Says,
    Shorter,
    Smaller,
    Under,
)
from mmsearch.records import FileFacts, Origin, Segment, Text
from mmsearch.types import View
from support.shelf import Shelf

ITEMS = 300
EXPRESSIONS = 1_000
FOLDERS = ("photos", "Photos/2019", "photos/2019/Praha", "photos/2019/Holidays", "Música", "Mu\u0301sica/x", "a[1]")
NAMES = (
    "IMG_1.jpg",
    "img_22.JPG",
    "IMG_2.heic",
    "Straße.png",
    "a.b.c",
    "nota\u0301.txt",
    "IMG[1].jpg",
    "ž",
    "\udcff.jpg",
)
CAMERAS = ("Google Pixel 6", "Apple iPhone 12", "Canon EOS 5D", "PIXEL")
WORDS = ("an old lighthouse", "A boat, at sea", "Žluťoučký kůň", "")
ZONES = (None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8)))


@dataclass(frozen=True)
class Drawn:
    """A content as it is put into the catalog: what a filter may ask of it."""

    kind: Modality
    files: tuple[NewMedia, ...]
    facts: FileFacts | None
    text: Text | None


def draw(dice: random.Random, number: int) -> Drawn:
    def maybe(value: object) -> object:
        return value if dice.random() < 0.7 else None

    taken = datetime(2015 + dice.randrange(8), 1 + dice.randrange(12), 1 + dice.randrange(28), dice.randrange(24), 30)
    place = maybe((dice.choice((50.08, 50.2, -33.9, 0.0, 89.9)), dice.choice((14.42, 179.99, -179.99, 0.0))))
    facts = FileFacts(
        taken_at=maybe(taken.replace(tzinfo=dice.choice(ZONES), microsecond=dice.choice((0, 7)))),  # type: ignore[arg-type]
        latitude=place[0] if place else None,  # type: ignore[index]
        longitude=place[1] if place else None,  # type: ignore[index]
        camera=maybe(dice.choice(CAMERAS)),  # type: ignore[arg-type]
        width=dice.choice((100, 4000, None)),
        height=1000,
        duration_s=maybe(dice.choice((1.5, 60.0, 600.0))),  # type: ignore[arg-type]
    )
    paths = {f"/{dice.choice(FOLDERS)}/{number if dice.random() < 0.1 else ''}{dice.choice(NAMES)}" for _ in range(2)}
    files = tuple(
        NewMedia(
            os.fsencode(f"/{n}-{number}{path}"),
            dice.choice((10, 5_000, 10**7)),
            10**9 * dice.randrange(10**9, 17 * 10**8),
            "",
            "1",
        )
        for n, path in enumerate(sorted(paths)[: dice.choice((1, 1, 2))])
    )
    words = dice.choice(WORDS)
    text = Text(dice.choice(list(Origin)), words) if words else None
    return Drawn(dice.choice(list(Modality)), files, facts if dice.random() < 0.9 else None, text)


class Collection:
    """A catalog of random contents, and the same as plain data by the ids of the contents."""

    def __init__(self, shelf: Shelf, seed: int) -> None:
        self.shelf = shelf
        self.dice = random.Random(seed)
        drawn = [draw(self.dice, n) for n in range(ITEMS)]
        rng = np.random.default_rng(seed)
        contents = []
        for n, item in enumerate(drawn):
            segments = []
            for view in (View.VISUAL, View.AUDIO)[: self.dice.choice((1, 2))] * self.dice.choice((1, 2)):
                vector = rng.standard_normal(shelf.space.dim)
                vector /= np.linalg.norm(vector)
                segments.append(
                    Segment(
                        {(shelf.space_id, view): vector.astype(np.float32)}, texts=(item.text,) if item.text else ()
                    )
                )
            contents.append(NewContent(b"%d" % n, item.kind, segments, item.files, facts=item.facts))
        shelf.catalog.commit(contents, "key")
        self.items = {shelf.catalog.content_with_hash(b"%d" % n) or 0: item for n, item in enumerate(drawn)}

    def owners(self) -> dict[int, int]:
        """Return the content of each embedding."""
        with closing(sqlite3.connect(self.shelf.catalog._database.file)) as connection:
            query = "SELECT e.id, s.content_id FROM embedding e JOIN segment s ON s.id = e.segment_id"
            return dict(connection.execute(query))

    def change(self) -> None:
        """Delete some contents, move some files, and give some other facts, as index runs do."""
        catalog = self.shelf.catalog
        ids = sorted(self.items)
        gone, moved, learnt = (self.dice.sample(ids, ITEMS // 10) for _ in range(3))
        catalog.remove(file.path for i in gone for file in self.items[i].files)
        catalog.drop_orphans()
        self.items = {i: item for i, item in self.items.items() if i not in set(gone)}
        for i in set(moved) & self.items.keys():
            item = self.items[i]
            path = item.files[0].path
            file = replace(item.files[0], path=os.fsencode(f"/moved/2020/{i}.jpg"))
            catalog.remove([path])
            catalog.point({file: i})
            self.items[i] = replace(item, files=(file, *item.files[1:]))
        facts = {
            i: FileFacts(camera="Nikon D750", taken_at=datetime(2016, 5, 5)) for i in set(learnt) & self.items.keys()
        }
        catalog.put_facts(facts)
        self.items |= {i: replace(self.items[i], facts=one) for i, one in facts.items()}


def random_filter(dice: random.Random, depth: int = 3) -> Filter:
    if depth and dice.random() < 0.6:
        one, other = random_filter(dice, depth - 1), random_filter(dice, depth - 1)
        return dice.choice((one & other, one | other, ~one))
    day = f"{2014 + dice.randrange(10)}-{1 + dice.randrange(12):02}-{1 + dice.randrange(28):02}"
    moment = dice.choice((day[:4], day[:7], day, f"{day}T12:30", f"{day}T12:30:00+03:00", f"{day}T07:30:15Z"))
    size = dice.choice(("10B", "5kB", "20MB", "1000x1000", "100x1000"))
    conditions: list[Callable[[], Filter]] = [
        lambda: Filter(kind=dice.sample(list(Modality), dice.choice((1, 2, 4)))),
        lambda: Filter(
            under=dice.choice(("photos", "PHOTOS/2019", "2019", "MÚSICA", "h*days", "20?9", "a[1]", "/0-7", "nowhere"))
        ),
        lambda: Filter(under=f"/{dice.choice((0, 1))}-{dice.randrange(ITEMS)}/{dice.choice(('photos', 'Photos', ''))}"),
        lambda: Filter(
            name=dice.choice(
                ("*.jpg", "IMG*", "img_?.jpg", "*_2*", "*", "*s*e*", "STRASSE.PNG", "img[1].jpg", "*[!g]", "Ž")
            )
        ),
        lambda: Filter(after=moment),
        lambda: Filter(before=moment),
        lambda: Filter(
            near=dice.choice(((50.08, 14.42), (50.1, 14.4), (0.0, 180.0), (90.0, 3.0))),
            within_km=dice.choice((1, 50, 3000)),
        ),
        lambda: Filter(camera=dice.choice(("pixel", "APPLE 12", "12 apple", "eos", "leica"))),
        lambda: Filter(longer_s=dice.choice((0, 1.5, 59.9))),
        lambda: Filter(shorter_s=dice.choice((60, 61))),
        lambda: Filter(larger=size),
        lambda: Filter(smaller=size),
        lambda: Filter(has=dice.choice(list(Fact))),
        lambda: Filter(
            says=dice.choice(("old lighthouse", "lighthouse old", "boat at", "zlutoucky", "KŮŇ", "!", 'a "boat'))
        ),
    ]
    return dice.choice(conditions)()


def plainly(expression: Expression, item: Drawn) -> bool:  # noqa: C901  one case for each condition
    """Return whether an expression holds for one content, read word by word."""
    facts = item.facts or FileFacts()
    match expression:
        case And(parts):
            return all(plainly(part, item) for part in parts)
        case Or(parts):
            return any(plainly(part, item) for part in parts)
        case Not(part):
            return not plainly(part, item)
        case Kind(kinds):
            return item.kind in kinds
        case Under(folder):
            return any(lies_under(folder, os.fsdecode(file.path.rpartition(b"/")[0])) for file in item.files)
        case Name(glob):
            names = [fold(os.fsdecode(file.path.rpartition(b"/")[2])) for file in item.files]
            return any(fnmatch.fnmatchcase(name, fold(glob)) or name == fold(glob) for name in names)
        case After(moment):
            return made(item, moment) >= moment.replace(tzinfo=None)
        case Before(moment):
            return made(item, moment) < moment.replace(tzinfo=None)
        case Near(latitude, longitude, km):
            if facts.latitude is None or facts.longitude is None:
                return False
            return distance_km(latitude, longitude, facts.latitude, facts.longitude) <= km
        case Camera(words):
            return facts.camera is not None and all(word in facts.camera.lower() for word in words.lower().split())
        case Longer(seconds):
            return facts.duration_s is not None and facts.duration_s > seconds
        case Shorter(seconds):
            return facts.duration_s is not None and facts.duration_s < seconds
        case Larger(amount, Measure.BYTES):
            return any(file.size_bytes > amount for file in item.files)
        case Smaller(amount, Measure.BYTES):
            return any(file.size_bytes < amount for file in item.files)
        case Larger(amount, _):
            return facts.width is not None and facts.height is not None and facts.width * facts.height > amount
        case Smaller(amount, _):
            return facts.width is not None and facts.height is not None and facts.width * facts.height < amount
        case Says(words):
            said = split(item.text.words) if item.text else []
            wanted = split(words)
            return any(said[n : n + len(wanted)] == wanted for n in range(len(said))) and bool(wanted)
        case Has(fact):
            return has(fact, item, facts)


def has(fact: Fact, item: Drawn, facts: FileFacts) -> bool:
    origin = item.text.origin if item.text else None
    return {
        Fact.DATE: facts.taken_at is not None,
        Fact.PLACE: facts.latitude is not None,
        Fact.CAMERA: facts.camera is not None,
        Fact.TEXT: origin is not None,
        Fact.CAPTION: origin is Origin.CAPTION,
        Fact.SPEECH: origin in (Origin.SPEECH, Origin.SUBTITLE),
    }[fact]


def fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def split(words: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", words.lower())
    return "".join(each if each.isalnum() else " " for each in plain if not unicodedata.combining(each)).split()


def lies_under(folder: str, path: str) -> bool:
    if folder.startswith("/"):
        return f"{path}/".startswith(f"{folder.rstrip('/')}/")
    wanted, parts = fold(folder).split("/"), fold(path).split("/")
    wanted = [each.replace("[", "[[]") for each in wanted]
    return any(
        all(fnmatch.fnmatchcase(part, each) for part, each in zip(parts[n:], wanted, strict=False))
        for n in range(len(parts) - len(wanted) + 1)
    )


def made(item: Drawn, moment: datetime) -> datetime:
    """Return when an item was made, by the clock that a moment is compared with."""
    taken = item.facts.taken_at if item.facts else None
    if taken is None:
        changed = min(file.mtime_ns for file in item.files) / 1e9
        return datetime.fromtimestamp(changed, moment.tzinfo).replace(tzinfo=None)
    if moment.tzinfo is not None and taken.tzinfo is not None:
        taken = taken.astimezone(moment.tzinfo)
    return taken.replace(tzinfo=None, microsecond=0)


def distance_km(latitude: float, longitude: float, other: float, another: float) -> float:
    """Return the distance of two points by the angle between their vectors."""
    one, two = (
        np.asarray([math.cos(a) * math.cos(o), math.cos(a) * math.sin(o), math.sin(a)])
        for a, o in ((math.radians(latitude), math.radians(longitude)), (math.radians(other), math.radians(another)))
    )
    return 6371.0088 * math.atan2(float(np.linalg.norm(np.cross(one, two))), float(one @ two))
