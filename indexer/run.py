"""One index run: scan → plan → decode → encode → commit → what is gone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import chain
from pathlib import Path

from indexer.decode import Outcome, decode_all
from indexer.encode import encode
from indexer.facts import fill_facts
from indexer.gone import Gone
from indexer.plan import Plan, Task, as_media
from indexer.precision import with_precision
from indexer.scan import Entry, Scan, look_at
from mmsearch.catalog import Catalog, FailureRow, NewContent
from mmsearch.errors import UsageError
from mmsearch.media import DECODER_VERSION, find_sidecars
from mmsearch.sandbox.work import FrontEnds, PreparedContent
from mmsearch.settings import Settings
from mmsearch.spaces import Profile, for_indexing
from mmsearch.types import Failure, IndexReport, Progress, Stage, View

_BATCH_SEGMENTS = 4_096
_BATCH_BYTES = 16 * 2**20
"""A batch ends with the content that brings it here: what a kill loses, and what memory holds."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What a run is asked to do: globs to leave out, folders that show nothing to prune, failures to try again.

    `change` says that the library changes to the profile: all else it holds is embedded as well. `again` are files that
    are embedded again wherever they lie, for what the catalog held of them was damaged.
    """

    exclude: tuple[str, ...] = ()
    prune: bool = False
    retry: bool = False
    skip: Path | None = None
    change: bool = False
    again: frozenset[bytes] = frozenset()


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
    roots = find_roots(paths)
    version = f"{metadata.version('mmsearch')}/{DECODER_VERSION}"
    plan = Plan(catalog, profile.key, version, settings.limits, options.retry, options.change)
    return _Run(catalog, profile, plan, roots, settings, options, progress, stop or threading.Event()).go()


def find_roots(paths: Sequence[Path]) -> list[bytes]:
    """Return the absolute paths that a run begins at. Raises `UsageError` where one doesn't exist."""
    missing = [path for path in paths if not os.path.lexists(path)]
    if missing:
        raise UsageError(f"{missing[0]} doesn't exist; nothing was changed")
    return list(dict.fromkeys(os.path.abspath(os.fsencode(path)) for path in paths))  # noqa: PTH100  bytes


