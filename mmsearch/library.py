"""Library: a folder with a catalog and its vector indexes. It is the interface of users and of the command line."""

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
    from mmsearch.filters import Filter
    from mmsearch.types import QueryInput

_log = logging.getLogger(__name__)


class Library:
    """A library of media that can be indexed and searched.

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
        """Open the library in `folder`; with `create`, make it if it doesn't exist. A new one uses the given `model`.

        Raises `NoLibraryError` if there is none, `ModelError` for an unknown model or for one that differs from the
        library's: only `index` changes the model.
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
            first = load(model, self.folder, self._settings)  # before the folder is made: the model may be unusable
            self._place.make()
        named = (first.name, first.pins) if first else None
        self._catalog = Catalog(self._place.catalog, create=create, first=named)
        self._place.remember()
        try:
            self._views = ModelViews(self._place, self._catalog, self._settings, model, create=create)
            current = self._catalog.current
            if current is not None:  # otherwise an older version was interrupted: see `answering_id`
                self._views.refuse_another(model)
            if first and current is not None:
                self._views.keep(self._views.open(current, first))
            # An existing library's model is loaded by the first query, so that `index` can replace an unusable one.
        except BaseException:
            self.close()
            raise

    def seen(self) -> ModelView:
        """Return the library's current model with its indexes; any process may have changed the model."""
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
        """Update the library with the files and folders at `paths`; files elsewhere stay as they are.

        The library remembers the paths; without any, all remembered paths are refreshed. A known path that no longer
        exists counts as deleted. A forgotten path stays out until it is named again.
        `exclude` are globs of names, or of paths relative to a root. `prune` also drops media below folders that
        suddenly show nothing; `retry` tries unchanged failed files again. `progress` is called after every batch;
        setting `stop` ends the run early and keeps its results so far. A bad file never stops a run: see `failures`.

        With another `model` than the library's, all files are embedded again. Queries use the old model until every
        file is embedded, then the new one. The same call continues an interrupted change. Files that can't be reached
        prevent the change, unless `prune` drops them. The old vectors are kept until a run with `prune`.
        Raises `UsageError` for a path that neither exists nor is known, `LockedError` if another process is writing.
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
        """Adapt the model's first space to the library: train small heads after its towers on the library's own pairs.

        Pairs are pictures and clips with captions, and clips with sound. A tenth is held out; the heads are adopted
        only if the 95 % interval of their gain on it lies above 0. Nothing is decoded again, and the old vectors
        stay. Raises `UsageError` if there are too few pairs, `LockedError` if another process is writing.
        """
        from mmsearch.adaptation.convert import adapt_profile, cancelled_on_failure, convert
        from mmsearch.model_change import ModelChange

        require("adapting a library", "torch")

        with self._place.lock("adapt"), kept_seal(self._catalog.file):
            seen = self.seen()
            seen.indexes.check(seen.profile)
            report, adapted = adapt_profile(seen.catalog, seen.profile, self.folder, progress)
            if adapted is not None:
                new = self._views.open(self._catalog.begin_change(adapted.name, adapted.pins), adapted)
                with cancelled_on_failure(new.catalog):
                    convert(seen.catalog, seen.profile, new.catalog, adapted, progress)
                    ModelChange(self.folder, self._catalog, self._views).switch(new, IndexReport(), prune=False)
                self._clean_up(prune=False)
        return report

    def _clean_up(self, *, prune: bool, measure: bool = True) -> None:
        """Update the indexes; `prune` deletes other models' vectors, `measure` updates the score distributions."""
        try:
            seen = self.seen()
        except ModelError as error:  # the run itself has succeeded, and its report must be returned
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
            except CatalogError as error:  # shrinking needs disk space; later runs reuse the free pages
                _log.warning("the disk space of the dropped vectors can't be freed: %s", error)

    def query(
        self,
        terms: QueryInput | Term | Iterable[QueryInput | Term] = (),
        k: int = 10,
        *,
        modalities: str | Collection[str | Modality] | None = None,
        filter: Filter | None = None,
        rerank: bool | None = None,
        cut: bool = False,
        explain: bool = False,
    ) -> list[Hit]:
        """Return up to `k` hits, best first: one a content, at its best segment.

        A str is always a text, a Path always a file, bytes are the content of one. A Pillow picture or an array of
        pixels asks like a picture file; an array of one dimension is a vector of the model: see `vectors`. A `Term` is
        any of these with a weight; several are combined into one query. `modalities` filters the kind of file, `filter`
        whatever is known of it; a filter without terms lists the newest first.
        `rerank` None leaves agreement re-ranking to the direction's default; `cut` hides near-duplicates and weak
        matches; `explain` fills `Hit.why`. Raises `QueryError`, and `MediaError` for a file that can't be read.
        """
        return self.answer(make_query(terms, k, modalities, rerank, cut, explain, filter)).hits

    def query_many(
        self,
        queries: Iterable[Query | QueryInput | Term | Sequence[QueryInput | Term]],
        k: int = 10,
        *,
        modalities: str | Collection[str | Modality] | None = None,
        filter: Filter | None = None,
        rerank: bool | None = None,
        cut: bool = False,
        explain: bool = False,
    ) -> list[Answer]:
        """Answer several queries, in their order: one `Answer` each, with its hits and how many more were left out.

        The options are those of `query`, and hold for every query that isn't a `Query` already. Raises what it does.
        """
        made = [
            query if isinstance(query, Query) else make_query(query, k, modalities, rerank, cut, explain, filter)
            for query in queries
        ]
        return [self.answer(query) for query in made]

    def items(self) -> Iterator[Item]:
        """Yield the library's items by id: each content once, even if several paths name it."""
        from mmsearch.holdings import read_items  # not needed by a query

        return read_items(self.seen().catalog)

    def details(self, path: str | Path) -> Details:
        """Return all that is known of a file. Raises `UsageError` where the library holds nothing at the path."""
        from mmsearch.holdings import read_details

        return read_details(self.seen().catalog, absolute(path))

    def item(self, number: int) -> Item:
        """Return the item of this number, which `Hit.id` and `Item.id` give. Raises `NoItemError`."""
        from mmsearch.holdings import read_item

        return read_item(self.seen().catalog, number)[0]

    def roots(self) -> list[bytes]:
        """Return the files and folders that a run without paths refreshes, as bytes of absolute paths."""
        return [root.path for root in self._catalog.roots()]

    def facets(self) -> Facets:
        """Return the values by which contents can be filtered, with the number of contents of each."""
        from mmsearch.holdings import read_facets

        return read_facets(self.seen().catalog)

    def vectors(self, view: str | View = View.VISUAL) -> tuple[Ids, Vectors]:
        """Return the vectors of a view, in the model's first space that has it: ids (n,) int64, and (n, dim) float32.

        The ids are those of `items`, in ascending order; an item with several segments has several rows. Raises
        `UsageError` if there is no such view, or no space of the model has it.
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
                    self._views.keep(None)  # its files may be gone from the cache: open the model again
                    tried = self.seen()
            else:
                if held:
                    return answer
            # The library has another model now, and the vectors of this one may have been dropped: try again.

    def embed(self, items: QueryInput | Iterable[QueryInput]) -> Vectors:
        """Return (n, dim) float32, L2-normalised, in input order: see `mmsearch.embed`."""
        return embed_items(items, self.seen().profile, self._settings.limits)

    def forget(self, *paths: str | Path) -> int:
        """Remove files, or all files below folders, from the library, not from the disk. Returns their number.

        Runs leave them out from then on, until `index` is given these paths. Raises `UsageError`, before anything is
        changed, if the library has nothing at a path.
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
        """Return the numbers of the library's media, segments and failures, and the state of its indexes."""
        from mmsearch.status import describe

        row = self._views.row()
        try:
            seen: ModelView | None = self.seen()
        except ModelError as error:  # most of the status doesn't need the model
            _log.warning("%s", error)
            seen = None
        loaded = (seen.profile, seen.indexes) if seen else None
        return describe(self.folder, self._catalog.beside(row.id), row, loaded)

    def doctor(self, *, repair: bool = False) -> list[Check]:
        """Check every part of the library; `repair` repairs what it can, and raises `LockedError`."""
        from mmsearch.doctor import examine

        opened = partial(Library, self.folder, create=False, settings=self._settings)
        checks = examine(self.folder, opened, repair=repair, settings=self._settings)
        if repair:  # the catalog may be another file now
            self._catalog.reopen()
            self._views.keep(None)
        return checks

    def outdated(self) -> int:
        """Return the number of files that another version of the model embedded: they must be indexed again."""
        seen = self.seen()
        return seen.catalog.count_outdated(seen.profile.key)

    def failures(self) -> list[Failure]:
        """Return the recorded failures, by path."""
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
    """Open the library at `path`, and make it if it doesn't exist; None is the default library.

    `model` is the model of a new library: "auto", "mini", ... An existing library keeps its own until `Library.index`
    is given another. Raises `ModelError` if `model` is unknown or another than the library's.
    """
    return Library(path, model, settings=settings)


def embed(items: QueryInput | Iterable[QueryInput], model: str | Path = "auto") -> Vectors:
    """Embed texts (str), files (Path, or their bytes) and pictures in one space, without a library.

    Returns (n, dim) float32, L2-normalised rows, in input order, from the model's first space that takes every item.
    The passages of a long text are averaged; of a clip, the visual view is used. Raises `ModelError` if no space takes
    every item, `MediaError` for a bad file.
    """
    return embed_items(items, load_profile(model), Limits())
