"""Library: a folder with a catalog and its vector indexes. What the command line and users call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from mmsearch.catalog import Catalog
from mmsearch.engine import Answer, Engine
from mmsearch.errors import LibraryError, LockedError, ModelError, NoLibraryError, UsageError
from mmsearch.indexes import Indexes
from mmsearch.paths import expand
from mmsearch.query import Query, make_query
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import Vectors, load_profile, resolve_name
from mmsearch.terms import embed_items
from mmsearch.types import Failure, Hit, IndexReport, Modality, Progress, Stage, Status, Term

CATALOG = "catalog.sqlite"
_LOCK_WAIT_S = 2.0
"""How long a writer waits: a query that catches an index up is done sooner, an index run isn't."""


def default_folder() -> Path:
    """Return the library that is meant where none is named: `$MMSEARCH_LIBRARY`, else one in the user's data folder."""
    if named := os.environ.get("MMSEARCH_LIBRARY"):
        return Path(named)
    import platformdirs  # a library that is named needs none of this

    return platformdirs.user_data_path("mmsearch", appauthor=False) / "default"


class Library:
    """A library of media that can be indexed and asked.

    Many processes may read it while one writes. Open it with `mmsearch.open`; it is a context manager.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        model: str = "auto",
        *,
        create: bool = True,
        settings: Settings | None = None,
    ) -> None:
        """Open the library in `folder`, making it if `create`; a new one uses the profile `model` from then on.

        Raises `NoLibraryError` where there is none, `ModelError` for an unknown model or for one that differs from an
        existing library's.
        """
        self.folder = expand(folder) if folder is not None else default_folder()
        try:
            str(self.folder).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{self.folder} isn't valid UTF-8, which FAISS needs; choose another --library") from None
        self._settings = settings or Settings()
        name = resolve_name(model)
        if not create and not (self.folder / CATALOG).is_file():
            raise NoLibraryError(
                f"there is no library in {self.folder}; make one with 'mmsearch index PATH --library {self.folder}'"
            )
        profile = load_profile(name, self._settings.device)  # what can't be used makes no library
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"{self.folder} can't be made: {error.strerror}; choose another --library") from error
        self._catalog = Catalog(self.folder / CATALOG, create=create)
        known = self._catalog.profile or self._catalog.set_profile(name)
        if model != "auto" and known != name:
            self.close()
            raise ModelError(
                f"{self.folder} uses the model {known!r}, not {name!r}; leave --model out, or choose another --library"
            )
        self._profile = profile if known == name else load_profile(known, self._settings.device)
        self._indexes = Indexes(self._catalog, self.folder / "indexes", lambda: self._lock(0.0))
        self._engine = Engine(self._catalog, self._profile, self._indexes, self._settings.limits)

    @property
    def profile(self) -> str:
        """The name of the library's profile."""
        return self._profile.name

    def index(
        self,
        *paths: str | Path,
        exclude: Iterable[str] = (),
        prune: bool = False,
        retry: bool = False,
        progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> IndexReport:
        """Bring the library to what the files and folders at `paths` hold; what lies elsewhere stays as it is.

        `exclude` are globs of names or of paths below a root. `prune` also drops media below folders that suddenly
        show nothing, `retry` tries failed files again that didn't change. `progress` is called after every batch;
        setting `stop` ends the run early with what is ready. One bad file never stops a run: see `failures`.
        Raises `UsageError` for a path that doesn't exist, `LockedError` while another process writes.
        """
        from indexer import IndexOptions, run  # the way back: nothing else of mmsearch knows the indexer

        if not paths:
            raise UsageError("nothing to index; name at least one file or folder")
        options = IndexOptions(tuple(exclude), prune, retry, skip=self.folder)
        roots = [expand(path) for path in paths]
        with self._lock(_LOCK_WAIT_S):
            report = run(self._catalog, self._profile, roots, self._settings, options, progress, stop)
            self._indexes.catch_up(self._profile)
        return report

    def query(
        self,
        terms: str | Path | Term | Sequence[str | Path | Term],
        k: int = 10,
        *,
        modalities: str | Collection[str | Modality] | None = None,
        rerank: bool | None = None,
        cut: bool = False,
    ) -> list[Hit]:
        """Return up to `k` hits, best first: one a content, at its best segment.

        A str is always a text, a Path always a file, a `Term` either with a weight; several are combined into one
        query. `modalities` filters the kind of file. `rerank` None leaves agreement re-ranking to the direction's
        default; `cut` hides near-duplicates. Raises `QueryError`, and `MediaError` for a file that can't be read.
        """
        return self.answer(make_query(terms, k, modalities, rerank, cut)).hits

    def answer(self, query: Query) -> Answer:
        """Return the hits of a query, and how many were hidden."""
        return self._engine.answer(query)

    def embed(self, items: str | Path | Iterable[str | Path]) -> Vectors:
        """Return (n, dim) float32, L2-normalised, in input order: see `mmsearch.embed`."""
        return embed_items(items, self._profile, self._settings.limits)

    def forget(self, *paths: str | Path) -> int:
        """Take files, or all below folders, out of the library; the files themselves stay. Returns how many.

        Raises `UsageError`, before anything changes, where the library holds nothing at a path.
        """
        roots = [os.path.abspath(os.fsencode(expand(path))) for path in paths]  # noqa: PTH100
        with self._lock(_LOCK_WAIT_S):
            known: list[bytes] = []
            for root in roots:
                media = [row.path for row in self._catalog.media_under(root)]
                failed = [row.path for row in self._catalog.failures_under(root)]
                if not media and not failed:
                    raise UsageError(f"the library holds nothing at {os.fsdecode(root)}; nothing was changed")
                known += media + failed
            removed = self._catalog.remove(known)
            self._catalog.drop_orphans()
            self._indexes.catch_up(self._profile)
        return removed

    def status(self) -> Status:
        """Return what the library holds, and the state of its indexes."""
        return Status(
            library=self.folder.absolute(),
            profile=self._profile.name,
            media=self._catalog.count_media(),
            segments=self._catalog.count_segments(),
            failures=len(self._catalog.failures_under()),
            indexes=self._indexes.status(self._profile),
            bytes=sum(_size(file) for file in self.folder.rglob("*")),
            outdated=self.outdated(),
            unfinished=self._catalog.count_unfinished(),
        )

    def outdated(self) -> int:
        """Return how many files were embedded by another version of the model, and aren't found until indexed again."""
        return self._catalog.count_outdated(self._profile.key)

    def failures(self) -> list[Failure]:
        """Return the files that can't be indexed as they are, by path."""
        return [
            Failure(Path(os.fsdecode(row.path)), Stage(row.stage), row.reason) for row in self._catalog.failures_under()
        ]

    def close(self) -> None:
        """Close the catalog."""
        self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _lock(self, wait_s: float) -> Iterator[None]:
        from filelock import FileLock, Timeout  # only writers pay for it

        lock = FileLock(self.folder / "write.lock")
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise LockedError(
                f"another process is writing to {self.folder}; wait until it has finished, then run this again"
            ) from None
        except (OSError, NotImplementedError) as error:  # filelock knows file systems that can't lock
            reason = getattr(error, "strerror", None) or error
            raise LibraryError(f"{self.folder} can't be locked for writing ({reason}); make it writable") from error
        try:
            yield
        finally:
            lock.release()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # a writer has just replaced it
        return 0


def open(path: str | Path | None = None, model: str = "auto", *, settings: Settings | None = None) -> Library:
    """Open the library at `path`, making it on first use; None is the default library.

    `model` names the profile of a new library: "auto", "mini", ... An existing one keeps its own.
    Raises `ModelError` where `model` is unknown or another than the library's.
    """
    return Library(path, model, settings=settings)


def embed(items: str | Path | Iterable[str | Path], model: str = "auto") -> Vectors:
    """Embed texts (str) and files (Path) in one space, without a library.

    Returns (n, dim) float32, L2-normalised rows, in input order, by the profile's first space that takes every item.
    The passages of a long text are averaged; a clip gives its visual view. Raises `ModelError` where no space does,
    `MediaError` for a bad file.
    """
    return embed_items(items, load_profile(model), Limits())
