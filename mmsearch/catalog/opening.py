"""Creates `catalog.sqlite` if it is missing, and opens it only if it is a catalog of mmsearch.

A library may come from anyone, and a file of this name may be anything. So it must be a regular file before SQLite
opens it, and have exactly the tables of a catalog before it is used. A view instead of a table could run for ever, and
another program's database must not be changed.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, Table, create_engine, event
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from mmsearch.catalog import schema
from mmsearch.errors import FULL, CatalogError, CatalogFullError, MMSearchError, one_line
from mmsearch.files import is_link, sync_folder

BESIDE = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps next to the catalog."""
WAIT_S = 30.0
"""How long a statement waits for another process's transaction."""
LONGEST_VALUE = 64 * 2**20
"""Largest value or row in bytes. The longest text that mmsearch reads has 32 MiB."""
_RESTORE = "run 'mmsearch doctor --repair', restore a copy of it, or move it away and run 'mmsearch index'"
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "ignore_check_constraints = ON",  # mmsearch has none, and a hostile one could run for ever
    "trusted_schema = OFF",  # views, defaults and indexes can't call functions with side effects
    "cache_size = -32768",  # KiB
)

Fill = Callable[[Connection], object]


def connect(file: Path, *, create: bool, fill: Fill | None = None) -> Engine:
    """Open a catalog, and migrate it if it is of an older version. Raises `CatalogError`.

    With `create`, a missing file is created, and `fill` writes its first rows.
    """
    with mapped_errors(file):
        if not os.path.lexists(file):
            if not create:
                raise CatalogError(f"{file} is missing; run 'mmsearch index' to make it again")
            _make(file, fill)
        real = real_file(file)
        if real.stat().st_size == 0:
            raise CatalogError(f"{file} is empty; {_RESTORE}")
        immutable = _is_read_only(real)  # SQLite can't create its shared memory on a read-only disk
        options = "immutable=1" if immutable else "mode=rw"
        if is_link(file):
            with closing(_open(real, "immutable=1")) as connection:  # its target may be another program's database
                _check(file, connection)
        engine = create_engine("sqlite://", creator=lambda: _open(real, options), poolclass=QueuePool)
        try:
            _bring_up(file, engine, immutable=immutable)
        except BaseException:
            engine.dispose()
            raise
        if not immutable:
            event.listen(engine, "connect", _set_up)
        return engine