@dataclass(slots=True)
class _Run:
    catalog: Catalog
    profile: Profile
    plan: Plan
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
    encoding: Profile | None = None
    """The profile as it encodes in this run: on which device, in which precision."""
    under_way: Outcome | None = None
    lost: set[bytes] = field(default_factory=set)

    def go(self) -> IndexReport:
        began = time.monotonic()
        run_id = self.catalog.start_run(self.roots, self.options.exclude)
        if self.progress:
            self.total = sum(1 for _ in self._until_stopped(self._scan())) + self._count_elsewhere()
        first_new_id = self.catalog.next_media_id()
        scan = self._scan()
        self._index(self.plan.tasks(self._until_stopped(scan)))
        if not self.stop.is_set():
            self._index(self.plan.last_tasks())
        self.catalog.commit([], self.profile.key, [self._row(failure, "") for failure in scan.failures])
        self.failures += scan.failures
        if not self.stop.is_set():
            self._sweep(scan, first_new_id)
        if (self.options.change or self.options.again) and not self.stop.is_set():
            self._index(self.plan.tasks(self._until_stopped(self._elsewhere())))
            if not self.stop.is_set():
                self._index(self.plan.last_tasks())
        self.catalog.drop_orphans()
        fill_facts(self.catalog, self._front_ends(), self.settings, self.roots, self.stop.is_set)
        report = replace(
            self.report,
            reused=self.plan.reused,
            failed=len(self.failures),
            seconds=round(time.monotonic() - began, 3),
            failures=tuple(self.failures),
            interrupted=self.stop.is_set(),
        )
        named = ("added", "updated", "reused", "removed", "failed", "seconds", "interrupted")
        self.catalog.end_run(run_id, json.dumps({name: getattr(report, name) for name in named}))
        return report

    def _scan(self) -> Scan:
        return Scan(self.roots, self.options.exclude, self.options.skip)

    def _until_stopped(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if self.stop.is_set():
                return
            yield entry

    def _elsewhere(self) -> Iterator[Entry]:
        """Yield the files to be embedded that no root shows, where they can be reached."""
        tried = {os.fsencode(failure.path) for failure in self.failures}
        for path in self._paths_elsewhere():
            if path in tried:
                continue
            folder = os.path.dirname(path)  # noqa: PTH120  paths are bytes here
            try:
                entry = look_at(path, find_sidecars(path), str(os.stat(folder).st_dev))  # noqa: PTH116
            except (OSError, ValueError):  # a damaged path may hold a NUL
                continue  # the library says how many there are
            if entry is not None:
                yield entry

    def _paths_elsewhere(self) -> Iterator[bytes]:
        """Yield the paths of what a change lacks, and of what was damaged and lies below none of the roots."""
        separator = os.fsencode(os.sep)
        below = tuple(root.rstrip(separator) + separator for root in self.roots)
        if self.options.change:
            yield from (row.path for row in self.catalog.lacking(self.profile.key))
        yield from (path for path in sorted(self.options.again) if not path.startswith(below))

    def _count_elsewhere(self) -> int:
        separator = os.fsencode(os.sep)
        below = tuple(root.rstrip(separator) + separator for root in self.roots)
        return sum(path not in self.roots and not path.startswith(below) for path in self._paths_elsewhere())

    def _index(self, tasks: Iterator[Task]) -> None:
        """Decode, encode and commit tasks, batch by batch."""
        first = next(tasks, None)
        self._note()
        if first is None:  # nothing to decode: no worker is started, and no tower is readied
            return
        if self.encoding is None:
            ready = for_indexing(self.profile, self.settings.device)
            self.encoding = with_precision(ready, self.catalog, self.settings.precision)
        waited = time.monotonic()
        with closing(
            decode_all(chain([first], tasks), self._front_ends(), self.settings, self.stop.is_set)
        ) as outcomes:
            for batch in _batches(outcomes, self.settings.batch):
                decoded = time.monotonic()
                self._commit(batch)
                self.under_way = next((outcome for outcome in reversed(batch) if not _is_whole(outcome[1])), None)
                self.plan.landed(task.hash for task, outcome in batch if _is_whole(outcome))
                self.decode_s += decoded - waited
                waited = time.monotonic()
                self.encode_s += waited - decoded
                self._note()

    def _front_ends(self) -> FrontEnds:
        return {(space.name, view): end for space in self.profile.spaces for view, end in space.front_ends.items()}

    def _commit(self, batch: Sequence[Outcome]) -> None:
        ready: list[tuple[Task, PreparedContent]] = []
        lost: list[tuple[Failure, Entry]] = []  # contents that give nothing
        partly: list[tuple[Failure, Entry]] = []  # parts of contents that give something
        for task, outcome in batch:
            if task.from_s and task.hash in self.lost:
                continue  # its beginning couldn't be encoded
            if isinstance(outcome, Failure):
                lost.append((outcome, task.entry))
            else:
                ready.append((task, outcome))
                partly += [(failure, task.entry) for failure in outcome.failures]
        spaces = {
            space.name: self.catalog.add_space(space.name, space.fingerprint, space.dim)
            for space in self.profile.spaces
        }
        contents: list[NewContent] = []
        for (task, content), vectors in zip(
            ready, encode(self.encoding or self.profile, [c for _, c in ready]), strict=True
        ):
            if isinstance(vectors, str):
                failure = Failure(Path(os.fsdecode(task.entry.path)), Stage.ENCODE, vectors)
                (partly if task.from_s else lost).append((failure, task.entry))
                if not task.from_s:
                    self.lost.add(task.hash)
                    continue
                content, vectors = replace(content, segments=()), []
            segments = [
                segment.with_views({(spaces[name], View(view)): vector for (name, view), vector in found.items()})
                for segment, found in zip(content.segments, vectors, strict=True)
            ]
            names = [as_media(task.entry)]
            place = (task.from_s, content.resume_s)
            contents.append(NewContent(task.hash, content.modality, segments, names, *place, content.facts))
            if _is_whole(content):
                known = task.known_path
                self.report = replace(
                    self.report, added=self.report.added + (not known), updated=self.report.updated + known
                )
        self._write(contents, lost, partly)

    def _write(
        self,
        contents: Sequence[NewContent],
        lost: Sequence[tuple[Failure, Entry]],
        partly: Sequence[tuple[Failure, Entry]] = (),
    ) -> None:
        # A file that no longer decodes has no content any more. One that can't be read may have: its row stays. So does
        # that of one which only the next profile can't encode, for the profile that answers has.
        staying = (Stage.READ, Stage.ENCODE) if self.options.change else (Stage.READ,)
        gone = [entry.path for failure, entry in lost if failure.stage not in staying]
        rows = [self._row(failure, entry.stamp) for failure, entry in (*lost, *partly)]
        self.catalog.commit(contents, self.profile.key, rows, gone)
        self.failures += [failure for failure, _ in (*lost, *partly)]

    def _row(self, failure: Failure, stamp: str) -> FailureRow:
        version = self.plan.version_for(failure.stage)
        return FailureRow(os.fsencode(failure.path), failure.stage, failure.reason, stamp, version)

    def _sweep(self, scan: Scan, first_new_id: int) -> None:
        """Take out what a complete scan no longer shows."""
        gone = Gone(self.catalog, scan, self.plan.seen, first_new_id, self.options.prune)
        removed = self.catalog.remove(list(gone.paths()))
        current = self.plan.seen_failures | {os.fsencode(failure.path) for failure in self.failures}
        self.catalog.forget_failures(list(gone.healed(current)))
        kept = tuple(Path(os.fsdecode(folder)) for folder in sorted(gone.kept))
        self.report = replace(self.report, removed=removed, kept=kept)

    def _note(self) -> None:
        plan = self.plan
        unread, plan.failures = plan.failures, []
        if unread:
            self._write([], unread)
        if self.progress:
            done = plan.unchanged + plan.reused + self.report.added + self.report.updated + len(self.failures)
            bound = "decode" if self.decode_s > self.encode_s else "encode"
            state = Progress(min(done, self.total), self.total, len(self.failures), bound)
            if self.under_way is not None:
                task, part = self.under_way
                until_s = part.resume_s if isinstance(part, PreparedContent) else None
                state = replace(state, under_way=Path(os.fsdecode(task.entry.path)), until_s=until_s or 0.0)
            self.progress(state)


def _batches(outcomes: Iterator[Outcome], most: int) -> Iterator[list[Outcome]]:
    """Cut what was decoded into batches of so many contents, or fewer where they are large or a part of a long one."""
    batch: list[Outcome] = []
    segments, size = 0, 0
    for outcome in outcomes:
        batch.append(outcome)
        if isinstance(outcome[1], PreparedContent):
            segments += len(outcome[1].segments)
            size += outcome[1].bytes
        full = len(batch) == most or segments >= _BATCH_SEGMENTS or size >= _BATCH_BYTES
        if full or not _is_whole(outcome[1]):  # what is decoded of a long file isn't decoded again
            yield batch
            batch, segments, size = [], 0, 0
    if batch:
        yield batch


def _is_whole(outcome: PreparedContent | Failure) -> bool:
    """Return whether nothing more comes of a content."""
    return isinstance(outcome, Failure) or outcome.resume_s is None
