"""The exception tree, by cause: whose fault it is decides the class. Every message is one line that names the remedy.

    MMSearchError
    ├── UsageError (ValueError)    the caller's: what was asked can't be done as asked
    │   ├── QueryError             a term, weight or k makes no sense
    │   │   └── FilterError        a filter makes no sense; it knows at which character
    │   ├── WrongModelError        also a ModelError: no such model, or it doesn't take this
    │   └── NoItemError            the library holds no item of this number
    ├── ModelError                 the model's: its files aren't those of a model that can be used
    │   ├── WrongModelError
    │   └── ModelUnavailableError  it isn't on this machine, or can't run here: no network, no driver, no package
    │       └── CacheFullError     also a DiskFullError
    ├── LibraryError               the library's, on disk
    │   ├── NoLibraryError         there is none here
    │   ├── LockedError            another process is writing to it
    │   ├── LinkError              a link lies where the library keeps files of its own
    │   ├── CatalogError           the catalog can't be read or written
    │   │   └── CatalogFullError   also a DiskFullError
    │   ├── LibraryFullError       also a DiskFullError
    │   └── DamagedIndexError      a file of an index isn't what was written
    ├── MediaError                 the file's: it can't be decoded; an index run records it and goes on
    │   └── ReadError              it can't be read at the moment: another time it may be
    ├── TrainingError              training came to nothing: its losses aren't finite, or its tower can't be exported
    ├── MissingPackageError        the machine's: a package isn't installed
    └── DiskFullError              the machine's: a disk is full

Foreign exceptions are mapped where they enter: Pillow's in `media/`, SQLAlchemy's in `catalog/`, FAISS's in `vectors/`.
"""

from __future__ import annotations

import errno

from mmsearch.printable import printable


class MMSearchError(Exception):
    """Base of every error that mmsearch raises on purpose."""

    def locate(self, place: object) -> None:
        """Prefix the message with the place of the error: a file, or a line of a file."""
        self.args = (f"{place}: {self}",)


class UsageError(MMSearchError, ValueError):
    """The caller's request can't be carried out as it is."""


class QueryError(UsageError):
    """A term, a weight, a filter or k makes no sense."""


class FilterError(QueryError):
    """A filter makes no sense: `reason` says why, and `position` from which character of `text` on, counted from 0."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        place = f"character {position + 1} of {_excerpt(text)}: " if text else ""
        super().__init__(f"{place}{reason}")
        self.reason, self.text, self.position = reason, text, position

    def within(self, text: str, start: int) -> FilterError:
        """Return the same error in a longer text, in which this one's begins at `start`."""
        return FilterError(self.reason, text, start + self.position)

    def __reduce__(self) -> tuple[type[FilterError], tuple[str, str, int]]:
        return FilterError, (self.reason, self.text, self.position)


def _excerpt(text: str, most: int = 120) -> str:
    return printable(f'"{text if len(text) <= most else text[:most] + "…"}"')


class NoItemError(UsageError):
    """The library holds no item of this number."""


class ModelError(MMSearchError):
    """A model can't be used: its files aren't those of a model that mmsearch can run."""


class WrongModelError(ModelError, UsageError):
    """The model that was named doesn't exist, isn't the library's, or doesn't take what it was given."""


class ModelUnavailableError(ModelError):
    """A model isn't on this machine, or can't run here: no network, no CUDA driver, an unreadable file."""


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
    """A file of a vector index has changed since it was written. The index is rebuilt from the catalog."""


class MediaError(MMSearchError):
    """A file can't be decoded."""


class ReadError(MediaError):
    """A file can't be read now, or changed while it was read. It may be readable later."""


class TrainingError(MMSearchError):
    """A training run can't continue, or its result can't be used."""


class MissingPackageError(MMSearchError):
    """A package that is needed isn't installed; the message names the command that installs it."""


class DiskFullError(MMSearchError):
    """A disk is full: that of a library, or that of the cache of models."""


class CacheFullError(ModelUnavailableError, DiskFullError):
    """The disk of the cache has no room for a model."""


class CatalogFullError(CatalogError, DiskFullError):
    """The disk has no room for a change of the catalog."""


class LibraryFullError(LibraryError, DiskFullError):
    """The disk has no room for the files of a library, such as its indexes."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk or an exhausted quota."""


def unwritable(error: OSError, message: str) -> LibraryError:
    """Return a `LibraryError` for a file that can't be written; a `LibraryFullError` if the disk is full."""
    return LibraryFullError(message) if error.errno in FULL else LibraryError(message)


_REMEDIES = (
    ((errno.EACCES, errno.EPERM), "check its permissions"),
    ((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    ((errno.ENOMEM,), "close other programs, or use --workers 1"),
    (FULL, "make room on the disk and run it again"),
    ((errno.EROFS,), "make the disk writable, or use another"),
    ((errno.ENAMETOOLONG,), "shorten its name, or move it further up"),
    ((errno.ELOOP,), "correct or remove the link"),
    ((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN), "check the disk"),
)


def why(error: OSError, otherwise: str = "fix that and run it again") -> str:
    """Return the operating system's message with a remedy: "permission denied; check its permissions"."""
    remedy = next((remedy for numbers, remedy in _REMEDIES if error.errno in numbers), otherwise)
    return f"{one_line(error.strerror or error).lower() or type(error).__name__}; {remedy}"


def one_line(error: object, most: int = 160) -> str:
    """Return a foreign error's message in one line of at most `most` printable characters."""
    return printable(" ".join(str(error).split()))[:most]
