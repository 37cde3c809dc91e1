"""The folder of a library, with its catalog's file and its lock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mmsearch.errors import LinkError, UsageError, unwritable
from mmsearch.files import Layout, is_link, remove_own
from mmsearch.locking import LOCK_WAIT_S, Identity, identity_of, write_lock
from mmsearch.paths import expand

CATALOG = "catalog.sqlite"
_TEMPORARY = Layout(re.compile(rf"\.{re.escape(CATALOG)}\.\d+"))
"""Leftovers of a process that was killed while it created a catalog."""
_MARKS_OF_A_LIBRARY = ("indexes", "adapted", "catalog.seal")
"""Names next to the catalog of a library in use. A catalog that was only moved to another disk has none of them."""


def default_folder() -> Path:
    """Return the default library: `$MMSEARCH_LIBRARY`, else one in the user's data folder."""
    if named := os.environ.get("MMSEARCH_LIBRARY"):
        return Path(named)
    import platformdirs  # not needed if a library is named

    return platformdirs.user_data_path("mmsearch", appauthor=False) / "default"


@contextmanager
def _both(first: AbstractContextManager[None], second: AbstractContextManager[None]) -> Iterator[None]:
    with first, second:
        yield


class LibraryFolder:
    """The folder of one library. Its path is absolute, so that a change of the working directory has no effect."""

    def __init__(self, folder: str | Path | None) -> None:
        self.path = (expand(folder) if folder is not None else default_folder()).absolute()
        self.catalog = self.path / CATALOG
        self._identity: Identity | None = None
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{self.path} isn't valid UTF-8, which FAISS needs; choose another --library") from None

    @property
    def has_catalog(self) -> bool:
        """Whether anything has the name of the catalog, even a broken link."""
        return os.path.lexists(self.catalog)

    def make(self) -> None:
        """Make the folder if it is missing. Raises `LibraryError`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.path} can't be made: {error.strerror}; choose another --library"
            raise unwritable(error, message) from error

    def remember(self) -> None:
        """Record the identity of the folder; `lock` refuses another folder that has replaced it."""
        self._identity = identity_of(self.path)

    def lock(self, command: str, wait_s: float = LOCK_WAIT_S) -> AbstractContextManager[None]:
        """Hold the library's lock: see `write_lock`. If the catalog is a link, its target's folder is locked as well.

        Raises `LinkError` if the target is the catalog of another library, since both would write to it.
        """
        own = write_lock(self.path, wait_s, command=command, identity=self._identity)
        if not is_link(self.catalog):
            return own
        home = Path(os.path.realpath(self.catalog)).parent
        if any(os.path.lexists(home / name) for name in _MARKS_OF_A_LIBRARY):
            raise LinkError(f"{self.catalog} is a link to the catalog of another library; use --library {home}")
        return _both(own, write_lock(home, wait_s, command=command))

    def tidy(self) -> None:
        """Remove temporary files of killed processes from the folder itself. The caller holds the lock."""
        remove_own(self.path, self.path, _TEMPORARY, lambda _: True)
