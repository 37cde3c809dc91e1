"""Repairs the faults that `checking.py` finds: rows are restored from copies, or their files are embedded again."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from mmsearch.catalog import fulltext
from mmsearch.catalog.catalog import Catalog
from mmsearch.catalog.checking import (
    SINGLE,
    Faults,
    file_faults,
    open_as_it_is,
    reading,
    row_checksums,
    verdicts,
)
from mmsearch.catalog.checksums import MODULUS, checked, delete_rows
from mmsearch.catalog.database import Part
from mmsearch.catalog.schema import (
    TALLIED,
    content,
    embedded,
    embedding,
    failure,
    file_facts,
    media,
    metadata,
    profile,
    root,
    segment,
    setting,
    space,
    tally,
    text,
)
from mmsearch.catalog.seal import COPIED, Copies, copies_of
from mmsearch.catalog.segments import delete_segments
from mmsearch.catalog.writing import PART, embedded_row, parts, raise_every_revision, replacing
from mmsearch.types import Modality

_ID = re.compile("[0-9]{1,18}")
_FROM_COPIES = (setting, profile, space)
"""The tables whose rows can't be made again from media files: they are restored from the seal's copies."""


@dataclass(slots=True)
class RepairResult:
    """The paths whose files must be embedded again, and whether paths were lost."""

    again: set[bytes] = field(default_factory=set)
    paths_lost: bool = False
    kept: list[str] = field(default_factory=list)
    """Faults that couldn't be repaired, one line each."""


class Mender(Part):
    """Repairs one catalog. The caller holds the library's lock."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog._database, catalog.profile_id)
        self._catalog = catalog
        self.file = catalog._database.file

    def restore(self, faults: Faults) -> bool:
        """Restore models, spaces, settings and roots from the seal's copies; return whether any row was restored.

        If so, the caller must check the catalog again: a restored space makes its vectors valid.
        """
        copies = copies_of(self.file)
        with self._write(at_once=True) as connection:
            restored = [_restore(connection, table, faults.rows.get(table.name, []), copies) for table in COPIED]
            if faults.no_profile:
                restored.append(_restore_answering(connection, copies))
            restored.append(_restore_referred(connection, faults.dangling, copies))
            if "root" in faults.tallies:
                restored.append(_restore_roots(connection, copies))
            if any(restored) and not faults.unrecorded:
                count_tallies(connection, ["root"])
        return any(restored)

    def mend(self, faults: Faults) -> RepairResult:
        """Repair faults in two transactions; the caller must embed the resulting paths again."""
        result = RepairResult()
        current = self._catalog.current or self.profile_id
        with self._write(at_once=True) as connection:
            fulltext.make_again(fulltext.raw_of(connection))  # the deletions below need an intact full-text index
            _mend_types(connection)
            result.kept = _keep_referred(connection, faults)
            damaged = faults.contents | _of_spaces(connection, faults.rows.get("space", []))
            result.again |= _paths_of(connection, [i for i, profile_id in damaged if profile_id == current])
            result.again |= _paths_of(connection, faults.unmade)
            for content_id, profile_id in sorted(damaged | {(i, current) for i in faults.unmade}):
                _unmake(connection, content_id, profile_id)
        with self._write(at_once=True) as connection:
            result.again |= _paths(connection, [*faults.rows.get("media", []), *faults.dangling.get("media", [])])
            with_paths = {"media", "failure"}
            result.paths_lost = not with_paths.isdisjoint({*faults.tallies, *faults.rows}) or bool(faults.unnamed)
            for table in (media, file_facts, embedding, text, segment, embedded):
                _drop(connection, table, faults.dangling.get(table.name, []))
            for table in SINGLE:
                if table not in _FROM_COPIES:
                    _drop(connection, table, faults.rows.get(table.name, []))
            _drop(connection, space, faults.rows.get("space", []))
            if not faults.unrecorded:
                count_tallies(connection)
            fulltext.rebuild(fulltext.raw_of(connection))
            raise_every_revision(connection, current)
        return result


def _restore(connection: Connection, table: Table, keys: Sequence[Any], copies: Copies) -> bool:
    """Restore damaged rows of a table from their copies; return whether any was restored."""
    key = next(iter(table.primary_key.columns))
    known = {row[key.name]: row for row in copies.get(table.name, [])}
    for value in keys:
        if value in known:
            connection.execute(update(table).where(key == value).values(**known[value]))
    return not known.keys().isdisjoint(keys)


def _restore_answering(connection: Connection, copies: Copies) -> bool:
    """Restore the setting that names the current model, and that model."""
    profiles = {row["id"]: row for row in copies.get("profile", [])}
    existing = set(connection.execute(select(profile.c.id)).scalars())
    for row in copies.get("setting", []):
        if row["key"] == "profile" and _ID.fullmatch(row["value"]):
            connection.execute(replacing(setting, ["key"], row), row)
            wanted = int(row["value"])
            if wanted not in existing and wanted in profiles:
                connection.execute(insert(profile), profiles[wanted])
            return True
    return False


def _restore_referred(connection: Connection, dangling: Mapping[str, Sequence[int]], copies: Copies) -> bool:
    """Restore lost spaces and models to which rows still refer."""
    restored = False
    for table, referring, column in (
        (profile, embedded, embedded.c.profile_id),
        (space, embedding, embedding.c.space_id),
    ):
        if referring.name in dangling:
            existing = set(connection.execute(select(table.c.id)).scalars())
            wanted = set(connection.execute(select(column).distinct()).scalars()) - existing
            rows = [row for row in copies.get(table.name, []) if row["id"] in wanted]
            if rows:
                connection.execute(insert(table), rows)
                restored = True
    return restored


def _restore_roots(connection: Connection, copies: Copies) -> bool:
    existing = set(connection.execute(select(root.c.id)).scalars())
    rows = [row for row in copies.get("root", []) if row["id"] not in existing]
    if rows:
        connection.execute(insert(root), rows)
    return bool(rows)


def _mend_types(connection: Connection) -> None:
    """Convert hashes and paths that became texts to bytes, and replace unknown modalities: reading them would fail.

    Their contents are known to be damaged, and are embedded again.
    """
    for table, column in ((content, "hash"), (media, "path"), (failure, "path"), (root, "path")):
        cast = f"UPDATE OR IGNORE {table.name} SET {column} = CAST({column} AS BLOB) WHERE typeof({column}) != 'blob'"
        connection.exec_driver_sql(cast)
    unknown = content.c.modality.not_in([modality.value for modality in Modality])
    connection.execute(update(content).where(unknown).values(modality=Modality.IMAGE.value))


def _keep_referred(connection: Connection, faults: Faults) -> list[str]:
    """Accept damaged models and settings that have no copy as they are; return a line for each.

    A damaged change to another model is cancelled instead; a run that names the model begins it again.
    """
    lines = []
    for table in (setting, profile):
        key = next(iter(table.primary_key.columns))
        for value in faults.rows.get(table.name, []):
            if table is setting and value == "change":
                connection.execute(delete(table).where(key == value))
                lines.append("the change to another model was damaged; it is cancelled")
                continue
            row = connection.execute(select(table).where(key == value)).mappings().first()
            if row is not None:
                connection.execute(update(table).where(key == value).values(**checked(table, dict(row))))
            lines.append(f"{table.name} {value} was damaged and has no copy; it is used as it is")
    return lines


def _of_spaces(connection: Connection, space_ids: Sequence[int]) -> set[tuple[int, int]]:
    """Return the (content id, profile id) of contents with vectors in these spaces."""
    owners = select(segment.c.content_id, segment.c.profile_id).join_from(segment, embedding)
    where = embedding.c.space_id.in_(space_ids)
    return {(row.content_id, row.profile_id) for row in connection.execute(owners.where(where).distinct())}


def _unmake(connection: Connection, content_id: int, profile_id: int) -> None:
    """Delete a model's segments of a content, and mark the content as out of date."""
    delete_segments(connection, segment.c.content_id == content_id, segment.c.profile_id == profile_id)
    known = connection.execute(select(content.c.hash, content.c.modality).where(content.c.id == content_id)).first()
    if known is not None:
        row = embedded_row(content_id, known.hash, known.modality, profile_id, "", None, 0)
        connection.execute(replacing(embedded, ["content_id", "profile_id"], row), row)