def _open(real: Path, options: str) -> sqlite3.Connection:
    # In these modes SQLite never creates the file.
    name = f"file:{quote(os.fsencode(real))}?{options}"
    connection = sqlite3.connect(name, timeout=WAIT_S, uri=True, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    return connection


def _set_up(connection: Any, _record: object) -> None:  # noqa: ANN401  a DBAPI connection has no common type
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def real_file(file: Path) -> Path:
    """Return the catalog's file after following a link. Raises `CatalogError` unless all its files are regular."""
    real = Path(os.path.realpath(file)) if is_link(file) else file
    try:
        status = real.lstat()
    except FileNotFoundError:
        raise CatalogError(f"{file} is a broken link; remove it, or restore its target") from None
    except OSError as error:
        raise CatalogError(f"{file} can't be read ({error.strerror}); make it readable") from error
    if not stat.S_ISREG(status.st_mode):
        raise CatalogError(f"{file} isn't a regular file; move it away, and restore a copy of the catalog if you can")
    for end in BESIDE:
        other = real.with_name(real.name + end)
        try:
            regular = stat.S_ISREG(other.lstat().st_mode)
        except OSError:
            continue
        if not regular:
            raise CatalogError(f"{other} isn't a regular file; move it away and run the same command again")
    return real


def _is_read_only(real: Path) -> bool:
    """Return whether a catalog is on a read-only disk and was closed properly before."""
    log = real.with_name(f"{real.name}-wal")
    if not hasattr(os, "statvfs") or (log.exists() and log.stat().st_size):
        return False
    return bool(os.statvfs(real).f_flag & os.ST_RDONLY)


def _bring_up(file: Path, engine: Engine, *, immutable: bool) -> None:
    """Check a catalog, and migrate it to the current version. Raises `CatalogError`."""
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        older = _check(file, raw) < schema.SCHEMA_VERSION
        if older and immutable:
            raise CatalogError(f"{file} is of an older mmsearch and can't be migrated on a read-only disk; copy it")
        if older:
            from mmsearch.catalog.migrations import bring_up  # few catalogs need it

            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver doesn't begin a transaction for DDL
            bring_up(connection)
            _check(file, raw)
            connection.commit()
        if not immutable:
            _set_up(raw, None)  # only now, since it changes the file


# Making


def _make(file: Path, fill: Fill | None) -> None:
    """Create a catalog under a temporary name and rename it, so that a killed process leaves all of it or nothing."""
    for end in BESIDE:  # SQLite would apply a log without its catalog to the new one
        if os.path.lexists(other := file.with_name(file.name + end)):
            raise CatalogError(f"{other} belongs to a missing catalog; restore that, or remove this file")
    temporary = file.with_name(f".{file.name}.{secrets.randbelow(10**9)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
    try:
        engine = create_engine("sqlite://", creator=lambda: _open(temporary, "mode=rw"), poolclass=QueuePool)
        with engine.begin() as connection:
            for pragma in ("page_size = 16384", "journal_mode = OFF", "synchronous = FULL"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")  # a page of 16 KiB has room for about thirty vectors
            schema.create(connection)
            if fill is not None:
                fill(connection)
        engine.dispose()
        _publish(temporary, file)
        sync_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, file: Path) -> None:
    """Rename a new catalog to its final name, unless another process has created one meanwhile."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        return
    except (OSError, NotImplementedError, AttributeError):  # the file system has no hard links
        if not os.path.lexists(file):
            temporary.rename(file)


# Checking


def _check(file: Path, connection: sqlite3.Connection) -> int:
    """Return the schema version of a catalog. Raises `CatalogError` unless it has exactly that version's tables."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > schema.SCHEMA_VERSION:
        raise CatalogError(f"{file} was written by a newer mmsearch (schema {version}); upgrade mmsearch to use it")
    objects: dict[str, str] = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 1000"):
        virtual = str(sql).upper().startswith("CREATE VIRTUAL")
        if kind not in ("table", "index") or (virtual and (name, sql) != (schema.FULL_TEXT, schema.FULL_TEXT_SQL)):
            raise _foreign(file, f"it holds the {'virtual ' if virtual else ''}{kind} {name!r}")
        if not str(name).startswith("sqlite_"):
            objects[str(name)] = _plain(str(sql))
    known = {table.name for table in schema.metadata.sorted_tables}
    if not objects:
        raise CatalogError(f"{file} holds no tables; {_RESTORE}")
    if version < 1 or not {"setting", "media", "content", "segment", "embedding"} <= objects.keys():
        raise _foreign(file, "it lacks the tables of a catalog")
    if version == schema.SCHEMA_VERSION:
        wanted = known | _INDEXES.keys() | schema.FULL_TEXT_COLUMNS.keys() | {schema.FULL_TEXT}
        if objects.keys() != wanted:
            first = min(objects.keys() ^ wanted)
            raise _foreign(file, f"it {'holds' if first in objects else 'lacks'} {first!r}")
        _check_columns(file, connection)
        if different := [name for name, sql in _INDEXES.items() if objects[name] != sql]:
            raise _foreign(file, f"its index {different[0]!r} has another definition")
    return version


def _check_columns(file: Path, connection: sqlite3.Connection) -> None:
    columns = connection.execute(
        'SELECT m.name, c.name, c."notnull", c.pk > 0, c.hidden, c.dflt_value '
        "FROM sqlite_master AS m, pragma_table_xinfo(m.name) AS c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!' AND m.sql NOT LIKE 'CREATE VIRTUAL%' "
        "LIMIT 1000"
    )
    existing: dict[str, set[tuple[str, bool, bool, bool]]] = {}
    for table, name, not_null, primary, hidden, default in columns:
        if "(" in str(default):  # an expression, which could run for ever
            raise _foreign(file, f"its table {table!r} computes {name!r}")
        existing.setdefault(table, set()).add((name, bool(not_null), bool(primary), bool(hidden)))
    for table in schema.metadata.sorted_tables:
        wanted = {(c.name, not c.nullable, c.primary_key, False) for c in table.columns}
        if existing.get(table.name) != wanted:
            raise _foreign(file, f"its table {table.name!r} has other columns")
    for name, columns_of_fts in schema.FULL_TEXT_COLUMNS.items():
        if {column[0] for column in existing.get(name, ())} != columns_of_fts:
            raise _foreign(file, f"its table {name!r} has other columns")


def _plain(sql: str) -> str:
    """Return a statement in a comparable form: with single spaces and without quotes."""
    return " ".join(sql.replace('"', "").split())


def _index_sql(table: Table) -> Iterator[tuple[str, str]]:
    for index in table.indexes:
        columns = ", ".join(column.name for column in index.columns)
        unique = "UNIQUE " if index.unique else ""
        yield str(index.name), f"CREATE {unique}INDEX {index.name} ON {table.name} ({columns})"


_INDEXES = {name: sql for table in schema.metadata.sorted_tables for name, sql in _index_sql(table)}


def _foreign(file: Path, reason: str) -> CatalogError:
    return CatalogError(f"{file} isn't a catalog of mmsearch ({one_line(reason, 80)}); {_RESTORE}")


# Errors


@contextmanager
def mapped_errors(file: Path) -> Iterator[None]:
    """Map errors of SQLite and of invalid rows to one-line `CatalogError`s that name the file and the remedy."""
    try:
        yield
    except MMSearchError:
        raise
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())
        if reason.startswith("Could not decode to UTF-8"):
            reason = "a text in it is damaged"
        kind = CatalogFullError if reason == "database or disk is full" else CatalogError
        raise kind(f"{file}: {reason}; {_remedy(reason, file)}") from error
    except SQLAlchemyError as error:
        raise CatalogError(f"{file}: {one_line(error, 200)}") from error
    except OSError as error:
        kind = CatalogFullError if error.errno in FULL else CatalogError
        raise kind(f"{error.filename or file}: {error.strerror or error}; fix that and try again") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        # A value of the catalog couldn't be converted: mmsearch doesn't write such values.
        raise CatalogError(
            f"{file} holds a row that mmsearch didn't write ({one_line(error, 80)}); {_RESTORE}"
        ) from error


def _remedy(reason: str, file: Path) -> str:
    full = reason in ("database or disk is full", "disk I/O error", "unable to open database file")
    if full and (folder := full_temporary_folder(file)):
        return f"the folder for temporary files, {folder}, is full; free some space there, or set SQLITE_TMPDIR"
    return {
        "database or disk is full": "free some space and run the same command again; what was committed is kept",
        "disk I/O error": "check the disk and its free space, then run the same command again",
        "file is not a database": _RESTORE,
        "database disk image is malformed": _RESTORE,
        "string or blob too big": _RESTORE,
        "a text in it is damaged": "run 'mmsearch index' to repair it",
        "attempt to write a readonly database": "make the library's folder writable",
        "unable to open database file": "check that the library's folder exists and may be read and written",
        "database is locked": "another process has been writing to it for long; try again",
    }.get(reason, "check the disk, then run the same command again")


def full_temporary_folder(file: Path) -> Path | None:
    """Return SQLite's folder for temporary files if its disk is full and the catalog's isn't, else None."""
    named = [os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp", "."]
    for name in named:
        if name and os.access(name, os.W_OK | os.X_OK) and Path(name).is_dir():
            with suppress(OSError, AttributeError):  # Windows has no statvfs
                if _free(name) < _LITTLE <= _free(file.parent):
                    return Path(name)
            return None
    return None


_LITTLE = 16 * 2**20


def _free(folder: str | Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
