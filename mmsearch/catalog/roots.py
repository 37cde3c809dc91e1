"""The files and folders that runs began at, and the paths that were forgotten: rows of the table `root`."""

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
"""Stands for the globs of a path that was forgotten: nothing at or below it is taken in."""


class Root(NamedTuple):
    """A file or folder that a run refreshes, and the globs of names and paths that it leaves out there."""

    path: bytes
    exclude: tuple[str, ...] = ()


def read_roots(connection: Connection) -> list[Root]:
    """Return the roots, by path."""
    query = select(root.c.path, root.c.exclude).where(root.c.exclude != _FORGOTTEN).order_by(root.c.path)
    rows = connection.execute(query).all()
    check_types(rows, bytes, str)
    roots = [Root(row.path, tuple(json.loads(row.exclude))) for row in rows]
    check_types([(glob,) for _, exclude in roots for glob in exclude], str)
    return roots


def read_forgotten(connection: Connection) -> frozenset[bytes]:
    """Return the paths that were forgotten."""
    rows = connection.execute(select(root.c.path).where(root.c.exclude == _FORGOTTEN)).all()
    check_types(rows, bytes)
    return frozenset(row.path for row in rows)


def remember_roots(connection: Connection, roots: Iterable[Root]) -> None:
    """Write roots, each in place of what the table has under its path. What stands already isn't written again."""
    wanted = {path: json.dumps(list(exclude)) for path, exclude in roots}
    held: dict[bytes, str] = {}
    for part in parts(wanted):
        stored = select(root.c.path, root.c.exclude).where(root.c.path.in_(part))
        held |= {row.path: row.exclude for row in connection.execute(stored)}
    changed = [(path, globs) for path, globs in wanted.items() if held.get(path) != globs]
    put(connection, root, [{"path": path, "exclude": globs} for path, globs in changed])


def drop_roots(connection: Connection, paths: Iterable[bytes]) -> None:
    """Delete the rows of these very paths, whether they are roots or were forgotten."""
    for part in parts(paths):
        delete_rows(connection, root, root.c.path.in_(part))


def remember_forgotten(connection: Connection, path: bytes, below: ColumnElement[bool]) -> None:
    """Note that a path was forgotten; `below` selects the rows of paths below it, which go."""
    delete_rows(connection, root, or_(root.c.path == path, below))
    put(connection, root, [{"path": path, "exclude": _FORGOTTEN}])
