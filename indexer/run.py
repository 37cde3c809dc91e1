"""One index run: changes → plan → executor → writer."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path

from indexer import executors
from indexer.changes import Changes, Entry, in_parts
from indexer.deletions import DeletionCheck
from indexer.elsewhere import Elsewhere
from indexer.executors.base import EncodedContent, Executor, Model, Outcome, is_whole
from indexer.facts import fill_facts
from indexer.plan import Plan, Rules
from indexer.planner import Planner
from indexer.precision import with_precision
from indexer.roots import Scope
from indexer.scan import Scan
from indexer.write import Writer
from mmsearch.catalog import Catalog
from mmsearch.media import DECODER_VERSION
from mmsearch.settings import Settings
from mmsearch.spaces import Profile, for_indexing
from mmsearch.types import IndexReport, Progress


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options of a run: `prune` folders that show nothing, `retry` failures, `skip` the library's own folder.

    `change` says that the library changes to the profile: everything else it holds is embedded as well. `again` are
    files that are embedded again wherever they lie, because what the catalog held of them was damaged.
    """

    prune: bool = False
    retry: bool = False
    skip: Path | None = None
    change: bool = False
    again: frozenset[bytes] = frozenset()


def run(
    catalog: Catalog,
    profile: Profile,
    scope: Scope,
    settings: Settings,
    options: IndexOptions,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> IndexReport:
    """Bring the catalog to what the scope shows. The caller holds the library's lock and catches up the indexes.

    A set `stop` ends the run early: what is decoded is committed, and the report says `interrupted`.
    """
    version = f"{metadata.version('mmsearch')}/{DECODER_VERSION}"
    rules = Rules(profile.key, version, options.retry, options.change)
    model = Model(profile, partial(_for_encoding, profile, catalog, settings))
    stopped = (stop or threading.Event()).is_set
    with (
        closing(Planner(catalog, rules, settings.limits)) as planner,
        closing(executors.make_executor(model, settings, stopped)) as executor,
    ):
        writer = Writer(catalog, profile, rules)
        paths = {root.path for root in scope.scanned}
        elsewhere = Elsewhere(catalog, paths, options.again, profile.key if options.change else None)
        seen = (scope, elsewhere, options, progress, stopped)
        return _Run(catalog, model, settings, planner, executor, writer, *seen).go()


def _for_encoding(profile: Profile, catalog: Catalog, settings: Settings) -> Profile:
    return with_precision(for_indexing(profile, settings.device), catalog, settings.precision)


@dataclass(slots=True)
class _Run:
    catalog: Catalog
    model: Model
    settings: Settings
    planner: Planner
    executor: Executor
    writer: Writer
    scope: Scope
    elsewhere: Elsewhere
    options: IndexOptions
    progress: Callable[[Progress], None] | None
    stopped: Callable[[], bool]
    kept: tuple[Path, ...] = ()
    total: int = 0
    under_way: Outcome | None = None

    def go(self) -> IndexReport:
        began = time.monotonic()
        run_id = self.catalog.start_run(self.scope.remember, self.scope.drop)
        if self.progress:
            self.total = sum(1 for _ in self._until_stopped(self._scan())) + self.elsewhere.count()
        first_new_id = self.catalog.next_media_id()
        scan = self._scan()
        self._take(in_parts(self._until_stopped(scan)))
        self.writer.note(scan.failures)
        if not self.stopped():
            self._delete(scan, first_new_id)
            self._take(self.elsewhere.changes(self.writer.failed_paths))
        self.catalog.drop_orphans()
        fill_facts(self.catalog, self.model.profile.front_ends, self.settings, self.scope.paths, self.stopped)
        report = self._report(round(time.monotonic() - began, 3))
        named = ("added", "updated", "reused", "removed", "failed", "seconds", "interrupted")
        self.catalog.end_run(run_id, json.dumps({name: getattr(report, name) for name in named}))
        return report

    def _take(self, parts: Iterable[Changes]) -> None:
        """Plan changes, part by part, and see the plans through; copies of what was under way come last."""
        for changes in parts:
            if self.stopped():
                break
            self._carry_out(self.planner.plan(changes))
        self._write(self.executor.drain())
        if not self.stopped():
            for plan in self.planner.last_plans():
                self._carry_out(plan)
            self._write(self.executor.drain())

    def _carry_out(self, plan: Plan) -> None:
        self.writer.settle(plan)
        self._show()
        for task in plan.tasks:
            if self.stopped():
                return
            self.executor.submit(task)
            self._write(self.executor.batches())

    def _write(self, batches: Iterable[Sequence[Outcome]]) -> None:
        for batch in batches:
            self.writer.write(batch)
            self.planner.landed(task.hash for task, result in batch if is_whole(result))
            self.under_way = next((outcome for outcome in reversed(batch) if not is_whole(outcome[1])), None)
            self._show()

    def _delete(self, scan: Scan, first_new_id: int) -> None:
        """Take out what a complete scan no longer shows, and failures that are over."""
        check = DeletionCheck(self.catalog, self.scope, scan, self.planner.seen, first_new_id, self.options.prune)
        self._carry_out(self.planner.plan(check.changes(self.planner.failing | self.writer.failed_paths)))
        if self.options.prune:
            self.catalog.drop_roots(self.scope.watched.intersection(self.scope.missing))
        self.kept = tuple(Path(os.fsdecode(folder)) for folder in sorted(check.kept))

    def _scan(self) -> Scan:
        return Scan(self.scope.scanned, self.options.skip, self.scope.forgotten)

    def _until_stopped(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if self.stopped():
                return
            yield entry

    def _report(self, seconds: float) -> IndexReport:
        writer, failures = self.writer, tuple(self.writer.failures)
        counted = (writer.added, writer.updated, writer.reused, writer.removed, len(failures))
        return IndexReport(*counted, seconds, failures, self.kept, interrupted=self.stopped())

    def _show(self) -> None:
        if self.progress:
            done, failed = self.writer.done, len(self.writer.failures)
            state = Progress(min(done, self.total), self.total, failed, self.executor.bound)
            if self.under_way is not None:
                task, part = self.under_way
                until_s = part.resume_s if isinstance(part, EncodedContent) else None
                state = replace(state, under_way=Path(os.fsdecode(task.entry.path)), until_s=until_s or 0.0)
            self.progress(state)
