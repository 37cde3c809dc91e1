"""Writes, reads and deletes the rows of segments, with their texts and vectors. No other module does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Float, Table, delete, insert, select

from mmsearch.catalog import fulltext
from mmsearch.catalog.checksums import MODULUS, embedding_checksum, segment_checksum, text_checksum
from mmsearch.catalog.rows import StoredVector, check_types
from mmsearch.catalog.schema import embedding, segment, text
from mmsearch.records import Origin, Segment, Text
from mmsearch.types import Modality

_IDS = ("id", "content_id", "profile_id")
COLUMNS: tuple[Column[Any], ...] = tuple(column for column in segment.columns if column.name not in _IDS)
"""The columns that are fields of a `Segment`, with the same names."""
FIELDS = tuple(column.name for column in COLUMNS)

Piece = tuple[int, Modality, Segment[Sequence[StoredVector]]]
"""A segment to be written, with the id and the modality of its content."""


def insert_segments(connection: Connection, pieces: Iterable[Piece], profile_id: int) -> dict[int, int]:
    """Write segments with their texts and vectors; return the sum of their checksums by content.

    Ids are assigned here rather than by SQLite, since the checksums cover them.
    """
    sums: dict[int, int] = {}
    segments: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    vectors: list[dict[str, Any]] = []
    next_segment, next_text, next_vector = (next_id(connection, table) for table in (segment, text, embedding))
    for number, (content_id, modality, piece) in enumerate(pieces, next_segment):
        row = {"id": number, "content_id": content_id, "profile_id": profile_id, **_field_values(piece)}
        own_texts = [_text_row(next_text + len(texts) + n, number, words) for n, words in enumerate(piece.texts)]
        own_vectors = [
            _vector_row(next_vector + len(vectors) + n, number, modality, stored)
            for n, stored in enumerate(piece.views)
        ]
        share = segment_checksum(row) + sum(map(text_checksum, own_texts)) + sum(map(embedding_checksum, own_vectors))
        sums[content_id] = (sums.get(content_id, 0) + share) % MODULUS
        segments.append(row)
        texts += own_texts
        vectors += own_vectors
    for table, rows in ((segment, segments), (text, texts), (embedding, vectors)):
        if rows:
            connection.execute(insert(table), rows)
    if texts:
        fulltext.put_in(connection, texts)
    return sums


def delete_segments(connection: Connection, *where: Any) -> None:  # noqa: ANN401  an SQL condition has no common type
    """Delete segments with their texts and vectors."""
    fulltext.take_out(connection, select(segment.c.id).where(*where))
    connection.execute(delete(segment).where(*where))


def next_id(connection: Connection, table: Table) -> int:
    """Return the next id of a table. Ids are never used again, since an index may still contain deleted ones.

    The transaction must have written already, so that no other one gets the same id.
    """
    newest = f"SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = '{table.name}'), 0), ifnull(max(id), 0))"
    return int(connection.exec_driver_sql(f"{newest} FROM {table.name}").scalar_one()) + 1


def _field_values(piece: Segment[Any]) -> dict[str, Any]:
    values = ((column, getattr(piece, column.name)) for column in COLUMNS)
    return {column.name: _to_the_millisecond(column, value) for column, value in values}


def _to_the_millisecond(column: Column[Any], value: Any) -> Any:  # noqa: ANN401  a value of any column
    return round(value, 3) if value is not None and isinstance(column.type, Float) else value


def _text_row(number: int, segment_id: int, words: Text) -> dict[str, Any]:
    start_s, end_s = words.span or (None, None)
    return {
        "id": number,
        "segment_id": segment_id,
        "origin": words.origin.value,
        "language": storable(words.language),
        "words": storable(words.words),
        "start_s": None if start_s is None else round(start_s, 3),
        "end_s": None if end_s is None else round(end_s, 3),
    }


def _vector_row(number: int, segment_id: int, modality: Modality, stored: StoredVector) -> dict[str, Any]:
    return {
        "id": number,
        "segment_id": segment_id,
        "space_id": stored.space_id,
        "view": stored.view.value,
        "modality": modality.value,
        "draw": stored.draw,
        "vector": stored.vector.astype("<f2").tobytes(),
    }


def storable(words: str) -> str:
    """Return a text as valid UTF-8: bytes of a file name that aren't UTF-8 are escaped."""
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


# Reading


def kinds_of_fields() -> list[tuple[type | None, ...] | type]:
    """Return the types of the values that `COLUMNS` may hold: see `check_types`."""
    return [_kind(column) for column in COLUMNS]


def _kind(column: Column[Any]) -> tuple[type | None, ...] | type:
    kind = bool if isinstance(column.type, Boolean) else column.type.python_type
    return (kind, None) if column.nullable else kind


def texts_of(connection: Connection, where: Any) -> dict[int, tuple[Text, ...]]:  # noqa: ANN401  an SQL condition
    """Return the texts of segments, in order, by the segments' ids."""
    columns = (text.c.segment_id, text.c.origin, text.c.words, text.c.language, text.c.start_s, text.c.end_s)
    rows = connection.execute(select(*columns).where(where).order_by(text.c.id)).all()
    check_types(rows, int, str, str, str, (float, None), (float, None))
    texts: dict[int, tuple[Text, ...]] = {}
    for row in rows:
        texts[row.segment_id] = (*texts.get(row.segment_id, ()), _as_text(row))
    return texts


def _as_text(row: Any) -> Text:  # noqa: ANN401  a row has no common type
    span = None if row.start_s is None else (row.start_s, row.end_s)
    return Text(Origin(row.origin), row.words, row.language, span)


def segments_where(connection: Connection, *where: Any) -> list[tuple[int, int, Segment[None]]]:  # noqa: ANN401
    """Return the id, the content id and the record, with its texts, of each segment, by id."""
    query = select(segment.c.id, segment.c.content_id, *COLUMNS).where(*where).order_by(segment.c.id)
    rows = connection.execute(query).all()
    texts = texts_of(connection, text.c.segment_id.in_(select(segment.c.id).where(*where)))
    return [
        (number, owner, Segment(None, texts=texts.get(number, ()), **dict(zip(FIELDS, fields, strict=True))))
        for number, owner, *fields in rows
    ]
