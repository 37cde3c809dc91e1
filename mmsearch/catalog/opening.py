"""How `catalog.sqlite` is made and opened: only where it is missing, and only if it is a catalog of mmsearch.

A library may come from anyone, and a file of this name may be anything. So before SQLite opens it, it must be a regular
file; and before it is used, its tables must be those of a catalog. A view in the place of a table could run for ever,
and another program's database must not get tables of ours.
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
"""What SQLite adds to the catalog's name for the files that it keeps next to it."""
WAIT_S = 30.0
"""How long a statement waits for another process's transaction."""
LONGEST_VALUE = 64 * 2**20
"""Largest value or row in bytes. The longest text that mmsearch reads has 32 MiB."""
_RESTORE = "run 'mmsearch doctor --repair', restore a copy of it, or move it away and run 'mmsearch index'"
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "ignore_check_constraints = ON",  # mmsearch has none, and one of a stranger's could run for ever
    "trusted_schema = OFF",  # a function that changes something isn't called by a view, a default or an index
    "cache_size = -32768",  # KiB
)

Fill = Callable[[Connection], object]


def connect(file: Path, *, create: bool, fill: Fill | None = None) -> Engine:
    """Open a catalog, and migrate its tables if it is of an older version. Raises `CatalogError`.

    Only with `create` is a missing file made, with what `fill` writes into it.
    """
    with mapped_errors(file):
        if not os.path.lexists(file):
            if not create:
                raise CatalogError(f"{file} is missing; run 'mmsearch index' to make it again")
            _make(file, fill)
        real = real_file(file)
        if real.stat().st_size == 0:
            raise CatalogError(f"{file} is empty; {_RESTORE}")
        immutable = _is_read_only(real)  # SQLite couldn't make its shared memory there
        options = "immutable=1" if immutable else "mode=rw"
        if is_link(file):
            with closing(_open(real, "immutable=1")) as connection:  # nothing of a stranger's is changed
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
    # In these modes SQLite never makes the file.
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
    """Return where the catalog lies, following a link. Raises `CatalogError` unless every file of it is regular."""
    real = Path(os.path.realpath(file)) if is_link(file) else file
    try:
        status = real.lstat()
    except FileNotFoundError:
        raise CatalogError(f"{file} is a link to nothing; remove it, or put back what it names") from None
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
    """Return whether a catalog lies on a medium that nobody can write, and was closed properly before it came there."""
    log = real.with_name(f"{real.name}-wal")
    if not hasattr(os, "statvfs") or (log.exists() and log.stat().st_size):
        return False
    return bool(os.statvfs(real).f_flag & os.ST_RDONLY)


def _bring_up(file: Path, engine: Engine, *, immutable: bool) -> None:
    """Check a catalog, and take it to the current version. Raises `CatalogError`."""
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        older = _check(file, raw) < schema.SCHEMA_VERSION
        if older and immutable:
            raise CatalogError(f"{file} is of an older mmsearch and can't be brought up to date where it lies; copy it")
        if older:
            from mmsearch.catalog.migrations import bring_up  # few catalogs need it

            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver by itself begins none for DDL
            bring_up(connection)
            _check(file, raw)
            connection.commit()
        if not immutable:
            _set_up(raw, None)  # not before: it changes the file


# Making


