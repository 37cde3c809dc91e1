"""Which contents of a library a filter holds for: the only module that decides this."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TypeAlias

import numpy as np
from sqlalchemy import select

from mmsearch.catalog.columns import Columns, Floats, Mask
from mmsearch.catalog.database import Database, Part
from mmsearch.catalog.path_patterns import folder_test, holds_for_path, names_paths
from mmsearch.catalog.rows import Ids
from mmsearch.catalog.schema import media, revision, tally
from mmsearch.filters.conditions import (
    After,
    And,
    Before,
    Camera,
    Condition,
    Expression,
    Fact,
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
from mmsearch.records import Origin
from mmsearch.types import Modality

_EARTH_KM = 6371.0088
_EPOCH = datetime(1970, 1, 1)
_KEPT = 32
"""How many filters' matches are kept while the library stays as it is."""
_ORIGINS: dict[Fact, tuple[str, ...]] = {
    Fact.TEXT: (),
    Fact.CAPTION: (Origin.CAPTION,),
    Fact.SPEECH: (Origin.SPEECH, Origin.SUBTITLE),
}
_State: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The contents that a filter holds for: `mask` (n,) of those in `columns`."""

    columns: Columns
    mask: Mask

    def among(self, content_ids: Iterable[int]) -> Mask:
        """Return of each of these contents whether the filter holds for it."""
        ids = np.fromiter(content_ids, np.int64)
        at, known = self.columns.rows_of(ids)
        held = np.zeros(len(ids), np.bool_)
        held[known] = self.mask[at]
        return held

    def embeddings(self) -> Ids | None:
        """Return the sorted ids of their embeddings, None where the filter holds for every content.

        It is called in the read that made these.
        """
        if self.mask.all():
            return None
        ids, rows = self.columns.embeddings
        return ids[self.mask[rows]]


class Matcher(Part):
    """Decides for one library, as one profile sees it, what filters hold for.

    What it has read of the library stays in memory until that changes; without checksums, which the first index run of
    this version records in an older catalog, it is read for every query.
    """

    def __init__(self, database: Database, profile_id: int) -> None:
        super().__init__(database, profile_id)
        self._guard = threading.Lock()
        self._state: _State | None = None
        self._columns: Columns | None = None
        self._matches: dict[Expression, Matches] = {}

    def matches(self, expression: Expression) -> Matches:
        """Return what an expression holds for, in the library as it is at the moment of the caller's read."""
        with self.one_read():
            state = self._read_state()
            with self._guard:
                columns = self._current(state)
                known = self._matches.get(expression)
            if known is None:
                known = Matches(columns, _evaluate(expression, columns))
                with self._guard:
                    if self._columns is columns:
                        while len(self._matches) >= _KEPT:
                            del self._matches[next(iter(self._matches))]
                        self._matches[expression] = known
            return known

    def newest(self, expression: Expression, count: int) -> list[tuple[int, float]]:
        """Return the contents that an expression holds for, at most `count`, the newest first, each with its date.

        That is in seconds from 1970 by the clock on the wall where it was made: see `conditions.After`.
        """
        with self.one_read():
            state = self._read_state()
            with self._guard:
                columns = self._current(state)
            rows = np.flatnonzero(_evaluate(expression, columns))
            dates = columns.dates[rows]
            first = np.lexsort((columns.ids[rows], -dates))[:count]
            return list(zip(columns.ids[rows[first]].tolist(), dates[first].tolist(), strict=True))

    def paths(self, expression: Expression, content_ids: Collection[int]) -> dict[int, bytes]:
        """Return for each content the path by which an expression holds for it: the first of several in byte order.

        Without contents where it asks for no path.
        """
        if not names_paths(expression) or not content_ids:
            return {}
        query = select(media.c.content_id, media.c.path).where(media.c.content_id.in_(list(content_ids)))
        order = {True: 0, None: 1, False: 2}
        best: dict[int, tuple[int, bytes]] = {}
        with self._read() as connection:
            for content_id, path in connection.execute(query):
                place = order[holds_for_path(expression, path)], path
                best[content_id] = min(best.get(content_id, place), place)
        return {content_id: path for content_id, (_, path) in best.items()}

    def _read_state(self) -> _State:
        """Return what changes whenever anything does that a filter may ask for."""
        mine = select(revision.c.token).where(revision.c.profile_id == self.profile_id)
        with self._read() as connection:
            latest = connection.execute(mine.order_by(revision.c.id.desc()).limit(1)).scalar()
            tallies = connection.execute(select(tally.c.name, tally.c.rows, tally.c.total).order_by(tally.c.name)).all()
        return (latest, *map(tuple, tallies)) if tallies else (object(),)

    def _current(self, state: _State) -> Columns:
        """Return the columns of this state; the caller holds the guard."""
        if self._columns is None or self._state != state:
            self._columns, self._state = Columns(self._read, self.profile_id), state
            self._matches.clear()
        return self._columns


