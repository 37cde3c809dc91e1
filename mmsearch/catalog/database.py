"""A catalog's file and the connections to it, and what every part of the catalog starts from."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from mmsearch.catalog import past_sqlite
from mmsearch.catalog.opening import Fill, connect, mapped_errors
from mmsearch.catalog.past_sqlite import Identity
from mmsearch.errors import CatalogError

_log = logging.getLogger(__name__)


class Database:
    """Opens connections to one file, each for one transaction, until it is closed.

    Raises `CatalogError` also where the file was moved, deleted or replaced meanwhile: what lies there then, or comes
    to lie there, is another catalog.
    """

    def __init__(self, file: Path, *, create: bool, fill: Fill | None = None) -> None:
        self.file = file
        self._engine = connect(file, create=create, fill=fill)
        self._path = os.fspath(file)
        self._identity = self._connected()
        self._closed = False
        self._warned: set[str] = set()
        self._local = threading.local()

    def close(self) -> None:
        """Close every connection; none can be opened afterwards."""
        self._engine.dispose()
        if not self._closed:
            past_sqlite.disconnected(self._identity)
        self._closed = True

    def reopen(self) -> None:
        """Open new connections from now on, to the file that lies there now."""
        self._engine.dispose()
        past_sqlite.disconnected(self._identity)
        self._engine = connect(self.file, create=False)
        self._identity = self._connected()

    def _connected(self) -> Identity:
        identity = _identity(self._path) or (0, 0)  # it vanished within a moment: the first transaction will say so
        past_sqlite.connected(identity)
        return identity

    def _opened(self) -> Engine:
        if self._closed:
            raise CatalogError(f"{self.file} was closed; open the library again")
        if _identity(self._path) != self._identity:
            raise CatalogError(f"{self.file} was moved or deleted while it was open; open the library again")
        return self._engine

    def warn(self, line: str) -> None:
        """Warn of something once, however often it is met."""
        if line not in self._warned:
            self._warned.add(line)
            _log.warning("%s", line)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection to read with: that of `one_read` inside such a block, else one of its own."""
        shared: Connection | None = getattr(self._local, "connection", None)
        with mapped_errors(self.file):
            if shared is not None:
                yield shared
                return
            with self._opened().connect() as connection:
                yield connection

    @contextmanager
    def one_read(self) -> Iterator[None]:
        """Make all reads of this thread inside the block one transaction: they see the catalog as of one moment."""
        if getattr(self._local, "connection", None) is not None:
            yield
            return
        with mapped_errors(self.file):
            connection = self._opened().connect()
        try:  # errors of the caller are none of the catalog's
            with mapped_errors(self.file):
                connection.exec_driver_sql("BEGIN")  # the driver by itself begins at the first change
            self._local.connection = connection
            yield
        finally:
            self._local.connection = None
            connection.close()

    @contextmanager
    def write(self, *, at_once: bool = False) -> Iterator[Connection]:
        """Give a connection whose changes are committed together; `at_once`, what it reads can't change meanwhile."""
        with mapped_errors(self.file), self._opened().begin() as connection:
            if at_once:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver by itself begins at the first change
            yield connection

    def shrink(self) -> None:
        """Give the space of what was deleted back to the disk. Takes as much again while it runs."""
        with mapped_errors(self.file), self._opened().connect() as opened:
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _identity(path: str) -> tuple[int, int] | None:
    """Return by what a file is known whatever its name, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  asked for in every transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Part:
    """A part of the catalog: what it says of segments and embeddings is what one profile has made."""

    def __init__(self, database: Database, profile_id: int) -> None:
        self._database = database
        self._read = database.read
        self.one_read = database.one_read
        self._write = database.write
        self.profile_id = profile_id
