"""Library: a folder with a catalog and its vector indexes. What the command line and users call."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mmsearch.adapted_spaces import tidy
from mmsearch.catalog import Catalog, Ids
from mmsearch.catalog.seal import kept_seal, seal
from mmsearch.errors import CatalogError, ModelError, NoLibraryError, UsageError
from mmsearch.extras import require
from mmsearch.folder import LibraryFolder
from mmsearch.model_views import ModelView, ModelViews, load
from mmsearch.paths import absolute, expand
from mmsearch.records import Details, Item
from mmsearch.search.calibration import Calibration
from mmsearch.search.encode import embed_items
from mmsearch.search.items import warm_for
from mmsearch.search.query import Query, make_query
from mmsearch.settings import Limits, Settings
from mmsearch.spaces import Profile, Vectors, load_profile
from mmsearch.types import (
    AdaptReport,
    Answer,
    Check,
    Facets,
    Failure,
    Hit,
    IndexReport,
    Modality,
    Progress,
    Stage,
    Status,
    Term,
    View,
)

if TYPE_CHECKING:
    from mmsearch.types import QueryInput

_log = logging.getLogger(__name__)


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
        first: Profile | None = None
        if not self._place.has_catalog:
            if not create:
                raise NoLibraryError(
                    f"there is no library in {self.folder}; make one with 'mmsearch index PATH --library {self.folder}'"
                )
            first = load(model, self.folder, self._settings)  # a model that can't be used makes no library
            self._place.make()
        named = (first.name, first.pins) if first else None
        self._catalog = Catalog(self._place.catalog, create=create, first=named)
        self._place.remember()
        try:
            self._views = ModelViews(self._place, self._catalog, self._settings, model, create=create)
            current = self._catalog.current
            if current is not None:  # else an older version made it and came no further: see `answering_id`
                self._views.refuse_another(model)
            if first and current is not None:
                self._views.keep(self._views.open(current, first))
            # The model of an existing library is loaded by the first query: one that can't be any more may be changed.
        except BaseException:
            self.close()
            raise

    def seen(self) -> ModelView:
        """Return the library as the model sees it that answers now: any process may have changed that."""
        return self._views.answering()

    @property
    def profile(self) -> str:
        """The name of the library's model."""
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
        from mmsearch.model_change import ModelChange

        named = [expand(path) for path in paths]
        check_paths(self._catalog, named)
        asked = None if model in (None, "auto") else load(model, self.folder, self._settings)
        with self._place.lock("index"):
            self._views.answering_id(asked)
            again = mend_if_broken(self._catalog)
            scope = choose_scope(self._catalog, named, tuple(exclude), self.folder)
            change = ModelChange(self.folder, self._catalog, self._views)
            switched_to = None if asked else change.switch_if_due()
            new = change.begin(asked) if asked else None
            seen = new or self.seen()
            seen.indexes.check(seen.profile)
            options = IndexOptions(prune, retry, self.folder, new is not None, frozenset(again))
            _log.debug("indexing %s with the model %s", [os.fsdecode(path) for path in scope.paths], seen.profile.name)
            report = run(seen.catalog, seen.profile, scope, self._settings, options, progress, stop)
            _log.debug(
                "added %d, updated %d, reused %d, removed %d, failed %d in %.3f s",
                *(report.added, report.updated, report.reused, report.removed, report.failed, report.seconds),
            )
            report = replace(report, switched_to=switched_to)
            if new and not report.interrupted:
                report = change.switch(new, report, prune=prune)
            self._clean_up(prune=prune and not report.interrupted, measure=not report.interrupted)
            seal(self._catalog.file)
        return report

    def adapt(self, progress: Callable[[Progress], None] | None = None) -> AdaptReport:
        """Adapt the library's first space to what it holds: small heads after its towers, learnt from its own pairs.

        Pairs are pictures and clips with captions, and clips with sound. A tenth is held out; unless the 95 % interval
        of what the heads gain there lies above 0, everything stays as it is. Nothing is decoded again, and the old
        vectors stay. Raises `UsageError` where there is too little to learn from, `LockedError`.
        """
        from mmsearch.adaptation.convert import adapt_profile, called_off_on_failure, convert  # no query pays for it
        from mmsearch.model_change import ModelChange

        require("adapting a library", "torch")

        with self._place.lock("adapt"), kept_seal(self._catalog.file):
            seen = self.seen()
            seen.indexes.check(seen.profile)
            report, adapted = adapt_profile(seen.catalog, seen.profile, self.folder, progress)
            if adapted is not None:
                new = self._views.open(self._catalog.begin_change(adapted.name, adapted.pins), adapted)
                with called_off_on_failure(new.catalog):
                    convert(seen.catalog, seen.profile, new.catalog, adapted, progress)
                    ModelChange(self.folder, self._catalog, self._views).switch(new, IndexReport(), prune=False)
                self._clean_up(prune=False)
        return report

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
        terms: QueryInput | Term | Iterable[QueryInput | Term],
        k: int = 10,
        *,
        modalities: str | Collection[str | Modality] | None = None,
        rerank: bool | None = None,
        cut: bool = False,
        explain: bool = False,
    ) -> list[Hit]:
        """Return up to `k` hits, best first: one a content, at its best segment.

        A str is always a text, a Path always a file, bytes are the content of one. A Pillow picture or an array of
        pixels asks like a picture file; an array of one dimension is a vector of the model: see `vectors`. A `Term` is
        any of these with a weight; several are combined into one query. `modalities` filters the kind of file.
        `rerank` None leaves agreement re-ranking to the direction's default; `cut` hides near-duplicates and weak
        matches; `explain` fills `Hit.why`. Raises `QueryError`, and `MediaError` for a file that can't be read.
        """
        return self.answer(make_query(terms, k, modalities, rerank, cut, explain)).hits

    def query_many(
        self,
        queries: Iterable[Query | QueryInput | Term | Sequence[QueryInput | Term]],
        k: int = 10,
        *,
        modalities: str | Collection[str | Modality] | None = None,
        rerank: bool | None = None,
        cut: bool = False,
        explain: bool = False,
    ) -> list[Answer]:
        """Answer several queries, in their order: one `Answer` each, with its hits and how many more were left out.

        The options are those of `query`, and hold for every query that isn't a `Query` already. Raises what it does.
        """
        made = [
            query if isinstance(query, Query) else make_query(query, k, modalities, rerank, cut, explain)
            for query in queries
        ]
        return [self.answer(query) for query in made]

    def items(self) -> Iterator[Item]:
        """Yield what the library holds, by id: each content once, however many paths name it."""
        from mmsearch.holdings import read_items  # no query pays for it

        return read_items(self.seen().catalog)

    def details(self, path: str | Path) -> Details:
        """Return all that is known of a file. Raises `UsageError` where the library holds nothing at the path."""
        from mmsearch.holdings import read_details

        return read_details(self.seen().catalog, absolute(path))

    def item(self, number: int) -> Item:
        """Return the item of this number, which `Hit.id` and `Item.id` give. Raises `NoItemError`."""
        from mmsearch.holdings import read_item

        return read_item(self.seen().catalog, number)

    def roots(self) -> list[bytes]:
        """Return the files and folders that a run without paths refreshes, as bytes of absolute paths."""
        return [root.path for root in self._catalog.roots()]

    def facets(self) -> Facets:
        """Return by what the contents can be told apart, with how many there are of each."""
        from mmsearch.holdings import read_facets

        return read_facets(self.seen().catalog)

    def vectors(self, view: str | View = View.VISUAL) -> tuple[Ids, Vectors]:
        """Return the vectors of a view, in the model's first space that has it: ids (n,) int64, and (n, dim) float32.

        The ids are those of `items`, in ascending order; an item of several segments has several rows. Raises
        `UsageError` where there is no such view, or no space of the model has it.
        """
        from mmsearch.holdings import read_vectors

        seen = self.seen()
        return read_vectors(seen.catalog, seen.profile, view)

    def answer(self, query: Query) -> Answer:
        """Return the hits of a query, and how many were hidden or cut."""
        warm_for((term.item for term in query.terms), self._settings.limits)
        tried: ModelView | None = None
        while True:
            seen, revision = self._views.now()
            try:
                ranking = seen.engine.ranking(query, revision)
                with self._catalog.one_read():
                    answer = seen.engine.shown(query, ranking)
                    held = self._catalog.current == seen.catalog.profile_id
            except Exception as error:
                if self._catalog.current == seen.catalog.profile_id:
                    if seen is tried or not isinstance(error, ModelError):
                        raise
                    self._views.keep(None)  # its files may be gone from the cache: made anew, they answer
                    tried = self.seen()
            else:
                if held:
                    return answer
            # Another profile answers by now, and what this one was reading may have been dropped.

    def embed(self, items: QueryInput | Iterable[QueryInput]) -> Vectors:
        """Return (n, dim) float32, L2-normalised, in input order: see `mmsearch.embed`."""
        return embed_items(items, self.seen().profile, self._settings.limits)

    def forget(self, *paths: str | Path) -> int:
        """Take files, or all below folders, out of the library; the files themselves stay. Returns how many.

        Runs leave them out from now on, until `index` is given these very paths. Raises `UsageError`, before anything
        changes, where the library holds nothing at a path.
        """
        roots = [absolute(path) for path in paths]
        with self._place.lock("forget"), kept_seal(self._catalog.file):
            known: list[bytes] = []
            remembered = {root.path for root in self._catalog.roots()}
            for root in roots:
                media = [row.path for row in self._catalog.media_under(root)]
                failed = [row.path for row in self._catalog.failures_under(root)]
                if not media and not failed and root not in remembered:
                    raise UsageError(f"the library holds nothing at {os.fsdecode(root)}; nothing was changed")
                known += media + failed
            removed = self._catalog.forget(roots, known)
            self._catalog.drop_orphans()
            self._clean_up(prune=False)
        return removed

    def status(self) -> Status:
        """Return what the library holds, and the state of its indexes."""
        from mmsearch.status import describe

        row = self._views.row()
        try:
            seen: ModelView | None = self.seen()
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
            self._views.keep(None)
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


def embed(items: QueryInput | Iterable[QueryInput], model: str | Path = "auto") -> Vectors:
    """Embed texts (str), files (Path, or their bytes) and pictures in one space, without a library.

    Returns (n, dim) float32, L2-normalised rows, in input order, by the profile's first space that takes every item.
    The passages of a long text are averaged; a clip gives its visual view. Raises `ModelError` where no space does,
    `MediaError` for a bad file.
    """
    return embed_items(items, load_profile(model), Limits())
