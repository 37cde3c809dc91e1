"""Library: a folder with a catalog and its vector indexes. What the command line and users call."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mmsearch.adapting import adapt_profile, adapted_folder, called_off_on_failure, convert, tidy
from mmsearch.catalog import Catalog, ProfileRow
from mmsearch.errors import CatalogError, LibraryError, ModelError, NoLibraryError, UsageError
from mmsearch.files import size_of
from mmsearch.indexes import Indexes
from mmsearch.locking import LOCK_WAIT_S, write_lock
from mmsearch.paths import expand
from mmsearch.search.answer import Answer
from mmsearch.search.calibration import Calibration
from mmsearch.search.encode import embed_items
from mmsearch.search.engine import Engine
from mmsearch.search.query import Query, make_query
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import Profile, Vectors, load_profile, resolve_name
from mmsearch.types import AdaptReport, Failure, Hit, IndexReport, Modality, Progress, Stage, Status, Term

CATALOG = "catalog.sqlite"
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Return the library that is meant where none is named: `$MMSEARCH_LIBRARY`, else one in the user's data folder."""
    if named := os.environ.get("MMSEARCH_LIBRARY"):
        return Path(named)
    import platformdirs  # a library that is named needs none of this

    return platformdirs.user_data_path("mmsearch", appauthor=False) / "default"


@dataclass(frozen=True, slots=True)
class Seen:
    """The library as one profile sees it, and answers."""

    catalog: Catalog
    profile: Profile
    indexes: Indexes
    engine: Engine


