"""Library: a folder with a catalog and its vector indexes. What the command line and users call."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from mmsearch.adapting import adapt_profile, adapted_folder, called_off_on_failure, check_adapted, convert, tidy
from mmsearch.catalog import Catalog, ProfileRow
from mmsearch.catalog.seal import kept_seal, seal
from mmsearch.errors import CatalogError, LibraryError, ModelError, NoLibraryError, UsageError
from mmsearch.folder import LibraryFolder
from mmsearch.indexes import Indexes
from mmsearch.locking import BRIEF
from mmsearch.paths import expand
from mmsearch.search.answer import Answer
from mmsearch.search.calibration import Calibration
from mmsearch.search.encode import embed_items
from mmsearch.search.engine import Engine
from mmsearch.search.items import warm_for
from mmsearch.search.query import Query, make_query
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import Profile, Vectors, load_profile, resolve_name
from mmsearch.status import describe
from mmsearch.types import AdaptReport, Check, Failure, Hit, IndexReport, Modality, Progress, Stage, Status, Term

_log = logging.getLogger(__name__)


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
        self._place = LibraryFolder(folder)
        self.folder = self._place.path
        self._settings = settings or Settings()
        self._guard = threading.Lock()
        self._model, self._create = model, create
        first: Profile | None = None
        if not self._place.has_catalog:
            if not create:
                raise NoLibraryError(
                    f"there is no library in {self.folder}; make one with 'mmsearch index PATH --library {self.folder}'"
                )
            first = self._load(model)  # what can't be used makes no library
            self._place.make()
        named = (first.name, first.pins) if first else None
        self._catalog = Catalog(self._place.catalog, create=create, first=named)
        self._place.remember()
        try:
            current = self._catalog.current
            if current is not None:  # else an older version made it and came no further: see `_first`
                self._refuse_another(model)
            # That of an existing library is loaded when it is asked: one that can't be any more may be changed.
            self._known = self._see(current, first) if first and current is not None else None
        except BaseException:
            self.close()
            raise

    def _first(self, asked: Profile | None = None) -> int:
        """Return the id of the profile that answers. A library without any gets the one that is named first."""
        current = self._catalog.current
        if current is None:
            if not self._create:
                lost = "lost its model; run 'mmsearch doctor --repair'"
                new = f"has no model yet; run 'mmsearch index PATH --library {self.folder}'"
                raise CatalogError(f"{self._place.catalog} {lost if self._catalog.profiles() else new}")
            first = asked or self._load(self._model)
            current = self._catalog.set_profile(first.name, first.pins)
        return current

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
        row = self._catalog.beside(profile_id or self._first()).profile
        if row is None:
            raise CatalogError(f"{self._place.catalog} lacks its model; run 'mmsearch doctor --repair'")
        return row

    def _see(self, profile_id: int, loaded: Profile | None = None) -> Seen:
        """Return the library as one of its profiles sees it; it may be loaded already. Raises `ModelError`."""
        catalog, row = self._catalog.beside(profile_id), self._row(profile_id)
        if loaded is not None and (loaded.name, loaded.pins) == (row.name, row.pins):
            profile = loaded
        else:
            check_adapted(self._catalog, self.folder)
            try:
                profile = load_profile(row.name, self._settings.device, row.pins, adapted_folder(self.folder))
            except ModelError as error:
                raise ModelError(
                    f"{error} (the library's own model; 'mmsearch index PATH --model OTHER --library {self.folder}' "
                    "changes it)"
                ) from error
        on_gpu = self._settings.device != "cpu"
        indexes = Indexes(catalog, self.folder / "indexes", lambda: self._place.lock(BRIEF, 0.0), on_gpu=on_gpu)
        return Seen(catalog, profile, indexes, Engine(catalog, profile, indexes, self._settings.limits))

    def seen(self) -> Seen:
        """Return the library as the profile sees it that answers now: any process may have changed that."""
        current, known = self._first(), self._known
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

        The library remembers the paths: without any, all are refreshed. A known path that isn't there any more is a
        change like any other. What was forgotten stays out until it is named itself.
        `exclude` are globs of names or of paths below a root. `prune` also drops media below folders that suddenly show
        nothing, `retry` tries failed files again that didn't change. `progress` is called after every batch; setting
        `stop` ends the run early with what is ready. One bad file never stops a run: see `failures`.

        Another `model` than the library's embeds all that it holds anew, wherever that lies, beside what is there.
        Queries are answered by the old model until every file is embedded, and by the new one from then on; a run that
        was stopped is gone on with by the same call. Files that can't be reached prevent the change, unless `prune`
        drops them. The old vectors stay until `prune` is asked for.
        Raises `UsageError` for a path that neither exists nor is known, `LockedError` where another run is under way.
        """
        from indexer import IndexOptions, check_paths, choose_scope, run  # the reverse dependency
        from mmsearch.catalog.upkeep import mend_if_broken

        named = [expand(path) for path in paths]
        check_paths(self._catalog, named)
        asked = None if model in (None, "auto") else self._load(model)
        with self._place.lock("index"):
            self._first(asked)
            again = mend_if_broken(self._catalog)
            scope = choose_scope(self._catalog, named, tuple(exclude), self.folder)
            switched_to = None if asked else self._switch_if_due()
            new = self._begin_change(asked) if asked else None
            seen = new or self.seen()
            seen.indexes.check(seen.profile)
            options = IndexOptions(prune, retry, self.folder, new is not None, frozenset(again))
            report = run(seen.catalog, seen.profile, scope, self._settings, options, progress, stop)
            report = replace(report, switched_to=switched_to)
            if new and not report.interrupted:
                report = self._switch(new, report, prune=prune)
            self._clean_up(prune=prune and not report.interrupted, measure=not report.interrupted)
            seal(self._catalog.file)
        return report

    def adapt(self, progress: Callable[[Progress], None] | None = None) -> AdaptReport:
        """Adapt the library's first space to what it holds: small heads after its towers, learnt from its own pairs.

        Pairs are pictures and clips with captions, and clips with sound. A tenth is held out; unless the 95 % interval
        of what the heads gain there lies above 0, everything stays as it is. Nothing is decoded again, and the old
        vectors stay. Raises `UsageError` where there is too little to learn from, `LockedError`.
        """
        with self._place.lock("adapt"), kept_seal(self._catalog.file):
            seen = self.seen()
            seen.indexes.check(seen.profile)
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
        self._place.tidy()
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
        warm_for((term.item for term in query.terms), self._settings.limits)
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

        Runs leave them out from now on, until `index` is given these very paths. Raises `UsageError`, before anything
        changes, where the library holds nothing at a path.
        """
        roots = [os.path.abspath(os.fsencode(expand(path))) for path in paths]  # noqa: PTH100
        with self._place.lock("forget"), kept_seal(self._catalog.file):
            known: list[bytes] = []
            for root in roots:
                media = [row.path for row in self._catalog.media_under(root)]
                failed = [row.path for row in self._catalog.failures_under(root)]
                if not media and not failed and not any(path == root for path, _ in self._catalog.roots()):
                    raise UsageError(f"the library holds nothing at {os.fsdecode(root)}; nothing was changed")
                known += media + failed
            removed = self._catalog.forget(roots, known)
            self._catalog.drop_orphans()
            self._clean_up(prune=False)
        return removed

    def status(self) -> Status:
        """Return what the library holds, and the state of its indexes."""
        row = self._row()
        try:
            seen: Seen | None = self.seen()
        except ModelError as error:  # what the library holds can be said all the same
            _log.warning("%s", error)
            seen = None
        loaded = (seen.profile, seen.indexes) if seen else None
        return describe(self.folder, self._catalog.beside(row.id), row, loaded)

    def doctor(self, *, repair: bool = False) -> list[Check]:
        """Check all that the library consists of; `repair` mends what can be mended, and raises `LockedError`."""
        from mmsearch.doctor import examine

        opened = partial(Library, self.folder, create=False, settings=self._settings)
        checks = examine(self.folder, opened, repair=repair, settings=self._settings)
        if repair:  # the catalog may be another file now
            self._catalog.reopen()
            self._known = None
        return checks

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
