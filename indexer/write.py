"""Writes plans and outcomes to the catalog. No other part of a run writes to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from indexer.changes import Entry
from indexer.executors.base import EncodedContent, Outcome, is_whole
from indexer.plan import Plan, Rules, Task
from mmsearch.catalog import Catalog, FailureRow, NewContent
from mmsearch.spaces import Profile
from mmsearch.types import Failure, Stage

_FailedEntry = tuple[Failure, Entry]


@dataclass(slots=True)
class Writer:
    """Writes the results of a run, and counts them for the report."""

    catalog: Catalog
    profile: Profile
    rules: Rules
    added: int = 0
    updated: int = 0
    reused: int = 0
    removed: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    _spaces: dict[str, int] = field(default_factory=dict)
    _unencodable: set[bytes] = field(default_factory=set)
    """Contents whose first part couldn't be encoded: their later parts are dropped."""

    @property
    def done(self) -> int:
        """Number of files that are finished."""
        return self.unchanged + self.reused + self.added + self.updated + len(self.failures)

    def settle(self, plan: Plan) -> None:
        """Write the part of a plan that needs no decoding."""
        if named := plan.moved | plan.reused:
            self.catalog.point(named)
        if plan.failures:
            self._commit([], plan.failures, [])
        if plan.gone:
            self.removed += self.catalog.remove(plan.gone)
        if plan.healed:
            self.catalog.forget_failures(plan.healed)
        self.unchanged += plan.unchanged
        self.reused += len(plan.reused)

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write a batch of contents and failures, in one transaction."""
        contents: list[NewContent] = []
        failed: list[_FailedEntry] = []
        partly_failed: list[_FailedEntry] = []
        for task, result in outcomes:
            if task.from_s and task.hash in self._unencodable:
                continue
            if isinstance(result, Failure):
                failed.append((result, task.entry))
                if result.stage is Stage.ENCODE:
                    self._unencodable.add(task.hash)
                continue
            partly_failed += [(failure, task.entry) for failure in result.failures]
            contents.append(self._content(task, result))
            if is_whole(result):
                self.added += not task.known_path
                self.updated += task.known_path
        self._commit(contents, failed, partly_failed)

    def note(self, failures: Sequence[Failure]) -> None:
        """Record failures of a scan. Unlike other failures, they aren't tied to a file's size and mtime."""
        self.catalog.commit([], self.profile.key, [self._row(failure, "") for failure in failures])
        self.failures += failures

    def _content(self, task: Task, encoded: EncodedContent) -> NewContent:
        spaces = self._space_ids()
        segments = [
            segment.with_views({(spaces[name], view): vector for (name, view), vector in segment.views.items()})
            for segment in encoded.segments
        ]
        span = (task.from_s, encoded.resume_s)
        return NewContent(task.hash, encoded.modality, segments, [task.entry.row], *span, encoded.facts)

    def _space_ids(self) -> dict[str, int]:
        if not self._spaces:
            self._spaces = {
                space.name: self.catalog.add_space(space.name, space.fingerprint, space.dim)
                for space in self.profile.spaces
            }
        return self._spaces

    def _commit(
        self, contents: Sequence[NewContent], failed: Sequence[_FailedEntry], partly_failed: Sequence[_FailedEntry]
    ) -> None:
        """Write contents, failures of whole files, and failures of parts of files."""
        # The row of a file that no longer decodes is removed. The row of one that can't be read stays, since its
        # content may be unchanged. In a change of model, so does the row of one that only the new model can't encode.
        kept_stages = (Stage.READ, Stage.ENCODE) if self.rules.change else (Stage.READ,)
        gone = [entry.path for failure, entry in failed if failure.stage not in kept_stages]
        rows = [self._row(failure, entry.stamp) for failure, entry in (*failed, *partly_failed)]
        self.catalog.commit(contents, self.profile.key, rows, gone)
        self.failures += [failure for failure, _ in (*failed, *partly_failed)]

    def _row(self, failure: Failure, stamp: str) -> FailureRow:
        version = self.rules.version_for(failure.stage)
        return FailureRow(os.fsencode(failure.path), failure.stage, failure.reason, stamp, version)

    @property
    def failed_paths(self) -> set[bytes]:
        """The paths that failed in this run."""
        return {os.fsencode(failure.path) for failure in self.failures}
