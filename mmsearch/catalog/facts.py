"""The facts of files as rows of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from mmsearch.catalog.schema import file_facts
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
