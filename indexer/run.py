"""One index run: scan → plan → decode → encode → commit → what is gone."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import islice
from pathlib import Path

from indexer.decode import Outcome, PreparedContent, decode_all
from indexer.encode import encode
from indexer.gone import Gone
from indexer.plan import Plan, Task, as_media
from indexer.scan import Entry, Scan
from mmsearch.catalog import Catalog, FailureRow, NewContent, NewSegment
from mmsearch.errors import UsageError
from mmsearch.media import DECODER_VERSION
from mmsearch.settings import Settings
from mmsearch.spaces import Profile
from mmsearch.types import Failure, IndexReport, Progress, Stage, View

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What a run is asked to do: globs to leave out, folders that show nothing to prune, failures to try again."""

    exclude: tuple[str, ...] = ()
    prune: bool = False
    retry: bool = False
    skip: Path | None = None


def run(
    catalog: Catalog,
    profile: Profile,
    paths: Sequence[Path],
    settings: Settings,
    options: IndexOptions,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> IndexReport:
    """Bring the catalog to what the paths hold. The caller holds the library's lock and catches up the indexes.

    A set `stop` ends the run early: what is decoded is committed, and the report says `interrupted`.
    Raises `UsageError`, before anything changes, where a path doesn't exist.
    """
    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise UsageError(f"{missing[0]} doesn't exist; nothing was changed")
    roots = list(dict.fromkeys(os.path.abspath(os.fsencode(path)) for path in paths))  # noqa: PTH100  bytes
    return _Run(catalog, profile, roots, settings, options, progress, stop or threading.Event()).go()


@dataclass(slots=True)
class _Run:
    catalog: Catalog
    profile: Profile
    roots: list[bytes]
    settings: Settings
    options: IndexOptions
    progress: Callable[[Progress], None] | None
    stop: threading.Event
    report: IndexReport = field(default_factory=IndexReport)
    failures: list[Failure] = field(default_factory=list)
    total: int = 0
    decode_s: float = 0.0
    encode_s: float = 0.0
    version: str = f"{metadata.version('mmsearch')}/{DECODER_VERSION}"

    def go(self) -> IndexReport:
        began = time.monotonic()
        run_id = self.catalog.start_run()
        if self.progress:
            self.total = sum(1 for _ in self._scan())
        first_new_id = self.catalog.next_media_id()
        scan, plan = self._scan(), Plan(self.catalog, self.profile.key, self.version, self.options.retry)
        self._index(plan.tasks(self._until_stopped(scan)), plan)
        if not self.stop.is_set():
            self._index(plan.last_tasks(), plan)
        self._record(scan.failures)
        if not self.stop.is_set():
            self._sweep(scan, plan, first_new_id)
        self.catalog.drop_orphans()
        report = replace(
            self.report,
            reused=plan.reused,
            failed=len(self.failures),
            seconds=round(time.monotonic() - began, 3),
            failures=tuple(self.failures),
            skipped=scan.skipped,
            interrupted=self.stop.is_set(),
        )
        counts = {
            name: getattr(report, name) for name in ("added", "updated", "reused", "removed", "failed", "seconds")
        }
        self.catalog.end_run(run_id, json.dumps(counts))
        return report

    def _scan(self) -> Scan:
        return Scan(self.roots, self.options.exclude, self.options.skip)

    def _until_stopped(self, scan: Scan) -> Iterator[Entry]:
        for entry in scan:
            if self.stop.is_set():
                return
            yield entry

    def _index(self, tasks: Iterator[Task], plan: Plan) -> None:
        """Decode, encode and commit tasks, batch by batch."""
        first = next(tasks, None)
        self._note(plan)
        if first is None:  # nothing to decode: no worker is started
            return
        outcomes = decode_all(_chain(first, tasks), self.profile, self.settings, self.stop.is_set)
        waited = time.monotonic()
        while batch := list(islice(outcomes, self.settings.batch)):
            decoded = time.monotonic()
            self._commit(batch)
            self.decode_s += decoded - waited
            waited = time.monotonic()
            self.encode_s += waited - decoded
            self._note(plan)

    def _commit(self, batch: Sequence[Outcome]) -> None:
        ready: list[tuple[Task, PreparedContent]] = []
        failed: list[tuple[Failure, Entry]] = []
        for task, outcome in batch:
            if isinstance(outcome, Failure):
                failed.append((outcome, task.entry))
            else:
                ready.append((task, outcome))
                failed += [(failure, task.entry) for failure in outcome.failures]
        spaces = {
            space.name: self.catalog.add_space(space.name, space.fingerprint, space.dim)
            for space in self.profile.spaces
        }
        contents: list[NewContent] = []
        for (task, content), vectors in zip(ready, encode(self.profile, [c for _, c in ready]), strict=True):
            if isinstance(vectors, str):
                failed.append((Failure(Path(os.fsdecode(task.entry.path)), Stage.ENCODE, vectors), task.entry))
                continue
            segments = [
                NewSegment(
                    segment.start_s,
                    segment.end_s,
                    segment.text,
                    {(spaces[name], View(view)): vector for (name, view), vector in found.items()},
                )
                for segment, found in zip(content.segments, vectors, strict=True)
            ]
            contents.append(NewContent(task.hash, content.modality, segments, [as_media(task.entry)]))
            known = task.known_path
            self.report = replace(
                self.report, added=self.report.added + (not known), updated=self.report.updated + known
            )
        # A file that no longer decodes has no content any more; its path goes in the same step that says why.
        self.catalog.remove([entry.path for failure, entry in failed if os.fsencode(failure.path) == entry.path])
        self.catalog.commit(contents, self.profile.key, [self._row(failure, entry.stamp) for failure, entry in failed])
        self.failures += [failure for failure, _ in failed]

    def _record(self, failures: Iterable[Failure], stamp: str = "") -> None:
        rows = [self._row(failure, stamp) for failure in failures]
        self.catalog.commit([], self.profile.key, rows)
        self.failures += failures

    def _row(self, failure: Failure, stamp: str) -> FailureRow:
        return FailureRow(os.fsencode(failure.path), failure.stage, failure.reason, stamp, self.version)

    def _sweep(self, scan: Scan, plan: Plan, first_new_id: int) -> None:
        """Take out what a complete scan no longer shows."""
        gone = Gone(self.catalog, scan, plan.seen, first_new_id, self.options.prune)
        removed = self.catalog.remove(list(gone.paths()))
        current = plan.seen_failures | {os.fsencode(failure.path) for failure in self.failures}
        healed = [f.path for root in self.roots for f in self.catalog.failures_under(root) if f.path not in current]
        self.catalog.remove(healed)
        kept = tuple(Path(os.fsdecode(folder)) for folder in sorted(gone.kept))
        self.report = replace(self.report, removed=removed, kept=kept)

    def _note(self, plan: Plan) -> None:
        unread, plan.failures = plan.failures, []
        if unread:
            self.catalog.remove([entry.path for _, entry in unread])
            self.catalog.commit([], self.profile.key, [self._row(failure, entry.stamp) for failure, entry in unread])
            self.failures += [failure for failure, _ in unread]
        if self.progress:
            done = plan.unchanged + plan.reused + self.report.added + self.report.updated + len(self.failures)
            bound = "decode" if self.decode_s > self.encode_s else "encode"
            self.progress(Progress(min(done, self.total), self.total, len(self.failures), bound))


def _chain(first: Task, rest: Iterator[Task]) -> Iterator[Task]:
    yield first
    yield from rest
