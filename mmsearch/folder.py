"""The folder of a library: where it lies, where its catalog does, and its lock."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path

from mmsearch.errors import UsageError, unwritable
from mmsearch.files import Layout, remove_own
from mmsearch.locking import LOCK_WAIT_S, Identity, identity_of, write_lock
from mmsearch.paths import expand

CATALOG = "catalog.sqlite"
_TEMPORARY = Layout(re.compile(rf"\.{re.escape(CATALOG)}\.\d+"))
"""What a process that was killed while it made a catalog has left."""


def default_folder() -> Path:
    """Return the library that is meant where none is named: `$MMSEARCH_LIBRARY`, else one in the user's data folder."""
    if named := os.environ.get("MMSEARCH_LIBRARY"):
        return Path(named)
    import platformdirs  # a library that is named needs none of this

    return platformdirs.user_data_path("mmsearch", appauthor=False) / "default"


class LibraryFolder:
    """The folder of one library. Its path is absolute: another working folder doesn't take anything elsewhere."""

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
        """Whether there is anything in the catalog's place, whatever it is."""
        return os.path.lexists(self.catalog)

    def make(self) -> None:
        """Make the folder if it is missing. Raises `LibraryError`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self.path} can't be made: {error.strerror}; choose another --library"
            raise unwritable(error, message) from error

    def remember(self) -> None:
        """Note which folder this is: `lock` refuses whatever comes to lie in its place."""
        self._identity = identity_of(self.path)

    def lock(self, command: str, wait_s: float = LOCK_WAIT_S) -> AbstractContextManager[None]:
        """Hold the library's lock: see `write_lock`."""
        return write_lock(self.path, wait_s, command=command, identity=self._identity)

    def tidy(self) -> None:
        """Remove what killed processes left directly in the folder. The caller holds the lock."""
        remove_own(self.path, self.path, _TEMPORARY, lambda _: True)