class Library:
    """A library of media that can be indexed and asked.

    Many processes may read it while one writes. Open it with `mmsearch.open`; it is a context manager.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        model: str | Path = "auto",
        *,
        create: bool = True,
        settings: Settings | None = None,
    ) -> None:
        """Open the library in `folder`, making it if `create`; a new one uses the profile `model` from then on.

        Raises `NoLibraryError` where there is none, `ModelError` for an unknown model or for one that differs from an
        existing library's: only `index` changes that.
        """
        self.folder = expand(folder) if folder is not None else default_folder()
        try:
            str(self.folder).encode()
        except UnicodeEncodeError:
            raise UsageError(f"{self.folder} isn't valid UTF-8, which FAISS needs; choose another --library") from None
        self._settings = settings or Settings()
        self._guard = threading.Lock()
        new: Profile | None = None
        if not (self.folder / CATALOG).is_file():
            if not create:
                raise NoLibraryError(
                    f"there is no library in {self.folder}; make one with 'mmsearch index PATH --library {self.folder}'"
                )
            new = self._load(model)  # what can't be used makes no library
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"{self.folder} can't be made: {error.strerror}; choose another --library") from error
        self._catalog = Catalog(self.folder / CATALOG, create=create)
        try:
            current = self._catalog.current
            if current is None:  # it is new, or whoever made it came no further
                new = new or self._load(model)
                current = self._catalog.set_profile(new.name, new.pins)
            self._refuse_another(model)
            # That of an existing library is loaded when it is asked: one that can't be any more may be changed.
            self._known = self._see(current, new) if new else None
        except BaseException:
            self.close()
            raise

    def _load(self, model: str | Path) -> Profile:
        """Return a model's profile as it is made today. Raises `ModelError`."""
        return load_profile(model, self._settings.device, own=adapted_folder(self.folder))

    def _refuse_another(self, model: str | Path) -> None:
        own = self._row().name
        if model != "auto" and (name := resolve_name(model)) != own:
            raise ModelError(
                f"{self.folder} uses the model {own!r}, not {name!r}; change that with 'mmsearch index PATH "
                f"--model {name} --library {self.folder}', or choose another --library"
            )

    def _row(self, profile_id: int | None = None) -> ProfileRow:
        """Return what the catalog knows of a profile, or of the one that answers."""
        row = self._catalog.beside(profile_id or self._catalog.current or 1).profile
        if row is None:
            raise CatalogError(f"{self.folder / CATALOG} lacks its profile; run 'mmsearch index' to make it anew")
        return row

    def _see(self, profile_id: int, loaded: Profile | None = None) -> Seen:
        """Return the library as one of its profiles sees it; it may be loaded already. Raises `ModelError`."""
        catalog, row = self._catalog.beside(profile_id), self._row(profile_id)
        if loaded is not None and (loaded.name, loaded.pins) == (row.name, row.pins):
            profile = loaded
        else:
            try:
                profile = load_profile(row.name, self._settings.device, row.pins, adapted_folder(self.folder))
            except ModelError as error:
                raise ModelError(
                    f"{error} (the library's own model; 'mmsearch index PATH --model OTHER --library {self.folder}' "
                    "changes it)"
                ) from error
        on_gpu = self._settings.device != "cpu"
        indexes = Indexes(catalog, self.folder / "indexes", lambda: self._lock(0.0), on_gpu=on_gpu)
        return Seen(catalog, profile, indexes, Engine(catalog, profile, indexes, self._settings.limits))

    def seen(self) -> Seen:
        """Return the library as the profile sees it that answers now: any process may have changed that."""
        current, known = self._catalog.current or 1, self._known
        if known is not None and known.catalog.profile_id == current:
            return known
        with self._guard:  # of several threads, one loads it
            if self._known is None or self._known.catalog.profile_id != current:
                self._known = self._see(current)
            return self._known

    @property
    def profile(self) -> str:
        """The name of the library's profile."""
        return self.seen().profile.name

    def index(
        self,
        *paths: str | Path,
        exclude: Iterable[str] = (),
        prune: bool = False,
        retry: bool = False,
        model: str | Path | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> IndexReport:
        """Bring the library to what the files and folders at `paths` hold; what lies elsewhere stays as it is.

        `exclude` are globs of names or of paths below a root. `prune` also drops media below folders that suddenly
        show nothing, `retry` tries failed files again that didn't change. `progress` is called after every batch;
        setting `stop` ends the run early with what is ready. One bad file never stops a run: see `failures`.

        Another `model` than the library's embeds all that it holds anew, wherever that lies, beside what is there.
        Queries are answered by the old model until every file is embedded, and by the new one from then on; a run that
        was stopped is gone on with by the same call. Files that can't be reached prevent the change, unless `prune`
        drops them. The old vectors stay until `prune` is asked for.
        Raises `UsageError` for a path that doesn't exist, `LockedError` while another process writes, `ModelError`.
        """
        from indexer import IndexOptions, find_roots, run  # the way back; only training knows the indexer, too

        if not paths:
            raise UsageError("nothing to index; name at least one file or folder")
        roots = [expand(path) for path in paths]
        find_roots(roots)
        asked = None if model in (None, "auto") else self._load(model)
        with self._lock():
            switched_to = None if asked else self._switch_if_due()
            new = self._begin_change(asked) if asked else None
            seen = new or self.seen()
            options = IndexOptions(tuple(exclude), prune, retry, self.folder, change=new is not None)
            report = run(seen.catalog, seen.profile, roots, self._settings, options, progress, stop)
            report = replace(report, switched_to=switched_to)
            if new and not report.interrupted:
                report = self._switch(new, report, prune=prune)
            self._clean_up(prune=prune and not report.interrupted, measure=not report.interrupted)
        return report

    def adapt(self, progress: Callable[[Progress], None] | None = None) -> AdaptReport:
        """Adapt the library's first space to what it holds: small heads after its towers, learnt from its own pairs.

        Pairs are pictures and clips with captions, and clips with sound. A tenth is held out; unless the 95 % interval
        of what the heads gain there lies above 0, everything stays as it is. Nothing is decoded again, and the old
        vectors stay. Raises `UsageError` where there is too little to learn from, `LockedError`.
        """
        with self._lock():
            seen = self.seen()
            report, adapted = adapt_profile(seen.catalog, seen.profile, self.folder, progress)
            if adapted is not None:
                new = self._see(self._catalog.begin_change(adapted.name, adapted.pins), adapted)
                with called_off_on_failure(new.catalog):
                    convert(seen.catalog, seen.profile, new.catalog, adapted, progress)
                    self._switch(new, IndexReport(), prune=False)
                self._clean_up(prune=False)
        return report

    def _begin_change(self, asked: Profile) -> Seen | None:
        """Return the library as a profile sees it that it changes to from now on, None if it is the one it has."""
        row = self._row()
        if (row.name, row.pins[:1]) == (asked.name, asked.pins[:1]) and set(asked.pins) <= set(row.pins):
            # A space after the first that is missing today doesn't make it another model.
            self._catalog.end_change()  # whichever other was begun: this one is asked for
            return None
        return self._see(self._catalog.begin_change(asked.name, asked.pins), asked)

    def _switch_if_due(self) -> str | None:
        """Switch to the profile that the library changes to if nothing is left to embed; return its name if so."""
        change = self._catalog.change
        if change is None or self._catalog.beside(change).count_whole() < sum(self._catalog.count_media().values()):
            return None
        try:
            new = self._see(change)
        except ModelError as error:  # the one that answers is as good as it was
            _log.warning("the change of %s to another model is put off: %s", self.folder, error)
            return None
        return self._switch(new, IndexReport(), prune=False).switched_to

    def _switch(self, new: Seen, report: IndexReport, *, prune: bool) -> IndexReport:
        """Let a profile answer if it has embedded every media, or `prune` drops the others; return the report of it.

        One that lacks all of them is no good, and drops nothing.
        """
        left = new.catalog.count_lacking(new.profile.key)
        if left and (not prune or left == sum(new.catalog.count_media().values())):
            first = Path(os.fsdecode(next(new.catalog.lacking(new.profile.key)).path))
            return replace(report, unreached=left, first_unreached=first)
        new.indexes.catch_up(new.profile)  # before it answers, so that no query has to
        dropped = new.catalog.switch(new.profile.key, drop=prune)
        if dropped is None:
            raise LibraryError(f"{self.folder} was changed meanwhile; run the same command again")
        self._known = new
        if dropped:
            new.catalog.drop_orphans()
        return replace(report, removed=report.removed + dropped, switched_to=new.profile.name)

    def _clean_up(self, *, prune: bool, measure: bool = True) -> None:
        """Bring the indexes to the catalog; `prune` deletes what other profiles embedded, `measure` asks the bank."""
        try:
            seen = self.seen()
        except ModelError as error:  # what the run did is done, and its report is worth more
            _log.warning("%s", error)
            return
        dropped = seen.catalog.drop_others() if prune else 0
        tidy(seen.catalog, self.folder)
        seen.indexes.catch_up(seen.profile)
        if measure:
            Calibration(seen.catalog, seen.profile, seen.indexes).catch_up()
        if dropped:
            try:
                seen.catalog.shrink()
            except CatalogError as error:  # it needs room; without, the space is used for what comes next
                _log.warning("the space of what was dropped stays with the library: %s", error)

    def query(
        self,
        terms: str | Path | Term | Sequence[str | Path | Term],
        k: int = 10,
        *,
        modalities: str | Collection[str | Modality] | None = None,
        rerank: bool | None = None,
        cut: bool = False,
        explain: bool = False,
    ) -> list[Hit]:
        """Return up to `k` hits, best first: one a content, at its best segment.

        A str is always a text, a Path always a file, a `Term` either with a weight; several are combined into one
        query. `modalities` filters the kind of file. `rerank` None leaves agreement re-ranking to the direction's
        default; `cut` hides near-duplicates and weak matches; `explain` fills `Hit.why`. Raises `QueryError`, and
        `MediaError` for a file that can't be read.
        """
        return self.answer(make_query(terms, k, modalities, rerank, cut, explain)).hits

    def answer(self, query: Query) -> Answer:
        """Return the hits of a query, and how many were hidden or cut."""
        tried: Seen | None = None
        while True:
            seen = self.seen()
            try:
                answer = seen.engine.answer(query)
            except Exception as error:
                if self._catalog.current == seen.catalog.profile_id:
                    if seen is tried or not isinstance(error, ModelError):
                        raise
                    self._known = None  # its files may be gone from the cache: made anew, they answer
                    tried = self.seen()
            else:
                if self._catalog.current == seen.catalog.profile_id:
                    return answer
            # Another profile answers by now, and what this one was reading may have been dropped.

    def embed(self, items: str | Path | Iterable[str | Path]) -> Vectors:
        """Return (n, dim) float32, L2-normalised, in input order: see `mmsearch.embed`."""
        return embed_items(items, self.seen().profile, self._settings.limits)

    def forget(self, *paths: str | Path) -> int:
        """Take files, or all below folders, out of the library; the files themselves stay. Returns how many.

        Raises `UsageError`, before anything changes, where the library holds nothing at a path.
        """
        roots = [os.path.abspath(os.fsencode(expand(path))) for path in paths]  # noqa: PTH100
        with self._lock():
            known: list[bytes] = []
            for root in roots:
                media = [row.path for row in self._catalog.media_under(root)]
                failed = [row.path for row in self._catalog.failures_under(root)]
                if not media and not failed:
                    raise UsageError(f"the library holds nothing at {os.fsdecode(root)}; nothing was changed")
                known += media + failed
            removed = self._catalog.remove(known)
            self._catalog.drop_orphans()
            self._clean_up(prune=False)
        return removed

    def status(self) -> Status:
        """Return what the library holds, and the state of its indexes."""
        row = self._row()
        catalog = self._catalog.beside(row.id)
        change = catalog.change
        others = [other for other in catalog.profiles() if other.id != row.id]
        try:
            seen: Seen | None = self.seen()
        except ModelError as error:  # what the library holds can be said all the same
            _log.warning("%s", error)
            seen = None
        return Status(
            library=self.folder.absolute(),
            profile=row.name,
            media=catalog.count_media(),
            segments=catalog.count_segments(),
            failures=len(catalog.failures_under()),
            indexes=seen.indexes.status(seen.profile) if seen else (),
            bytes=size_of(self.folder),
            outdated=catalog.count_outdated(seen.profile.key) if seen else 0,
            unfinished=catalog.count_unfinished(),
            changing_to=next((other.name for other in others if other.id == change), None),
            changed=catalog.beside(change).count_whole() if change is not None else 0,
            kept_models=tuple(other.name for other in others if other.id != change),
            precision=catalog.precision,
        )

    def outdated(self) -> int:
        """Return how many files were embedded by another version of the model, and aren't found until indexed again."""
        seen = self.seen()
        return seen.catalog.count_outdated(seen.profile.key)

    def failures(self) -> list[Failure]:
        """Return the files that can't be indexed as they are, by path."""
        rows = self._catalog.failures_under()
        return [Failure(Path(os.fsdecode(row.path)), Stage(row.stage), row.reason) for row in rows]

    def close(self) -> None:
        """Close the catalog."""
        self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self, wait_s: float = LOCK_WAIT_S) -> AbstractContextManager[None]:
        return write_lock(self.folder, wait_s)


def open(path: str | Path | None = None, model: str | Path = "auto", *, settings: Settings | None = None) -> Library:
    """Open the library at `path`, making it on first use; None is the default library.

    `model` names the profile of a new library: "auto", "mini", ... An existing one keeps its own until
    `Library.index` is asked for another. Raises `ModelError` where `model` is unknown or another than the library's.
    """
    return Library(path, model, settings=settings)


def embed(items: str | Path | Iterable[str | Path], model: str | Path = "auto") -> Vectors:
    """Embed texts (str) and files (Path) in one space, without a library.

    Returns (n, dim) float32, L2-normalised rows, in input order, by the profile's first space that takes every item.
    The passages of a long text are averaged; a clip gives its visual view. Raises `ModelError` where no space does,
    `MediaError` for a bad file.
    """
    return embed_items(items, load_profile(model), Limits())
