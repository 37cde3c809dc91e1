"""Plans an index run from changes and the catalog's rows. These are pure functions: they read and write nothing.

`compare` decides by size, mtime and the like, and returns the files that must be hashed. `plan` then decides by their
hashes which of them are known under another name, and which must be decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from indexer.changes import Changes, Entry
from mmsearch.catalog import OF_A_PART, FailureRow, Known, MediaRow, NewMedia
from mmsearch.types import Failure, Modality, Stage


@dataclass(frozen=True, slots=True)
class Task:
    """A content, or a part of it, to decode: its file and its hash.

    `known_path` says that the library has this file already, so that it counts as updated. `from_s` is where a later
    part begins; `modality` is then that of the first part.
    """

    entry: Entry
    hash: bytes
    known_path: bool
    from_s: float = 0.0
    modality: Modality | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules for when a known file is up to date, and when a recorded failure is worth another try.

    Contents that were embedded under another model `key` are embedded again. `version` is the program's: failures of an
    older one are tried again, and with `retry` all failures. `change` says that the library is changing to this model
    from another one, which has embedded its contents.
    """

    key: str
    version: str
    retry: bool = False
    change: bool = False

    def version_for(self, stage: str) -> str:
        """Return the version that a failure of this stage is recorded with; encoding also depends on the model."""
        return f"{self.version} {self.key}" if stage == Stage.ENCODE else self.version

    def is_due(self, failure: FailureRow | None) -> bool:
        """Return whether a failure is worth another try although its file hasn't changed.

        A file that couldn't be opened always is: a change of permissions changes neither size nor mtime.
        """
        if failure is None or self.retry or failure.stage == Stage.READ:
            return failure is not None
        return failure.version != self.version_for(failure.stage)


@dataclass(frozen=True, slots=True)
class PathRows:
    """The catalog's rows for the paths of some changes.

    `unreadable` are sidecars with a recorded failure of reading that still can't be read.
    """

    media: Mapping[bytes, MediaRow]
    failures: Mapping[bytes, FailureRow]
    unreadable: Set[bytes] = frozenset()

    def failure_of_a_part(self, path: bytes) -> FailureRow | None:
        """Return a file's recorded failure if it concerns a part of its content, such as a broken tail."""
        failure = self.failures.get(path)
        return failure if failure is not None and failure.stage in OF_A_PART else None


@dataclass(slots=True)
class Comparison:
    """The result of comparing changes with the catalog."""

    unsettled: list[Entry] = field(default_factory=list)
    """Files that must be hashed."""
    again: set[Entry] = field(default_factory=set)
    """Unsettled files that are decoded again even if their content is known, since a part of them had failed."""
    unchanged: int = 0
    moved: dict[NewMedia, int] = field(default_factory=dict)
    """Unchanged files that are now on another device, with the ids of their contents."""
    seen: list[int] = field(default_factory=list)
    """The media ids of existing files."""
    failing: set[bytes] = field(default_factory=set)
    """Paths whose recorded failure still holds."""


@dataclass(slots=True)
class Plan:
    """The consequences of some changes: `tasks` must be decoded first, everything else can be written at once."""

    tasks: list[Task] = field(default_factory=list)
    reused: dict[NewMedia, int] = field(default_factory=dict)
    """Files whose content is in the library already, with its id."""
    moved: dict[NewMedia, int] = field(default_factory=dict)
    failures: list[tuple[Failure, Entry]] = field(default_factory=list)
    """Files that can't be read."""
    gone: tuple[bytes, ...] = ()
    healed: tuple[bytes, ...] = ()
    copies: list[Entry] = field(default_factory=list)
    """Files whose content is being decoded under another name; they are planned again when that has finished."""
    unchanged: int = 0
    seen: list[int] = field(default_factory=list)
    failing: set[bytes] = field(default_factory=set)


def compare(changes: Changes, rows: PathRows, rules: Rules) -> Comparison:
    """Compare changes with the catalog's rows; files that are unchanged need no hashing."""
    comparison = Comparison()
    for entry in changes.found:
        due = _part_is_due(entry, rows, rules, comparison)
        if not _is_settled(entry, rows, rules, comparison) or due:
            comparison.unsettled.append(entry)
            if due:
                comparison.again.add(entry)
    return comparison