def _evaluate(expression: Expression, columns: Columns) -> Mask:
    """Return for which contents an expression holds, (n,)."""
    match expression:
        case And(parts):
            everything = np.ones(len(columns.ids), np.bool_)
            return reduce(np.logical_and, (_evaluate(part, columns) for part in parts), everything)
        case Or(parts):
            nothing = np.zeros(len(columns.ids), np.bool_)
            return reduce(np.logical_or, (_evaluate(part, columns) for part in parts), nothing)
        case Not(part):
            return ~_evaluate(part, columns)
    return _holds(expression, columns)


def _holds(condition: Condition, columns: Columns) -> Mask:
    """Return for which contents a condition holds, (n,)."""
    match condition:
        case Kind(kinds):
            return np.isin(columns.kinds, [n for n, kind in enumerate(Modality) if kind in kinds])
        case After(moment):
            return ~_before(moment, columns)
        case Before(moment):
            return _before(moment, columns)
        case Near():
            return _is_near(condition, *columns.places)
        case Camera(words):
            return _taken_with(words, columns)
        case Longer(seconds):
            return columns.durations > seconds
        case Shorter(seconds):
            return columns.durations < seconds
        case Says(words):
            return columns.saying(words)
        case Has(fact):
            return _has(fact, columns)
    return _of_files(condition, columns)


def _of_files(condition: Under | Name | Larger | Smaller, columns: Columns) -> Mask:
    """Return for which contents a condition on a file holds: one of its files is enough."""
    if isinstance(condition, Larger | Smaller) and condition.measure is Measure.PIXELS:
        larger = isinstance(condition, Larger)
        return columns.pixels > condition.amount if larger else columns.pixels < condition.amount
    match condition:
        case Under():
            files, rows = columns.files
            held = files.in_folders(folder_test(condition))
        case Name():
            files, rows = columns.files
            held = files.named(condition)
        case Larger(amount):
            sizes, rows = columns.file_bytes
            held = sizes > amount
        case Smaller(amount):
            sizes, rows = columns.file_bytes
            held = sizes < amount
    mask = np.zeros(len(columns.ids), np.bool_)
    mask[rows[held]] = True
    return mask


def _before(moment: datetime, columns: Columns) -> Mask:
    """Return which contents were made before a moment; every content has a date."""
    offset = moment.utcoffset()
    if offset is None:
        return columns.dates < (moment - _EPOCH).total_seconds()
    (wall, ahead), (changed, _) = columns.taken, columns.changed
    made = wall - np.where(np.isnan(ahead), offset / timedelta(seconds=1), ahead)
    return np.where(np.isnan(wall), changed, made) < (moment - _EPOCH.replace(tzinfo=UTC)).total_seconds()


def _is_near(near: Near, latitude: Floats, longitude: Floats) -> Mask:
    """Return which places lie within a distance, on the surface of the earth by the haversine formula."""
    mask = np.zeros(len(latitude), np.bool_)
    highest = np.degrees(near.km / _EARTH_KM) * 1.000001  # no place farther north or south can be near
    rows = np.flatnonzero(np.abs(latitude - near.latitude) <= highest)  # NaN is none of these
    phi, wanted = np.radians(latitude[rows]), np.radians(near.latitude)
    turned = np.radians(longitude[rows] - near.longitude)
    square = np.sin((phi - wanted) / 2) ** 2 + np.cos(phi) * np.cos(wanted) * np.sin(turned / 2) ** 2
    mask[rows] = 2 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(square, 1))) <= near.km
    return mask


def _taken_with(words: str, columns: Columns) -> Mask:
    names, cameras = columns.cameras
    wanted = words.casefold().split()
    held = [all(word in name for word in wanted) for name in names]
    return np.asarray([*held, False], np.bool_)[cameras]  # -1 is the last


def _has(fact: Fact, columns: Columns) -> Mask:
    match fact:
        case Fact.DATE:
            return ~np.isnan(columns.taken[0])
        case Fact.PLACE:
            return ~np.isnan(columns.places[0]) & ~np.isnan(columns.places[1])
        case Fact.CAMERA:
            return columns.cameras[1] >= 0
    return columns.with_texts(_ORIGINS[fact])
