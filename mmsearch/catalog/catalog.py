"""The catalog: all data of a library, vectors included. Every index is a cache of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, func, insert, or_, select, update

from mmsearch.catalog.checksums import checked
from mmsearch.catalog.copying import Copier
from mmsearch.catalog.database import Database
from mmsearch.catalog.embeddings import EmbeddingReader
from mmsearch.catalog.facts import COLUMNS, count_cameras, count_years, facts_of
from mmsearch.catalog.profiles import ProfileKeeper, as_media_row, begin, count_media, media_rows
from mmsearch.catalog.roots import (
    Root,
    drop_roots,
    read_forgotten,
    read_roots,
    remember_forgotten,
    remember_roots,
)
from mmsearch.catalog.rows import CatalogState, FailureRow, Known, MediaRow, NewContent, NewMedia, check_types
from mmsearch.catalog.schema import content, embedded, failure, file_facts, media, profile, root, run, segment, space
from mmsearch.catalog.writing import (
    PART,
    carry_failures,
    drop_orphans,
    forget_failures,
    insert_contents,
    parts,
    point,
    put_facts,
    raise_every_revision,
    raise_revision,
    record_failures,
    take_out,
)
from mmsearch.records import FACTS_VERSION, FileFacts
from mmsearch.types import Modality, Stage

if TYPE_CHECKING:
    from mmsearch.catalog.matching import Matcher

_SOME: BindParameter[Any] = bindparam("some", expanding=True)


class Catalog(EmbeddingReader, Copier, ProfileKeeper):
    """The catalog of one library, as the profile sees it that answers when it is opened, or another: see `beside`.

    Readers don't block the writer; the library's lock makes sure that there is only one.
    """

    def __init__(self, file: Path, *, create: bool = False, first: tuple[str, Sequence[str]] | None = None) -> None:
        """Open a catalog. With `create`, a missing one is made; `first` is then the name and pins of its model."""
        database = Database(file, create=create, fill=lambda connection: begin(connection, first))
        super().__init__(database, 1)  # the id that the first model will get
        self.profile_id = self.current or self.profile_id

    def beside(self, profile_id: int) -> Catalog:
        """Return the same catalog with the data of another model; both are closed together."""
        other = copy(self)
        other.profile_id = profile_id
        return other

    @property
    def file(self) -> Path:
        """The catalog's file."""
        return self._database.file

    def state(self) -> CatalogState:
        """Return the state of the catalog that a query needs before it begins, in one read."""
        with self.one_read():
            return CatalogState(self.current, self.revision)

    def matcher(self) -> Matcher:
        """Return what decides which contents filters hold for, as this profile sees the library."""
        from mmsearch.catalog.matching import Matcher  # no query without a filter pays for it

        return Matcher(self._database, self.profile_id)

    def first_segments(self, content_ids: Iterable[int]) -> dict[int, int]:
        """Return the first segment of each of these contents that has any."""
        owner = segment.c.content_id
        mine = (owner.in_(_SOME), segment.c.profile_id == self.profile_id)
        query = select(owner, func.min(segment.c.id)).where(*mine).group_by(owner)
        with self._read() as connection:
            return {i: n for part in parts(content_ids) for i, n in connection.execute(query, {"some": part})}

    def close(self) -> None:
        """Close every connection. The catalog can't be used any more."""
        self._database.close()

    def reopen(self) -> None:
        """Open new connections from now on, since the file may have been replaced."""
        self._database.reopen()

    def shrink(self) -> None:
        """Return the space of deleted rows to the disk. Meanwhile, the catalog's size is needed once more."""
        self._database.shrink()

    def add_space(self, name: str, fingerprint: str, dim: int) -> int:
        """Return the id of a space; register it if it is new."""
        known = self.space_id(name, fingerprint, dim)
        if known is not None:
            return known
        with self._write() as connection:
            row = checked(space, {"name": name, "fingerprint": fingerprint, "dim": dim, "profile_id": self.profile_id})
            return int(connection.execute(insert(space).values(row).returning(space.c.id)).scalar_one())

    # Media and contents

    def media_at(self, paths: Iterable[bytes]) -> dict[bytes, MediaRow]:
        """Return the media rows of the known paths among these."""
        with self._read() as connection:
            query = media_rows(self.profile_id).where(media.c.path.in_(_SOME))
            return {
                row.path: as_media_row(row)
                for part in parts(paths)
                for row in connection.execute(query, {"some": part})
            }

    def media_under(self, root: bytes) -> Iterator[MediaRow]:
        """Yield the media at a path, then those below it, in byte order of their paths."""
        yield from self.media_at([root]).values()
        last, end = _span(root)
        below = media_rows(self.profile_id).where(media.c.path > bindparam("last"), media.c.path < end)
        yield from self._by_path(below, last)

    def _by_path(self, query: Select[Any], last: bytes) -> Iterator[MediaRow]:
        """Yield media by path, page by page. The query must select paths greater than its parameter `last`."""
        page = query.order_by(media.c.path).limit(PART)
        while True:
            with self._read() as connection:
                rows = [as_media_row(row) for row in connection.execute(page, {"last": last})]
            yield from rows
            if len(rows) < PART:
                return
            last = rows[-1].path

    def next_media_id(self) -> int:
        """Return the id after the highest media id: rows added later have this id or a higher one."""
        with self._read() as connection:
            return int(connection.execute(select(func.max(media.c.id))).scalar() or 0) + 1

    def contents(self) -> dict[int, Modality]:
        """Return the modality of each content that has a path, by the content's id."""
        query = select(content.c.id, content.c.modality).where(content.c.id.in_(select(media.c.content_id)))
        with self._read() as connection:
            return {row.id: Modality(row.modality) for row in connection.execute(query)}

    def paths_of(self, content_ids: Iterable[int]) -> dict[int, tuple[bytes, ...]]:
        """Return the paths of each of these contents, in byte order."""
        query = select(media.c.content_id, media.c.path).where(media.c.content_id.in_(_SOME)).order_by(media.c.path)
        paths: dict[int, tuple[bytes, ...]] = {}
        with self._read() as connection:
            rows = [row for part in parts(content_ids) for row in connection.execute(query, {"some": part})]
        check_types(rows, int, bytes)
        for row in rows:
            paths[row.content_id] = (*paths.get(row.content_id, ()), row.path)
        return paths

    def lacking_facts(self) -> Iterator[MediaRow]:
        """Yield media whose facts this version hasn't read yet, in byte order of their paths; texts have no facts."""
        due = or_(file_facts.c.id.is_(None), file_facts.c.version != FACTS_VERSION)
        query = (
            media_rows(self.profile_id)
            .join(content, content.c.id == media.c.content_id)
            .outerjoin(file_facts, file_facts.c.content_id == content.c.id)
            .where(due, content.c.modality != Modality.TEXT, media.c.path > bindparam("last"))
        )
        return self._by_path(query, b"")

    def facts_of(self, content_ids: Iterable[int]) -> dict[int, FileFacts]:
        """Return the facts of those of these contents whose facts were read."""
        query = select(file_facts.c.content_id, *COLUMNS).where(file_facts.c.content_id.in_(_SOME))
        with self._read() as connection:
            return {
                row["content_id"]: facts_of(dict(row))
                for part in parts(content_ids)
                for row in connection.execute(query, {"some": part}).mappings()
            }

    def put_facts(self, facts: Mapping[int, FileFacts]) -> None:
        """Write the facts of files by the ids of their contents; contents that no longer exist are skipped."""
        with self._write(at_once=True) as connection:
            existing: set[int] = set()
            for part in parts(facts):
                existing |= set(connection.execute(select(content.c.id).where(content.c.id.in_(part))).scalars())
            put_facts(connection, {number: values for number, values in facts.items() if number in existing})

    def content_with_hash(self, digest: bytes) -> int | None:
        """Return the id of the content with this hash, None if there is none."""
        with self._read() as connection:
            return connection.execute(select(content.c.id).where(content.c.hash == digest)).scalar()

    def contents_by_hash(self, hashes: Iterable[bytes], embedded_by: str) -> dict[bytes, Known]:
        """Return those contents that this model has embedded under the key `embedded_by`, by hash."""
        own = (embedded.c.profile_id == self.profile_id, embedded.c.key == embedded_by)
        columns = (content.c.hash, content.c.id, content.c.modality, embedded.c.resume_s)
        query = select(*columns).join_from(content, embedded).where(content.c.hash.in_(_SOME), *own)
        with self._read() as connection:
            rows = [row for part in parts(hashes) for row in connection.execute(query, {"some": part})]
            check_types(rows, bytes, int, str, (float, None))
            return {row.hash: Known(row.id, Modality(row.modality), row.resume_s) for row in rows}

    def commit(
        self,
        contents: Sequence[NewContent],
        embedded_by: str,
        failures: Sequence[FailureRow] = (),
        gone: Iterable[bytes] = (),
    ) -> None:
        """Write contents with their segments, vectors and paths, and failures, in one transaction.

        Paths that are `gone` are removed first; their contents stay until `drop_orphans`.
        """
        with self._write() as connection:
            take_out(connection, gone)
            insert_contents(connection, contents, self.profile_id, embedded_by)
            record_failures(connection, failures)
            if contents:
                raise_revision(connection, self.profile_id)

    def point(self, names: Mapping[NewMedia, int]) -> None:
        """Assign paths to existing contents (after a rename, a copy, or a change of mtime alone)."""
        with self._write() as connection:
            carry_failures(connection, names)
            point(connection, names)

    def remove(self, paths: Iterable[bytes]) -> int:
        """Remove paths and their failures; return the number of removed media.

        Their contents stay until `drop_orphans`, since the same run may find them under another path.
        """
        with self._write() as connection:
            return take_out(connection, paths)

    def drop_orphans(self) -> None:
        """Delete contents that have no path any more, with their segments and vectors."""
        with self._write() as connection:
            if drop_orphans(connection):
                raise_every_revision(connection, self.profile_id)

    # Failures and runs

    def failures_at(self, paths: Iterable[bytes]) -> dict[bytes, FailureRow]:
        """Return the recorded failures among these paths."""
        query = _failures().where(failure.c.path.in_(_SOME))
        with self._read() as connection:
            rows = (row for part in parts(paths) for row in connection.execute(query, {"some": part}))
            return {row.path: _failure_row(row) for row in rows}

    def failures_under(self, root: bytes | None = None) -> list[FailureRow]:
        """Return the recorded failures at or below a path, by default all of them, sorted by path."""
        query = _failures().order_by(failure.c.path)
        if root is not None:
            first, end = _span(root)
            query = query.where(or_(failure.c.path == root, (failure.c.path > first) & (failure.c.path < end)))
        with self._read() as connection:
            return [_failure_row(row) for row in connection.execute(query)]

    def forget_failures(self, paths: Iterable[bytes]) -> None:
        """Delete the failures of paths; their media stay."""
        with self._write() as connection:
            forget_failures(connection, paths)

    def start_run(self, remember: Iterable[Root] = (), drop: Iterable[bytes] = ()) -> int:
        """Record the start of a run, remember its roots, and drop roots and forgotten paths; return the run's id."""
        row = checked(run, {"started": _now(), "ended": None, "report": None})
        with self._write() as connection:
            drop_roots(connection, drop)
            remember_roots(connection, remember)
            return int(connection.execute(insert(run).values(row).returning(run.c.id)).scalar_one())

    def end_run(self, run_id: int, report: str) -> None:
        """Record the end of a run, with its report as JSON."""
        this_run = run.c.id == run_id
        with self._write() as connection:
            started = connection.execute(select(run.c.started).where(this_run)).scalar_one()
            row = checked(run, {"started": started, "ended": _now(), "report": report})
            connection.execute(update(run).where(this_run).values(row))

    def roots(self) -> list[Root]:
        """Return the remembered roots with their exclude globs, sorted by path."""
        with self._read() as connection:
            return read_roots(connection)

    def forgotten(self) -> frozenset[bytes]:
        """Return the forgotten paths: runs leave them out until one names them."""
        with self._read() as connection:
            return read_forgotten(connection)

    def drop_roots(self, paths: Iterable[bytes]) -> None:
        """Delete the roots at exactly these paths."""
        with self._write() as connection:
            drop_roots(connection, paths)

    def forget(self, folders: Iterable[bytes], paths: Iterable[bytes]) -> int:
        """Mark folders or files as forgotten, and remove the media and failures at `paths`, which lie at or below them.

        Returns the number of removed media. Their contents stay until `drop_orphans`.
        """
        with self._write() as connection:
            for folder in folders:
                first, end = _span(folder)
                remember_forgotten(connection, folder, (root.c.path > first) & (root.c.path < end))
            return take_out(connection, paths)

    # Counts

    def count_media(self) -> dict[Modality, int]:
        """Return the number of files of each modality."""
        query = select(content.c.modality, func.count()).select_from(media.join(content)).group_by(content.c.modality)
        with self._read() as connection:
            counts = {modality: count for modality, count in connection.execute(query)}
        return {modality: counts.get(modality, 0) for modality in Modality}

    def count_facts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the number of contents by year taken, newest first, and by camera, most used first."""
        with self._read() as connection:
            return count_years(connection), count_cameras(connection)

    def count_outdated(self, embedded_by: str) -> int:
        """Return the number of files that the model hasn't embedded under this key, so that they can't be found."""
        own = embedded.c.profile_id == self.profile_id
        other_key = or_(embedded.c.key < embedded_by, embedded.c.key > embedded_by)  # "!=" uses no index
        never = count_media(self.profile_id).where(embedded.c.id.is_(None))
        with self._read() as connection:
            count = connection.execute(_count_embedded(own, other_key)).scalar_one()
            several = connection.execute(select(func.count()).select_from(profile)).scalar_one() > 1
            if several:  # then some contents may have been embedded by another model only: see `drop_others`
                count += connection.execute(never).scalar_one()
            return count

    def count_unfinished(self) -> int:
        """Return the number of files that were decoded in part."""
        begun = (embedded.c.profile_id == self.profile_id, embedded.c.resume_s.is_not(None))
        with self._read() as connection:
            return connection.execute(_count_embedded(*begun)).scalar_one()

    def count_whole(self) -> int:
        """Return the number of files that the model has embedded completely, under any key."""
        whole = (embedded.c.profile_id == self.profile_id, embedded.c.resume_s.is_(None))
        with self._read() as connection:
            return connection.execute(_count_embedded(*whole)).scalar_one()


def _count_embedded(*where: ColumnElement[bool]) -> Select[int]:
    named = media.join(embedded, embedded.c.content_id == media.c.content_id)
    return select(func.count()).select_from(named).where(*where)


def _failures() -> Select[Any]:
    return select(failure.c.path, failure.c.stage, failure.c.reason, failure.c.stamp, failure.c.version)


def _failure_row(row: Any) -> FailureRow:  # noqa: ANN401  a row has no common type
    check_types([row], bytes, str, str, str, str)
    return FailureRow(row.path, Stage(row.stage), row.reason, row.stamp, row.version)


def _span(root: bytes) -> tuple[bytes, bytes]:
    """Return the exclusive bounds, in byte order, of the paths below a folder."""
    separator = os.fsencode(os.sep)
    folder = root.rstrip(separator)
    return folder + separator, folder + bytes([separator[0] + 1])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
