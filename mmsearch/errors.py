"""The exception tree. Every message is one line that names the thing and the remedy.

    MMSearchError
    ├── UsageError          what was asked can't be done as asked
    │   ├── QueryError      a term, weight, filter or k makes no sense
    │   └── ModelError      no such profile or space, or it doesn't take this modality
    ├── LibraryError        the library on disk
    │   ├── NoLibraryError  there is none here
    │   ├── LockedError     another process is writing to it
    │   ├── LinkError       a link lies where the library keeps files of its own
    │   ├── CatalogError    the catalog can't be read or written
    │   └── DamagedIndexError  a file of an index isn't what was written
    └── MediaError          a file can't be decoded; an index run records it and goes on
        └── ReadError       it can't be read at the moment: another time it may be

Foreign exceptions are mapped where they enter: Pillow's in `media/`, SQLAlchemy's in `catalog/`, FAISS's in `vectors/`.
"""

import errno

from mmsearch.printable import printable


class MMSearchError(Exception):
    """Base of every error that mmsearch raises on purpose."""


class UsageError(MMSearchError, ValueError):
    """What was asked can't be done as asked."""


class QueryError(UsageError):
    """A term, a weight, a filter or k makes no sense."""


class ModelError(UsageError):
    """There is no such profile or space, or it doesn't take this modality."""


class LibraryError(MMSearchError):
    """The library on disk can't be used."""


class NoLibraryError(LibraryError):
    """There is no library at this place."""


class LockedError(LibraryError):
    """Another process is writing to the library."""


class LinkError(LibraryError):
    """A link lies where the library keeps files of its own."""


class CatalogError(LibraryError):
    """The catalog can't be read or written."""


class DamagedIndexError(LibraryError):
    """A file of a vector index isn't what was written: the index is rebuilt from the catalog."""


class MediaError(MMSearchError):
    """A file can't be decoded."""


class ReadError(MediaError):
    """A file can't be read at the moment, or changed meanwhile: another time it may be."""


_REMEDIES = (
    ((errno.EACCES, errno.EPERM), "check its permissions"),
    ((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    ((errno.ENOMEM,), "close other programs, or use --workers 1"),
    ((errno.ENOSPC, errno.EDQUOT), "make room on the disk and run it again"),
    ((errno.EROFS,), "make the disk writable, or use another"),
    ((errno.ENAMETOOLONG,), "shorten its name, or move it further up"),
    ((errno.ELOOP,), "mend or remove the link"),
    ((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN), "check the disk"),
)


def why(error: OSError, otherwise: str = "mend that and run it again") -> str:
    """Return what the operating system says, and what to do about it: "permission denied; check its permissions"."""
    remedy = next((remedy for numbers, remedy in _REMEDIES if error.errno in numbers), otherwise)
    return f"{one_line(error.strerror or error).lower() or type(error).__name__}; {remedy}"


def one_line(error: object, most: int = 160) -> str:
    """Return what a foreign error says, in one line of at most so many characters that can all be seen."""
    return printable(" ".join(str(error).split()))[:most]
