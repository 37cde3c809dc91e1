"""The facts of files as rows of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from mmsearch.catalog.schema import file_facts, media
from mmsearch.records import FACTS_VERSION, FileFacts

NAMES = tuple(field.name for field in fields(FileFacts))
"""The columns that are fields of `FileFacts`, of the same names."""
COLUMNS = tuple(file_facts.c[name] for name in NAMES)


def facts_row(content_id: int, facts: FileFacts) -> dict[str, Any]:
    """Return the row for a content's facts, without its checksum."""
    values = {name: getattr(facts, name) for name in NAMES}
    taken_at = None if facts.taken_at is None else facts.taken_at.isoformat()
    return {"content_id": content_id, "version": FACTS_VERSION, **values, "taken_at": taken_at}


def facts_of(row: Mapping[str, Any]) -> FileFacts:
    """Return the facts in a row with `COLUMNS`. Raises `ValueError` where mmsearch didn't write it."""
    values = {name: row[name] for name in NAMES}
    taken_at = None if row["taken_at"] is None else datetime.fromisoformat(row["taken_at"])
    return FileFacts(**{**values, "taken_at": taken_at})


def count_years(connection: Connection) -> dict[str, int]:
    """Return how many contents were taken in each year, such as "2019", the newest year first."""
    year = func.substr(file_facts.c.taken_at, 1, 4)
    return _counted(connection, year, newest_first=True)


def count_cameras(connection: Connection) -> dict[str, int]:
    """Return how many contents each camera took, the most used camera first."""
    return _counted(connection, file_facts.c.camera, newest_first=False)


def _counted(connection: Connection, value: Any, *, newest_first: bool) -> dict[str, int]:  # noqa: ANN401  an SQL value
    named = file_facts.c.content_id.in_(select(media.c.content_id))
    query = select(value, func.count()).where(value.is_not(None), named).group_by(value)
    query = query.order_by(value.desc()) if newest_first else query.order_by(func.count().desc(), value)
    return {str(name): int(count) for name, count in connection.execute(query)}
