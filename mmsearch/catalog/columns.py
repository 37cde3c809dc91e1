"""What filters ask for, as columns in memory: each is read when a filter first asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from mmsearch.catalog.file_table import FileTable
from mmsearch.catalog.fulltext import raw_of
from mmsearch.catalog.rows import Ids
from mmsearch.types import Modality

Floats = NDArray[np.float64]
"""Numbers, NaN where nothing is known."""
Mask = NDArray[np.bool_]

_DAY_S = 86_400
_KINDS = tuple(Modality)
_OFFSET = re.compile(r"(?:\.\d+)?(?:Z|([+-])(\d{2}):(\d{2})(?::\d{2}(?:\.\d+)?)?)$")


def _number(column: str) -> str:
    """Return SQL for a number; infinity where it is null or, in a damaged row, of another type."""
    return f"iif(typeof({column}) IN ('integer', 'real'), {column}, 9e999)"


class Columns:
    """The contents of a library that some path names, sorted by id, (n,), and what is known of them, (n,) each.

    What is read comes from the connection that `read` gives, so that the caller decides of which moment it is.
    """

    def __init__(self, read: Callable[[], AbstractContextManager[Connection]], profile_id: int) -> None:
        self._read = read
        self._profile_id = profile_id
        self.ids: Ids = self._numbers("SELECT DISTINCT content_id FROM media ORDER BY content_id", 1)[:, 0]

    def _numbers(self, query: str, width: int, *values: object) -> NDArray[np.int64]:
        """Return what a query of integers gives: (rows, width) int64."""
        with self._read() as connection:
            rows = raw_of(connection).execute(query, values)
            return np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, width)

    def _facts(self, *columns: str) -> list[Floats]:
        """Return columns of the table of facts."""
        query = f"SELECT content_id, {', '.join(map(_number, columns))} FROM file_facts"
        with self._read() as connection:
            rows = np.fromiter(chain.from_iterable(raw_of(connection).execute(query)), np.float64)
        table = rows.reshape(-1, 1 + len(columns))
        at, known = self.rows_of(table[:, 0].astype(np.int64))
        found = np.full((len(columns), len(self.ids)), np.nan)
        found[:, at] = np.where(np.isfinite(table[known, 1:]), table[known, 1:], np.nan).T
        return list(found)

    def rows_of(self, ids: Ids) -> tuple[NDArray[np.intp], Mask]:
        """Return the row of each of these contents that is among them, and of which ids (m,) that is so."""
        at = np.minimum(np.searchsorted(self.ids, ids), max(0, len(self.ids) - 1))
        known = self.ids[at] == ids if len(self.ids) else np.zeros(len(ids), np.bool_)
        return at[known], known

    def mask_of(self, ids: Ids) -> Mask:
        """Return which contents are among these ids."""
        mask = np.zeros(len(self.ids), np.bool_)
        mask[self.rows_of(ids)[0]] = True
        return mask

    @cached_property
    def embeddings(self) -> tuple[Ids, NDArray[np.intp]]:
        """The embeddings of the profile, sorted by id, (m,), and the row of the content of each."""
        query = (
            "SELECT e.id, s.content_id FROM segment AS s JOIN embedding AS e ON e.segment_id = s.id "
            "WHERE s.profile_id = ?"
        )
        pairs = self._numbers(query, 2, self._profile_id)
        at, known = self.rows_of(pairs[:, 1])
        order = np.argsort(pairs[known, 0], kind="stable")
        return pairs[known, 0][order], at[order]

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """The kind of each content, as its place in `Modality`; -1 in a damaged row."""
        cases = " ".join(f"WHEN '{kind}' THEN {n}" for n, kind in enumerate(_KINDS))
        pairs = self._numbers(f"SELECT id, CASE modality {cases} ELSE -1 END FROM content", 2)
        at, known = self.rows_of(pairs[:, 0])
        kinds = np.full(len(self.ids), -1, np.int64)
        kinds[at] = pairs[known, 1]
        return kinds

    @cached_property
    def taken(self) -> tuple[Floats, Floats]:
        """When contents were made, by what their files say.

        Seconds from 1970 by the clock on the wall there, and by how many that was ahead of UTC.
        """
        with self._read() as connection:
            query = (
                "SELECT content_id, ifnull(CAST(strftime('%s', substr(taken_at, 1, 19)) AS INTEGER), 9e999), "
                "substr(taken_at, 20) FROM file_facts WHERE typeof(taken_at) = 'text'"
            )
            rows = raw_of(connection).execute(query).fetchall()
        offsets = {behind: _offset_s(behind) for behind in {row[2] for row in rows}}
        at, known = self.rows_of(np.asarray([row[0] for row in rows], np.int64))
        wall, ahead = np.full((2, len(self.ids)), np.nan)
        seconds = np.asarray([row[1] for row in rows], np.float64)[known]
        wall[at] = np.where(np.isfinite(seconds), seconds, np.nan)
        ahead[at] = np.asarray([offsets[row[2]] for row in rows], np.float64)[known]
        return wall, ahead

    @cached_property
    def changed(self) -> tuple[Floats, Floats]:
        """When the file of each content was last changed, the earliest of several.

        Seconds from 1970, UTC, and the same by the clock on the wall of this machine.
        """
        pairs = self._numbers("SELECT content_id, min(mtime_ns) FROM media GROUP BY content_id", 2)
        at, known = self.rows_of(pairs[:, 0])
        seconds = np.zeros(len(self.ids))
        seconds[at] = pairs[known, 1] / 1e9
        return seconds, seconds + local_offsets_s(seconds)

    @cached_property
    def dates(self) -> Floats:
        """When each content was made: by what its file says, else when that was last changed, by the wall's clock."""
        wall = self.taken[0]
        return np.where(np.isnan(wall), self.changed[1], wall)

    @cached_property
    def places(self) -> tuple[Floats, Floats]:
        """Latitude and longitude in degrees."""
        latitude, longitude = self._facts("latitude", "longitude")
        return latitude, longitude

    @cached_property
    def pixels(self) -> Floats:
        """The pixels of pictures and clips."""
        width, height = self._facts("width", "height")
        return width * height

    @cached_property
    def durations(self) -> Floats:
        """How long sounds and clips last, in seconds."""
        (durations,) = self._facts("duration_s")
        return durations

    @cached_property
    def cameras(self) -> tuple[list[str], NDArray[np.int64]]:
        """The names of cameras, folded, and for each content which one took it; -1 where that isn't known."""
        query = "SELECT content_id, camera FROM file_facts WHERE typeof(camera) = 'text'"
        with self._read() as connection:
            rows = raw_of(connection).execute(query).fetchall()
        codes: dict[str, int] = {}
        numbers = np.asarray([codes.setdefault(name, len(codes)) for _, name in rows], np.int64)
        at, known = self.rows_of(np.asarray([number for number, _ in rows], np.int64))
        cameras = np.full(len(self.ids), -1, np.int64)
        cameras[at] = numbers[known]
        return [" ".join(name.casefold().split()) for name in codes], cameras

    @cached_property
    def files(self) -> tuple[FileTable, NDArray[np.intp]]:
        """The paths of the library, and for each the row of its content."""
        with self._read() as connection:
            rows = (
                raw_of(connection).execute("SELECT content_id, path FROM media WHERE typeof(path) = 'blob'").fetchall()
            )
        at, _ = self.rows_of(np.asarray([number for number, _ in rows], np.int64))
        return FileTable([path for _, path in rows]), at

    @cached_property
    def file_bytes(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """The sizes of the files, and for each the row of its content."""
        pairs = self._numbers("SELECT content_id, size_bytes FROM media", 2)
        return pairs[:, 1], self.rows_of(pairs[:, 0])[0]

    def with_texts(self, origins: tuple[str, ...]) -> Mask:
        """Return which contents have a text of one of these origins, or of any if none is given."""
        some = f"AND t.origin IN ({', '.join('?' * len(origins))})" if origins else ""
        query = (
            "SELECT DISTINCT s.content_id FROM text AS t JOIN segment AS s ON s.id = t.segment_id "
            f"WHERE s.profile_id = ? {some}"
        )
        return self.mask_of(self._numbers(query, 1, self._profile_id, *origins)[:, 0])

    def saying(self, words: str) -> Mask:
        """Return which contents have a text with these words one behind the other."""
        query = (
            "SELECT DISTINCT s.content_id FROM text_words JOIN text AS t ON t.id = text_words.rowid "
            "JOIN segment AS s ON s.id = t.segment_id WHERE text_words MATCH ? AND s.profile_id = ?"
        )
        phrase = '"' + words.replace('"', '""') + '"'
        return self.mask_of(self._numbers(query, 1, phrase, self._profile_id)[:, 0])


def _offset_s(behind: str) -> float:
    """Return the offset from UTC in seconds that stands behind a time in ISO 8601; NaN where there is none."""
    found = _OFFSET.match(behind)
    if not found:
        return np.nan
    seconds = 3600.0 * int(found[2] or 0) + 60.0 * int(found[3] or 0)
    return -seconds if found[1] == "-" else seconds


def local_offsets_s(seconds: Floats) -> Floats:
    """Return by how many seconds the clock of this machine was ahead of UTC at each of these times."""
    days, at = np.unique(np.floor_divide(seconds, _DAY_S), return_inverse=True)
    begin = np.asarray([_offset_at(day * _DAY_S) for day in days.tolist()])
    end = np.asarray([_offset_at((day + 1) * _DAY_S) for day in days.tolist()])
    offsets = begin[at]
    for row in np.flatnonzero((begin != end)[at]).tolist():  # the clocks are changed on that day
        offsets[row] = _offset_at(float(seconds[row]))
    return offsets


def _offset_at(seconds: float) -> float:
    try:
        return float(time.localtime(seconds).tm_gmtoff)
    except (OverflowError, OSError, ValueError):  # further away than calendars go
        return 0.0
