"""The models of a library: the current one, the one that it changes to, and earlier ones whose vectors are kept.

A model is called a profile in the tables.
"""

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

_CURRENT, _NEXT, _LIBRARY = "profile", "change", "library"
"""Keys of settings: the id of the current model, that of the model the library changes to, and the library's own id."""


class ProfileKeeper(Part):
    """Keeps several models of a library, and changes from one to another."""

    @property
    def current(self) -> int | None:
        """The id of the model that answers queries, None in a new library."""
        with self._read() as connection:
            return _setting(connection, _CURRENT)

    @property
    def change(self) -> int | None:
        """The id of the model that the library is changing to, None if it isn't changing."""
        with self._read() as connection:
            return _setting(connection, _NEXT)

    @property
    def profile(self) -> ProfileRow | None:
        """The model of this view of the catalog, None in a new library."""
        return next((row for row in self.profiles() if row.id == self.profile_id), None)

    def profiles(self) -> list[ProfileRow]:
        """Return every model that may have vectors, by id."""
        with self._read() as connection:
            rows = connection.execute(select(profile).order_by(profile.c.id)).all()
            check_types(rows, int, str, str, str)
            return [ProfileRow(row.id, row.name, self._pins(row.pins), row.precision) for row in rows]

    def _pins(self, stored: str) -> tuple[str, ...]:
        try:
            return _pins(stored)
        except (ValueError, TypeError, RecursionError) as error:
            raise CatalogError(
                f"{self._database.file}: the definition of its model is damaged; run 'mmsearch doctor --repair'"
            ) from error

    def set_profile(self, name: str, pins: Sequence[str]) -> int:
        """Set the current model of a new library, unless it has one already; return the current model's id."""
        with self._write(at_once=True) as connection:
            known = _setting(connection, _CURRENT)
            if known is None:
                # A library that lost this setting continues with its only model.
                existing = connection.execute(select(profile.c.id).limit(2)).scalars().all()
                if len(existing) > 1:
                    raise CatalogError(f"{self._database.file} lacks a setting; run 'mmsearch doctor --repair'")
                known = existing[0] if existing else _add(connection, name, pins)
                _set(connection, _CURRENT, known)
            return known

    def library_id(self, *, make: bool = False) -> str:
        """Return the library's random id. A library of an older version has none ("") until it is made with `make`."""
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
        """The precision chosen for the model's towers, with the result of its trial; "" if none was chosen."""
        row = self.profile
        return row.precision if row else ""

    def set_precision(self, precision: str) -> None:
        """Record the precision chosen for the model's towers."""
        with self._write() as connection:
            own = profile.c.id == self.profile_id
            known = connection.execute(select(profile.c.name, profile.c.pins).where(own)).first()
            if known is not None:
                row = checked(profile, {"name": known.name, "pins": known.pins, "precision": precision})
                connection.execute(update(profile).where(own).values(**row))

    # Changing the model

    def begin_change(self, name: str, pins: Sequence[str]) -> int:
        """Record that the library changes to a model; return its id, which is the old one if it is known already."""
        same = (profile.c.name == name, profile.c.pins == json.dumps(list(pins)))
        with self._write(at_once=True) as connection:
            known = connection.execute(select(profile.c.id).where(*same)).scalar() or _add(connection, name, pins)
            _set(connection, _NEXT, known)
            return known

    def end_change(self) -> None:
        """Record that the library keeps its model. Vectors of the other model are kept."""
        with self._write() as connection:
            connection.execute(delete(setting).where(setting.c.key == _NEXT))

    def lacking(self, embedded_by: str) -> Iterator[MediaRow]:
        """Yield the media that the model hasn't embedded completely under this key, by id, page by page."""
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
        """Return the number of media that the model hasn't embedded completely under this key."""
        with self._read() as connection:
            return connection.execute(count_media(self.profile_id).where(_lacks(embedded_by))).scalar_one()

    def switch(self, embedded_by: str, *, drop: bool = False) -> int | None:
        """Make this model the current one, in one transaction, if it has embedded all media completely.

        Media that it hasn't embedded are removed with `drop`; otherwise they prevent the switch. Returns the number of
        removed media, None if the switch was prevented.
        """
        lacking = media_rows(self.profile_id).where(_lacks(embedded_by))
        with self._write(at_once=True) as connection:
            if not drop and connection.execute(lacking.limit(1)).first() is not None:
                return None
            removed = take_out(connection, [row.path for row in connection.execute(lacking)])
            _set(connection, _CURRENT, self.profile_id)
            connection.execute(delete(setting).where(setting.c.key == _NEXT))
            return removed

    def drop_others(self) -> int:
        """Delete all other models with their segments and vectors, except one that the library is changing to.

        Returns their number. Rows are deleted in steps of bounded size. If this is interrupted, the remaining rows are
        never taken for a complete model, and the next call deletes them.
        """
        self._mark_never_embedded()
        others = [row.id for row in self.profiles() if row.id not in (self.profile_id, self.change)]
        for other in others:
            self._drop(other)
        return len(others)

    def cancel_change(self, profile_id: int) -> None:
        """Cancel the change to a model, and delete that model with its segments and vectors."""
        self.end_change()
        if profile_id != self.current:
            self._drop(profile_id)

    def _mark_never_embedded(self) -> None:
        """Mark contents that only other models have embedded as out of date for this model."""
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
        """Delete a model: first its `embedded` rows, so that it is never taken for complete, then everything else."""
        page_of_rows = select(embedded.c.id).where(embedded.c.profile_id == other).limit(PART)
        while True:
            with self._write() as connection:
                deleted = connection.execute(delete(embedded).where(embedded.c.id.in_(page_of_rows))).rowcount
                raise_revision(connection, other)
            if deleted < PART:
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
    """Return the query for media with the state of one model, with columns in the order of `MediaRow`."""
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
    """Convert a row of that query. Raises `TypeError` if it has values that mmsearch doesn't write."""
    media = MediaRow(*row)
    if type(media.path) is not bytes or type(media.device) is not str or type(media.sidecars) is not str:
        raise TypeError("a path isn't bytes, or its state isn't text")
    return media


def count_media(profile_id: int) -> Select[int]:
    """Return the query for the number of media, joined with the `embedded` rows of one model for conditions."""
    return select(func.count()).select_from(_media_of(profile_id))


def _media_of(profile_id: int) -> FromClause:
    own = and_(embedded.c.content_id == media.c.content_id, embedded.c.profile_id == profile_id)
    return media.outerjoin(embedded, own)


def _lacks(embedded_by: str) -> Any:  # noqa: ANN401  an SQL condition has no common type
    whole = and_(embedded.c.id.is_not(None), embedded.c.key == embedded_by, embedded.c.resume_s.is_(None))
    return not_(whole)


def begin(connection: Connection, first: tuple[str, Sequence[str]] | None) -> None:
    """Write the first rows of a new catalog: the library's id and, if given, the name and pins of its model."""
    _add_id(connection)
    if first is not None:
        _add_first(connection, *first)


def _add_id(connection: Connection) -> None:
    statement = upsert(setting).values(checked(setting, {"key": _LIBRARY, "value": secrets.token_hex(16)}))
    connection.execute(statement.on_conflict_do_nothing())


def _add_first(connection: Connection, name: str, pins: Sequence[str]) -> int:
    profile_id = _add(connection, name, pins)
    _set(connection, _CURRENT, profile_id)
    return profile_id


def _pins(stored: str) -> tuple[str, ...]:
    pins = json.loads(stored)
    if not isinstance(pins, list) or not all(isinstance(pin, str) for pin in pins):
        raise ValueError("a model's pins aren't a list of names")
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