def plan(
    changes: Changes,
    rows: PathRows,
    compared: Comparison,
    hashes: Mapping[Entry, bytes | Failure],
    known: Mapping[bytes, Known],
    under_way: Set[bytes] | None,
    rules: Rules,
) -> Plan:
    """Return the plan for changes. `hashes` has the hash, or the failure of reading, of each unsettled file.

    `known` are the catalog's contents by hash, `under_way` the hashes of contents that are being decoded: a second file
    of such a content waits for the first one. With None, no file waits, and each is decoded by itself.
    """
    result = Plan(moved=compared.moved, gone=changes.gone, healed=changes.healed, unchanged=compared.unchanged)
    result.seen, result.failing = compared.seen, set(compared.failing)
    unsettled = [(entry, hashes[entry]) for entry in compared.unsettled]
    # Other files of a content that is decoded again wait for it, too.
    renewed = {digest for entry, digest in unsettled if entry in compared.again}
    taken = set(under_way or ())
    for entry, digest in unsettled:
        if isinstance(digest, Failure):
            result.failures.append((digest, entry))
            continue
        content = known.get(digest) if digest not in renewed else None
        if content is not None and content.resume_s is None:
            result.reused[entry.row] = content.id
            result.failing.update((entry.path, *entry.sidecars))
        elif under_way is not None and digest in taken:
            result.copies.append(entry)
        else:
            taken.add(digest)
            result.tasks.append(_task(entry, digest, content, rows, rules))
            if content is not None and rows.failure_of_a_part(entry.path):
                result.failing.add(entry.path)
    return result


def _task(entry: Entry, digest: bytes, begun: Known | None, rows: PathRows, rules: Rules) -> Task:
    """Return the task of decoding a file; if an earlier run has `begun` its content, from where that ended."""
    row = rows.media.get(entry.path)
    # A file that an earlier run only began counts as added now, since that run didn't count it; except in a change of
    # model, where nearly every such file was in the library before.
    known_path = row is not None and (row.resume_s is None or rules.change)
    if begun is None:
        return Task(entry, digest, known_path)
    return Task(entry, digest, known_path, begun.resume_s or 0.0, begun.modality)


def _part_is_due(entry: Entry, rows: PathRows, rules: Rules, comparison: Comparison) -> bool:
    """Return whether a part of an indexed file is worth another try: a sidecar, or a broken tail."""
    due = entry.path in rows.media and rules.is_due(rows.failure_of_a_part(entry.path))
    for path in entry.sidecars:
        if path in rows.unreadable:
            comparison.failing.add(path)
        else:
            due = due or rules.is_due(rows.failures.get(path))
    return due


def _is_settled(entry: Entry, rows: PathRows, rules: Rules, comparison: Comparison) -> bool:
    """Return whether a file needs no work: it is unchanged, or it failed before and would fail again."""
    row, failure = rows.media.get(entry.path), rows.failures.get(entry.path)
    if row is not None:
        comparison.seen.append(row.id)
        if _is_current(entry, row, rules):
            if row.device != entry.device:
                comparison.moved[entry.row] = row.content_id
            comparison.failing.update(entry.sidecars)
            if rows.failure_of_a_part(entry.path):
                comparison.failing.add(entry.path)
            comparison.unchanged += 1
            return True
        if row.embedded_by is not None or not rules.change or failure is None or failure.stage != Stage.ENCODE:
            return False  # a failure, if there is one, concerns a part: decoding continues where it ended
    if failure is None or rules.is_due(failure) or failure.stamp != entry.stamp:
        return False
    comparison.failing.add(entry.path)
    comparison.unchanged += 1
    return True


def _is_current(entry: Entry, row: MediaRow, rules: Rules) -> bool:
    """Return whether a file is unchanged since this model embedded it completely."""
    stored = (row.size_bytes, row.mtime_ns, row.sidecars, row.embedded_by, row.resume_s)
    return stored == (entry.size_bytes, entry.mtime_ns, entry.sidecar_stamp, rules.key, None)
