"""The facts of files as rows of the catalog."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from mmsearch.catalog.schema import file_facts, media
from mmsearch.records import FACTS_VERSION, DatedBy, FileFacts

NAMES = tuple(field.name for field in fields(FileFacts))
"""The columns that are fields of `FileFacts`, of the same names."""
_LISTS = ("keywords", "people")
COLUMNS = tuple(file_facts.c[name] for name in NAMES)


def facts_row(content_id: int, facts: FileFacts) -> dict[str, Any]:
    """Return the row for a content's facts, without its checksum."""
    values: dict[str, Any] = {name: getattr(facts, name) for name in NAMES}
    values["taken_at"] = None if facts.taken_at is None else facts.taken_at.isoformat()
    values["dated_by"] = None if facts.dated_by is None else facts.dated_by.value
    for name in _LISTS:
        values[name] = json.dumps(values[name], ensure_ascii=False) if values[name] else None
    return {"content_id": content_id, "version": FACTS_VERSION, **values}


def facts_of(row: Mapping[str, Any]) -> FileFacts:
    """Return the facts in a row with `COLUMNS`. Raises `ValueError` where mmsearch didn't write it."""
    values = {name: row[name] for name in NAMES}
    values["taken_at"] = None if row["taken_at"] is None else datetime.fromisoformat(row["taken_at"])
    values["dated_by"] = None if row["dated_by"] is None else DatedBy(row["dated_by"])
    for name in _LISTS:
        values[name] = _words(row[name])
    return FileFacts(**values)


def _words(stored: str | None) -> tuple[str, ...]:
    words = json.loads(stored) if stored is not None else []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("a list of words is none")
    return tuple(words)


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
