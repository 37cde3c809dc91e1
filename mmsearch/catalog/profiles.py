"""The profiles of a library: which one answers, which one is to answer next, and whose vectors are still there."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from mmsearch.catalog.checksums import checked
from mmsearch.catalog.database import Part
from mmsearch.catalog.rows import MediaRow, ProfileRow, check_types
from mmsearch.catalog.schema import content, embedded, media, profile, revision, segment, setting, space
from mmsearch.catalog.segments import delete_segments
from mmsearch.catalog.writing import PART, embedded_row, raise_revision, replacing, take_out
from mmsearch.errors import CatalogError

_ANSWERING, _NEXT, _LIBRARY = "profile", "change", "library"
"""The settings that hold the id of the profile that answers, of the one that the library is changing to, and of it."""


class ProfileKeeper(Part):
    """Keeps the profiles of a library side by side, and changes from one to another."""

    @property
    def current(self) -> int | None:
        """The id of the profile that answers queries, None in a new library."""
        with self._read() as connection:
            return _setting(connection, _ANSWERING)

    @property
    def change(self) -> int | None:
        """The id of the profile that the library is changing to, None if it is to keep its own."""
        with self._read() as connection:
            return _setting(connection, _NEXT)

    @property
    def profile(self) -> ProfileRow | None:
        """The profile as which the catalog is seen, None in a new library."""
        return next((row for row in self.profiles() if row.id == self.profile_id), None)

    def profiles(self) -> list[ProfileRow]:
        """Return every profile of which there may be vectors, by id."""
        with self._read() as connection:
            rows = connection.execute(select(profile).order_by(profile.c.id)).all()
            check_types(rows, int, str, str, str)
            return [ProfileRow(row.id, row.name, self._pins(row.pins), row.precision) for row in rows]

    def _pins(self, stored: str) -> tuple[str, ...]:
        try:
            return _pins(stored)
        except (ValueError, TypeError, RecursionError) as error:
            raise CatalogError(
                f"{self._database.file}: what its model is made from is damaged; run 'mmsearch doctor --repair'"
            ) from error

    def set_profile(self, name: str, pins: Sequence[str]) -> int:
        """Make a new library's profile the one that answers, unless one does already; return the id of that."""
        with self._write(at_once=True) as connection:
            known = _setting(connection, _ANSWERING)
            if known is None:
                # A library that lost this setting goes on with the profile it has.
                few = connection.execute(select(profile.c.id).limit(2)).scalars().all()
                if len(few) > 1:
                    raise CatalogError(f"{self._database.file} lacks a setting; run 'mmsearch doctor --repair'")
                known = few[0] if few else _add(connection, name, pins)
                _set(connection, _ANSWERING, known)
            return known

    def library_id(self, *, make: bool = False) -> str:
        """Return the library's random id; one of an older version has none, "", until it is to `make` it."""
        query = select(setting.c.value).where(setting.c.key == _LIBRARY)
        with self._read() as connection:
            known = connection.execute(query).scalar()
        if known is None and make:
            with self._write(at_once=True) as connection:
                _add_id(connection)
                known = connection.execute(query).scalar()
        return "" if known is None else str(known)

    @property
    def precision(self) -> str:
        """What was chosen for the numbers in the profile's towers; empty where nothing was."""
        row = self.profile
        return row.precision if row else ""

    def set_precision(self, precision: str) -> None:
        """Keep what was chosen for the numbers in the profile's towers."""
        with self._write() as connection:
            mine = profile.c.id == self.profile_id
            known = connection.execute(select(profile.c.name, profile.c.pins).where(mine)).first()
            if known is not None:
                row = checked(profile, {"name": known.name, "pins": known.pins, "precision": precision})
                connection.execute(update(profile).where(mine).values(**row))

    # From one to another

    def begin_change(self, name: str, pins: Sequence[str]) -> int:
        """Note that the library changes to a profile; return its id, of old if there are vectors of it."""
        same = (profile.c.name == name, profile.c.pins == json.dumps(list(pins)))
        with self._write(at_once=True) as connection:
            known = connection.execute(select(profile.c.id).where(*same)).scalar() or _add(connection, name, pins)
            _set(connection, _NEXT, known)
            return known

    def end_change(self) -> None:
        """Note that the library keeps its profile; what another has embedded by now stays."""
        with self._write() as connection:
            connection.execute(delete(setting).where(setting.c.key == _NEXT))

    def lacking(self, embedded_by: str) -> Iterator[MediaRow]:
        """Yield the media that the profile hasn't embedded to their end under this key, by id, page by page."""
        last = 0
        query = media_rows(self.profile_id).where(_lacks(embedded_by), media.c.id > bindparam("last"))
        while True:
            with self._read() as connection:
                page = connection.execute(query.order_by(media.c.id).limit(PART), {"last": last})
                rows = [as_media_row(row) for row in page]
            yield from rows
            if len(rows) < PART:
                return
            last = rows[-1].id

    def count_lacking(self, embedded_by: str) -> int:
        """Return how many media the profile hasn't embedded to their end under this key."""
        with self._read() as connection:
            return connection.execute(count_media(self.profile_id).where(_lacks(embedded_by))).scalar_one()

    def switch(self, embedded_by: str, *, drop: bool = False) -> int | None:
        """Make this profile the one that answers, in one transaction, if it has embedded every media to its end.

        Those that it hasn't are taken out if `drop`, and otherwise prevent it. Returns how many were taken out, None
        where the profile stays that was.
        """
        lacking = media_rows(self.profile_id).where(_lacks(embedded_by))
        with self._write(at_once=True) as connection:
            if not drop and connection.execute(lacking.limit(1)).first() is not None:
                return None
            taken = take_out(connection, [row.path for row in connection.execute(lacking)])
            _set(connection, _ANSWERING, self.profile_id)
            connection.execute(delete(setting).where(setting.c.key == _NEXT))
            return taken

    def drop_others(self) -> int:
        """Delete every other profile with its segments and vectors, but for one that is changed to; return how many.

        In steps of bounded size: what is left after a kill is never taken for complete, and goes with the next call.
        """
        self._mark_never_embedded()
        others = [row.id for row in self.profiles() if row.id not in (self.profile_id, self.change)]
        for other in others:
            self._drop(other)
        return len(others)

    def cancel_change(self, profile_id: int) -> None:
        """Delete a profile that the library was to change to, with all it has embedded: as if it had never begun."""
        self.end_change()
        if profile_id != self.current:
            self._drop(profile_id)

    def _mark_never_embedded(self) -> None:
        """Give contents that only others have embedded a row of this profile, by which they are out of date."""
        own = (embedded.c.content_id == content.c.id, embedded.c.profile_id == self.profile_id)
        never = ~select(embedded.c.id).where(*own).correlate(content).exists()
        page = select(content.c.id, content.c.hash, content.c.modality).where(never).limit(PART)
        while True:
            with self._write() as connection:
                rows = [
                    embedded_row(row.id, row.hash, row.modality, self.profile_id, "", None, 0)
                    for row in connection.execute(page)
                ]
                if rows:
                    connection.execute(insert(embedded), rows)
            if len(rows) < PART:
                return

    def _drop(self, other: int) -> None:
        """First what says that a content is embedded, then what was made of it, at last the profile."""
        some = select(embedded.c.id).where(embedded.c.profile_id == other).limit(PART)
        while True:
            with self._write() as connection:
                found = connection.execute(delete(embedded).where(embedded.c.id.in_(some))).rowcount
                raise_revision(connection, other)
            if found < PART:
                break
        last = 0
        while True:
            page = select(segment.c.id).where(segment.c.profile_id == other, segment.c.id > last)
            with self._write() as connection:
                ids = connection.execute(page.order_by(segment.c.id).limit(PART)).scalars().all()
                delete_segments(connection, segment.c.id.in_(ids))
            if len(ids) < PART:
                break
            last = ids[-1]
        with self._write() as connection:
            for table in (space, revision):
                connection.execute(delete(table).where(table.c.profile_id == other))
            connection.execute(delete(profile).where(profile.c.id == other))


