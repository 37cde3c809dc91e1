"""A catalog's file and the connections to it, and what every part of the catalog starts from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from mmsearch.catalog import schema
from mmsearch.errors import CatalogError

_log = logging.getLogger("mmsearch")


class Database:
    """Opens connections to one file, each for one transaction, until it is closed."""

    def __init__(self, file: Path, *, create: bool) -> None:
        self.file = file
        self._engine = schema.connect(file, create=create)
        self._closed = False
        self._warned: set[str] = set()

    def close(self) -> None:
        """Close every connection; none can be opened afterwards."""
        self._closed = True
        self._engine.dispose()

    def reopen(self) -> None:
        """Open new connections from now on."""
        self._engine.dispose()

    def _opened(self) -> Engine:
        if self._closed:
            raise CatalogError(f"{self.file} was closed; open the library again")
        return self._engine

    def warn(self, line: str) -> None:
        """Warn of something once, however often it is met."""
        if line not in self._warned:
            self._warned.add(line)
            _log.warning("%s", line)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection to read with."""
        with schema.mapped_errors(self.file), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, at_once: bool = False) -> Iterator[Connection]:
        """Give a connection whose changes are committed together; `at_once`, what it reads can't change meanwhile."""
        with schema.mapped_errors(self.file), self._opened().begin() as connection:
            if at_once:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver by itself begins at the first change
            yield connection

    def shrink(self) -> None:
        """Give the space of what was deleted back to the disk. Takes as much again while it runs."""
        with schema.mapped_errors(self.file), self._opened().connect() as opened:
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


class Part:
    """A part of the catalog: what it says of segments and embeddings is what one profile has made."""

    def __init__(self, database: Database, profile_id: int) -> None:
        self._database = database
        self._read = database.read
        self._write = database.write
        self.profile_id = profile_id
