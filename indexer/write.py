"""Plans and outcomes → the catalog. The only part of a run that writes to it."""

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

_Lost = tuple[Failure, Entry]


@dataclass(slots=True)
class Writer:
    """Writes what a run finds out, and counts it as the report does."""

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
    """Contents whose beginning couldn't be encoded: their later parts are dropped."""

    @property
    def done(self) -> int:
        """How many files the run is through with."""
        return self.unchanged + self.reused + self.added + self.updated + len(self.failures)

    def settle(self, plan: Plan) -> None:
        """Write what a plan says without decoding anything."""
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
        lost: list[_Lost] = []
        partly: list[_Lost] = []
        for task, result in outcomes:
            if task.from_s and task.hash in self._unencodable:
                continue
            if isinstance(result, Failure):
                lost.append((result, task.entry))
                if result.stage is Stage.ENCODE:
                    self._unencodable.add(task.hash)
                continue
            partly += [(failure, task.entry) for failure in result.failures]
            contents.append(self._content(task, result))
            if is_whole(result):
                self.added += not task.known_path
                self.updated += task.known_path
        self._commit(contents, lost, partly)

    def note(self, failures: Sequence[Failure]) -> None:
        """Record failures of a scan, which belong to no state of a file."""
        self.catalog.commit([], self.profile.key, [self._row(failure, "") for failure in failures])
        self.failures += failures

    def _content(self, task: Task, encoded: EncodedContent) -> NewContent:
        spaces = self._space_ids()
        segments = [
            segment.with_views({(spaces[name], view): vector for (name, view), vector in segment.views.items()})
            for segment in encoded.segments
        ]
        place = (task.from_s, encoded.resume_s)
        return NewContent(task.hash, encoded.modality, segments, [task.entry.row], *place, encoded.facts)

    def _space_ids(self) -> dict[str, int]:
        if not self._spaces:
            self._spaces = {
                space.name: self.catalog.add_space(space.name, space.fingerprint, space.dim)
                for space in self.profile.spaces
            }
        return self._spaces

    def _commit(self, contents: Sequence[NewContent], lost: Sequence[_Lost], partly: Sequence[_Lost]) -> None:
        """Write contents, failures of files that give nothing, and failures of parts of files."""
        # A file that no longer decodes has no content any more. One that can't be read may have: its row stays. So does
        # that of one which only the next profile can't encode, for the profile that answers has.
        staying = (Stage.READ, Stage.ENCODE) if self.rules.change else (Stage.READ,)
        gone = [entry.path for failure, entry in lost if failure.stage not in staying]
        rows = [self._row(failure, entry.stamp) for failure, entry in (*lost, *partly)]
        self.catalog.commit(contents, self.profile.key, rows, gone)
        self.failures += [failure for failure, _ in (*lost, *partly)]

    def _row(self, failure: Failure, stamp: str) -> FailureRow:
        version = self.rules.version_for(failure.stage)
        return FailureRow(os.fsencode(failure.path), failure.stage, failure.reason, stamp, version)

    @property
    def failed_paths(self) -> set[bytes]:
        """The paths that failed in this run."""
        return {os.fsencode(failure.path) for failure in self.failures}