def _paths_of(connection: Connection, content_ids: Iterable[int]) -> set[bytes]:
    paths: set[bytes] = set()
    for part in parts(content_ids):
        paths |= set(connection.execute(select(media.c.path).where(media.c.content_id.in_(part))).scalars())
    return paths


def _paths(connection: Connection, media_ids: Iterable[int]) -> set[bytes]:
    paths: set[bytes] = set()
    for part in parts(media_ids):
        rows = connection.execute(select(media.c.path).where(media.c.id.in_(part))).scalars()
        paths |= {path for path in rows if isinstance(path, bytes)}
    return paths


def _drop(connection: Connection, table: Table, keys: Sequence[Any]) -> None:
    key = next(iter(table.primary_key.columns))
    for part in parts(keys):
        if table.name in TALLIED:
            delete_rows(connection, table, key.in_(part))
        else:
            connection.execute(delete(table).where(key.in_(part)))


def count_tallies(connection: Connection, names: Sequence[str] = TALLIED) -> None:
    """Write the tallies of tables from their current rows."""
    connection.execute(delete(tally).where(tally.c.name.in_(names)))
    for name in names:
        table = metadata.tables[name]
        checksums = connection.execute(select(table.c.checksum)).scalars().all()
        row = {"name": name, "rows": len(checksums), "total": sum(value or 0 for value in checksums) % MODULUS}
        connection.execute(insert(tally), row)


def record(catalog: Catalog) -> None:
    """Record the checksums of a catalog that an older version wrote, from its current rows. The caller holds the lock.

    This takes about as long as checking it. If it is interrupted, the next run does it again.
    """
    mender = Mender(catalog)
    with reading(mender.file) as connection, mender._write(at_once=True) as writer:
        for table in SINGLE:
            key = next(iter(table.primary_key.columns)).name
            sums = [{"k": first, "c": computed} for first, _, computed in row_checksums(connection, table)]
            _write_checksums(writer, f'UPDATE "{table.name}" SET checksum = :c WHERE "{key}" = :k', sums)
        sums = [{"k": verdict.embedded_id, "c": verdict.computed} for verdict in verdicts(connection)]
        _write_checksums(writer, "UPDATE embedded SET checksum = :c WHERE id = :k", sums)
        count_tallies(writer)


def _write_checksums(connection: Connection, statement: str, values: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(values), PART):
        connection.exec_driver_sql(statement, values[start : start + PART])


def rebuild_search_trees(file: Path) -> bool:
    """Rebuild SQLite's own indexes from the rows; return whether that repaired the file. The caller holds the lock."""
    try:
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            connection.execute("REINDEX")
        with closing(open_as_it_is(file)) as connection:
            return not file_faults(connection)
    except sqlite3.Error:
        return False