def media_rows(profile_id: int) -> Select[Any]:
    """Return the query for the media as one profile sees them, in the order of `MediaRow`."""
    columns = (
        media.c.id,
        media.c.path,
        media.c.content_id,
        media.c.size_bytes,
        media.c.mtime_ns,
        media.c.sidecars,
        media.c.device,
        embedded.c.key,
        embedded.c.resume_s,
    )
    return select(*columns).select_from(_media_of(profile_id))


def as_media_row(row: Sequence[Any]) -> MediaRow:
    """Return a row of that query. Raises `TypeError` where mmsearch didn't write it."""
    media = MediaRow(*row)
    if type(media.path) is not bytes or type(media.device) is not str or type(media.sidecars) is not str:
        raise TypeError("a path isn't of bytes, or its state not of text")
    return media


def count_media(profile_id: int) -> Select[int]:
    """Return the query for the number of media, with what a profile has embedded of them to compare with."""
    return select(func.count()).select_from(_media_of(profile_id))


def _media_of(profile_id: int) -> FromClause:
    mine = and_(embedded.c.content_id == media.c.content_id, embedded.c.profile_id == profile_id)
    return media.outerjoin(embedded, mine)


def _lacks(embedded_by: str) -> Any:  # noqa: ANN401  an SQL condition has no common type
    whole = and_(embedded.c.id.is_not(None), embedded.c.key == embedded_by, embedded.c.resume_s.is_(None))
    return not_(whole)


def begin(connection: Connection, first: tuple[str, Sequence[str]] | None) -> None:
    """Write what a new catalog begins with: the library's id and, of the profile that answers, name and pins."""
    _add_id(connection)
    if first is not None:
        _add_first(connection, *first)


def _add_id(connection: Connection) -> None:
    statement = upsert(setting).values(checked(setting, {"key": _LIBRARY, "value": secrets.token_hex(16)}))
    connection.execute(statement.on_conflict_do_nothing())


def _add_first(connection: Connection, name: str, pins: Sequence[str]) -> int:
    known = _add(connection, name, pins)
    _set(connection, _ANSWERING, known)
    return known


def _pins(stored: str) -> tuple[str, ...]:
    pins = json.loads(stored)
    if not isinstance(pins, list) or not all(isinstance(pin, str) for pin in pins):
        raise ValueError("a profile's pins are no list of names")
    return tuple(pins)


def _setting(connection: Connection, key: str) -> int | None:
    value = connection.execute(select(setting.c.value).where(setting.c.key == key)).scalar()
    return None if value is None else int(value)


def _set(connection: Connection, key: str, profile_id: int) -> None:
    row = checked(setting, {"key": key, "value": str(profile_id)})
    connection.execute(replacing(setting, ["key"], row), row)


def _add(connection: Connection, name: str, pins: Sequence[str]) -> int:
    row = checked(profile, {"name": name, "pins": json.dumps(list(pins)), "precision": ""})
    return int(connection.execute(insert(profile).values(row).returning(profile.c.id)).scalar_one())
