"""The exception tree. Every message is one line that names the thing and the remedy.

    MMSearchError
    ├── UsageError          what was asked can't be done as asked
    │   ├── QueryError      a term, weight, filter or k makes no sense
    │   └── ModelError      no such profile or space, or it doesn't take this modality
    ├── LibraryError        the library on disk
    │   ├── NoLibraryError  there is none here
    │   ├── LockedError     another process is writing to it
    │   ├── CatalogError    the catalog can't be read or written
    │   └── DamagedIndexError  a file of an index isn't what was written
    └── MediaError          a file can't be decoded; an index run records it and goes on
        └── ReadError       it can't be read at the moment: another time it may be

Foreign exceptions are mapped where they enter: Pillow's in `media/`, SQLAlchemy's in `catalog/`, FAISS's in `vectors/`.
"""


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


class CatalogError(LibraryError):
    """The catalog can't be read or written."""


class DamagedIndexError(LibraryError):
    """A file of a vector index isn't what was written: the index is rebuilt from the catalog."""


class MediaError(MMSearchError):
    """A file can't be decoded."""


class ReadError(MediaError):
    """A file can't be read at the moment, or changed meanwhile: another time it may be."""


def one_line(error: object, most: int = 160) -> str:
    """Return what a foreign error says, in one line of at most so many characters."""
    return " ".join(str(error).split())[:most]