def _make(file: Path, fill: Fill | None) -> None:
    """Make a catalog under a temporary name, and give it its own: killed anywhere, there is all of it or nothing."""
    for end in BESIDE:  # a log without its catalog would be read into the new one
        if os.path.lexists(other := file.with_name(file.name + end)):
            raise CatalogError(f"{other} belongs to a catalog that is gone; restore that, or remove this file")
    temporary = file.with_name(f".{file.name}.{secrets.randbelow(10**9)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
    try:
        engine = create_engine("sqlite://", creator=lambda: _open(temporary, "mode=rw"), poolclass=QueuePool)
        with engine.begin() as connection:
            for pragma in ("page_size = 16384", "journal_mode = OFF", "synchronous = FULL"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")  # a page of 16 KiB holds about thirty vectors
            schema.create(connection)
            if fill is not None:
                fill(connection)
        engine.dispose()
        _publish(temporary, file)
        sync_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, file: Path) -> None:
    """Give a new catalog its name, unless another process was sooner."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        return
    except (OSError, NotImplementedError, AttributeError):  # a file system without hard links
        if not os.path.lexists(file):
            temporary.rename(file)


# Checking


def _check(file: Path, connection: sqlite3.Connection) -> int:
    """Return the schema version of a catalog. Raises `CatalogError` unless it holds the tables of that, and no more."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > schema.SCHEMA_VERSION:
        raise CatalogError(f"{file} was written by a newer mmsearch (schema {version}); upgrade mmsearch to use it")
    made: dict[str, str] = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 1000"):
        virtual = str(sql).upper().startswith("CREATE VIRTUAL")
        if kind not in ("table", "index") or (virtual and (name, sql) != (schema.FULL_TEXT, schema.FULL_TEXT_SQL)):
            raise _foreign(file, f"it holds the {'virtual ' if virtual else ''}{kind} {name!r}")
        if not str(name).startswith("sqlite_"):
            made[str(name)] = _plain(str(sql))
    known = {table.name for table in schema.metadata.sorted_tables}
    if not made:
        raise CatalogError(f"{file} holds no tables; {_RESTORE}")
    if version < 1 or not {"setting", "media", "content", "segment", "embedding"} <= made.keys():
        raise _foreign(file, "it lacks the tables of a catalog")
    if version == schema.SCHEMA_VERSION:
        wanted = known | _INDEXES.keys() | schema.FULL_TEXT_COLUMNS.keys() | {schema.FULL_TEXT}
        if made.keys() != wanted:
            odd = min(made.keys() ^ wanted)
            raise _foreign(file, f"it {'holds' if odd in made else 'lacks'} {odd!r}")
        _check_columns(file, connection)
        if odd_indexes := [name for name, sql in _INDEXES.items() if made[name] != sql]:
            raise _foreign(file, f"its index {odd_indexes[0]!r} is another")
    return version


def _check_columns(file: Path, connection: sqlite3.Connection) -> None:
    columns = connection.execute(
        'SELECT m.name, c.name, c."notnull", c.pk > 0, c.hidden, c.dflt_value '
        "FROM sqlite_master AS m, pragma_table_xinfo(m.name) AS c "
        "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!' AND m.sql NOT LIKE 'CREATE VIRTUAL%' "
        "LIMIT 1000"
    )
    held: dict[str, set[tuple[str, bool, bool, bool]]] = {}
    for table, name, not_null, primary, hidden, default in columns:
        if "(" in str(default):  # an expression, which could run for ever
            raise _foreign(file, f"its table {table!r} computes {name!r}")
        held.setdefault(table, set()).add((name, bool(not_null), bool(primary), bool(hidden)))
    for table in schema.metadata.sorted_tables:
        wanted = {(c.name, not c.nullable, c.primary_key, False) for c in table.columns}
        if held.get(table.name) != wanted:
            raise _foreign(file, f"its table {table.name!r} has other columns")
    for name, columns_of_fts in schema.FULL_TEXT_COLUMNS.items():
        if {column[0] for column in held.get(name, ())} != columns_of_fts:
            raise _foreign(file, f"its table {name!r} has other columns")


def _plain(sql: str) -> str:
    """Return a statement as it can be compared: with single spaces and without quotes."""
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
    """Turn the errors of SQLite and of odd rows into one-line `CatalogError`s that name the file and the remedy."""
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
        raise kind(f"{error.filename or file}: {error.strerror or error}; mend that and try again") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        # What the catalog gives was converted to what mmsearch writes there.
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
        "a text in it is damaged": "run 'mmsearch index' to mend it",
        "attempt to write a readonly database": "make the library's folder writable",
        "unable to open database file": "check that the library's folder exists and may be read and written",
        "database is locked": "another process has been writing to it for long; try again",
    }.get(reason, "check the disk, then run the same command again")


def full_temporary_folder(file: Path) -> Path | None:
    """Return the folder that SQLite puts temporary files in if it is full, and the disk of the catalog isn't."""
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
