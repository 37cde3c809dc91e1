"""The table `root`: the files and folders that runs refresh, and forgotten paths."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, or_, select

from mmsearch.catalog.checksums import delete_rows
from mmsearch.catalog.rows import check_types
from mmsearch.catalog.schema import root
from mmsearch.catalog.writing import parts, put

_FORGOTTEN = "null"
"""Marks a forgotten path, in place of exclude globs: runs leave out everything at or below it."""


class Root(NamedTuple):
    """A file or folder that runs refresh, with its exclude globs of names and paths."""

    path: bytes
    exclude: tuple[str, ...] = ()


def read_roots(connection: Connection) -> list[Root]:
    """Return the roots, sorted by path."""
    query = select(root.c.path, root.c.exclude).where(root.c.exclude != _FORGOTTEN).order_by(root.c.path)
    rows = connection.execute(query).all()
    check_types(rows, bytes, str)
    roots = [Root(row.path, tuple(json.loads(row.exclude))) for row in rows]
    check_types([(glob,) for _, exclude in roots for glob in exclude], str)
    return roots


def read_forgotten(connection: Connection) -> frozenset[bytes]:
    """Return the forgotten paths."""
    rows = connection.execute(select(root.c.path).where(root.c.exclude == _FORGOTTEN)).all()
    check_types(rows, bytes)
    return frozenset(row.path for row in rows)


def remember_roots(connection: Connection, roots: Iterable[Root]) -> None:
    """Write roots, each in place of an earlier row of its path. Unchanged roots aren't written again."""
    wanted = {path: json.dumps(list(exclude)) for path, exclude in roots}
    existing: dict[bytes, str] = {}
    for part in parts(wanted):
        stored = select(root.c.path, root.c.exclude).where(root.c.path.in_(part))
        existing |= {row.path: row.exclude for row in connection.execute(stored)}
    changed = [(path, globs) for path, globs in wanted.items() if existing.get(path) != globs]
    put(connection, root, [{"path": path, "exclude": globs} for path, globs in changed])


def drop_roots(connection: Connection, paths: Iterable[bytes]) -> None:
    """Delete the rows of exactly these paths, roots and forgotten ones alike."""
    for part in parts(paths):
        delete_rows(connection, root, root.c.path.in_(part))


def remember_forgotten(connection: Connection, path: bytes, below: ColumnElement[bool]) -> None:
    """Mark a path as forgotten; `below` selects the rows of paths below it, which are deleted."""
    delete_rows(connection, root, or_(root.c.path == path, below))
    put(connection, root, [{"path": path, "exclude": _FORGOTTEN}])
