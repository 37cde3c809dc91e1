"""The connections to a catalog's file, and the base class of the catalog's parts."""

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
    """Opens connections to one file, each for one transaction.

    Raises `CatalogError`, also if the file was moved, deleted or replaced since the database was opened: another file
    of the same name is another catalog.
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
        """Close every connection. No other can be opened afterwards."""
        self._engine.dispose()
        if not self._closed:
            past_sqlite.disconnected(self._identity)
        self._closed = True

    def reopen(self) -> None:
        """Open new connections from now on, to the file that has the name now."""
        self._engine.dispose()
        past_sqlite.disconnected(self._identity)
        self._engine = connect(self.file, create=False)
        self._identity = self._connected()

    def _connected(self) -> Identity:
        identity = _identity(self._path) or (0, 0)  # it was just deleted: the first transaction will report that
        past_sqlite.connected(identity)
        return identity

    def _opened(self) -> Engine:
        if self._closed:
            raise CatalogError(f"{self.file} was closed; open the library again")
        if _identity(self._path) != self._identity:
            raise CatalogError(f"{self.file} was moved or deleted while it was open; open the library again")
        return self._engine

    def warn(self, line: str) -> None:
        """Log a warning, each one only once."""
        if line not in self._warned:
            self._warned.add(line)
            _log.warning("%s", line)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for reading: that of `one_read` inside such a block, otherwise a new one."""
        shared: Connection | None = getattr(self._local, "connection", None)
        with mapped_errors(self.file):
            if shared is not None:
                yield shared
                return
            with self._opened().connect() as connection:
                yield connection

    @contextmanager
    def one_read(self) -> Iterator[None]:
        """Make all reads of this thread in the context one transaction, so that they see one state of the catalog."""
        if getattr(self._local, "connection", None) is not None:
            yield
            return
        with mapped_errors(self.file):
            connection = self._opened().connect()
        try:  # errors of the caller's block aren't mapped
            with mapped_errors(self.file):
                connection.exec_driver_sql("BEGIN")  # otherwise the driver begins at the first change
            self._local.connection = connection
            yield
        finally:
            self._local.connection = None
            connection.close()

    @contextmanager
    def write(self, *, at_once: bool = False) -> Iterator[Connection]:
        """Yield a connection whose changes are committed together.

        With `at_once`, the transaction is exclusive from the start, so that the rows it reads can't change meanwhile.
        """
        with mapped_errors(self.file), self._opened().begin() as connection:
            if at_once:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # otherwise the driver begins at the first change
            yield connection

    def shrink(self) -> None:
        """Return the space of deleted rows to the disk. Meanwhile, the file's size is needed once more."""
        with mapped_errors(self.file), self._opened().connect() as opened:
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _identity(path: str) -> tuple[int, int] | None:
    """Return the identity of a file, which doesn't depend on its name; None if it doesn't exist."""
    try:
        status = os.stat(path)  # noqa: PTH116  called for every transaction
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Part:
    """Base class of the catalog's parts; their segments and embeddings are those of one model."""

    def __init__(self, database: Database, profile_id: int) -> None:
        self._database = database
        self._read = database.read
        self.one_read = database.one_read
        self._write = database.write
        self.profile_id = profile_id
