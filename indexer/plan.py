"""Changes and what the catalog holds of them → a plan. Pure: nothing is read or written here.

`compare` settles what can be settled by looking, and says which files have to be hashed for more. `plan` then says
which of those are known under another name, and which have to be decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from indexer.changes import Changes, Entry
from mmsearch.catalog import OF_A_PART, FailureRow, Known, MediaRow, NewMedia
from mmsearch.types import Failure, Modality, Stage


@dataclass(frozen=True, slots=True)
class Task:
    """A content to be decoded, or a part of it: the file it is read from, and its hash.

    `known_path` says that the library has this file already, so that it counts as updated. `from_s` is where a part
    begins that isn't the first; `modality` is then the first one's.
    """

    entry: Entry
    hash: bytes
    known_path: bool
    from_s: float = 0.0
    modality: Modality | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """When a file that the catalog knows is up to date, and when a recorded failure is worth another try.

    Contents that were embedded under another profile `key` are embedded again. `version` is the program's: failures of
    an older one are tried again, and with `retry` all of them. `change` says that the library changes to this profile,
    and that another one has embedded what it holds.
    """

    key: str
    version: str
    retry: bool = False
    change: bool = False

    def version_for(self, stage: str) -> str:
        """Return the version that a failure of this stage is recorded with: encoding fails by the profile, too."""
        return f"{self.version} {self.key}" if stage == Stage.ENCODE else self.version

    def is_due(self, failure: FailureRow | None) -> bool:
        """Return whether a failure is worth another try although its file didn't change.

        A file that couldn't be opened always is: mended permissions show in neither size nor mtime.
        """
        if failure is None or self.retry or failure.stage == Stage.READ:
            return failure is not None
        return failure.version != self.version_for(failure.stage)


@dataclass(frozen=True, slots=True)
class Held:
    """What the catalog holds at the paths of some changes.

    `unreadable` are sidecars whose recorded failure is that they couldn't be read, and that still can't be.
    """

    media: Mapping[bytes, MediaRow]
    failures: Mapping[bytes, FailureRow]
    unreadable: Set[bytes] = frozenset()

    def failure_of_a_part(self, path: bytes) -> FailureRow | None:
        """Return the recorded failure of a file if it is one of its content: a tail that can't be decoded."""
        failure = self.failures.get(path)
        return failure if failure is not None and failure.stage in OF_A_PART else None


@dataclass(slots=True)
class Comparison:
    """What comparing changes with the catalog has settled, and what it has left open."""

    unsettled: list[Entry] = field(default_factory=list)
    """Files that have to be hashed."""
    again: set[Entry] = field(default_factory=set)
    """Those of them that are decoded again even if their content is known: a part of them had failed."""
    unchanged: int = 0
    moved: dict[NewMedia, int] = field(default_factory=dict)
    """Unchanged files that are on another device than before, with their content."""
    seen: list[int] = field(default_factory=list)
    """The media ids of files that are there."""
    failing: set[bytes] = field(default_factory=set)
    """Paths whose recorded failure still holds."""


@dataclass(slots=True)
class Plan:
    """What is to be done about some changes: written at once, but for the `tasks`, which have to be decoded first."""

    tasks: list[Task] = field(default_factory=list)
    reused: dict[NewMedia, int] = field(default_factory=dict)
    """Files whose content the library holds already, with its id."""
    moved: dict[NewMedia, int] = field(default_factory=dict)
    failures: list[tuple[Failure, Entry]] = field(default_factory=list)
    """Files that can't be read."""
    gone: tuple[bytes, ...] = ()
    healed: tuple[bytes, ...] = ()
    copies: list[Entry] = field(default_factory=list)
    """Files whose content is under way by another name: to be planned again when that has ended."""
    unchanged: int = 0
    seen: list[int] = field(default_factory=list)
    failing: set[bytes] = field(default_factory=set)


def compare(changes: Changes, held: Held, rules: Rules) -> Comparison:
    """Return what looking at the files settles: those that are as they were need no more."""
    found = Comparison()
    for entry in changes.found:
        due = _part_is_due(entry, held, rules, found)
        if not _is_settled(entry, held, rules, found) or due:
            found.unsettled.append(entry)
            if due:
                found.again.add(entry)
    return found


def plan(
    changes: Changes,
    held: Held,
    compared: Comparison,
    hashes: Mapping[Entry, bytes | Failure],
    known: Mapping[bytes, Known],
    under_way: Set[bytes] | None,
    rules: Rules,
) -> Plan:
    """Return what is to be done about changes, once those that `compare` left open are hashed.

    `known` are the contents that the catalog holds by hash, `under_way` the hashes of those that are being decoded: a
    second file of such a content waits for the first one. With None, none waits, and each is tried by itself.
    """
    made = Plan(moved=compared.moved, gone=changes.gone, healed=changes.healed, unchanged=compared.unchanged)
    made.seen, made.failing = compared.seen, set(compared.failing)
    open_entries = [(entry, hashes[entry]) for entry in compared.unsettled]
    # A file that is decoded again stands for every other one of its content here: they wait for it.
    renewed = {digest for entry, digest in open_entries if entry in compared.again}
    taken = set(under_way or ())
    for entry, digest in open_entries:
        if isinstance(digest, Failure):
            made.failures.append((digest, entry))
            continue
        content = known.get(digest) if digest not in renewed else None
        if content is not None and content.resume_s is None:
            made.reused[entry.row] = content.id
            made.failing.update((entry.path, *entry.sidecars))
        elif under_way is not None and digest in taken:
            made.copies.append(entry)
        else:
            taken.add(digest)
            made.tasks.append(_task(entry, digest, content, held, rules))
            if content is not None and held.failure_of_a_part(entry.path):
                made.failing.add(entry.path)
    return made


def _task(entry: Entry, digest: bytes, begun: Known | None, held: Held, rules: Rules) -> Task:
    """Return the task of decoding a file, from where an earlier run has `begun` it."""
    row = held.media.get(entry.path)
    # No earlier run has counted a file that it only began; in a change of model nearly all of them were there before.
    known_path = row is not None and (row.resume_s is None or rules.change)
    if begun is None:
        return Task(entry, digest, known_path)
    return Task(entry, digest, known_path, begun.resume_s or 0.0, begun.modality)


def _part_is_due(entry: Entry, held: Held, rules: Rules, found: Comparison) -> bool:
    """Return whether a part of an indexed file is worth another try: a sidecar of it, or its broken tail."""
    due = entry.path in held.media and rules.is_due(held.failure_of_a_part(entry.path))
    for path in entry.sidecars:
        if path in held.unreadable:
            found.failing.add(path)
        else:
            due = due or rules.is_due(held.failures.get(path))
    return due


def _is_settled(entry: Entry, held: Held, rules: Rules, found: Comparison) -> bool:
    row, failure = held.media.get(entry.path), held.failures.get(entry.path)
    if row is not None:
        found.seen.append(row.id)
        if _is_current(entry, row, rules):
            if row.device != entry.device:
                found.moved[entry.row] = row.content_id
            found.failing.update(entry.sidecars)
            if held.failure_of_a_part(entry.path):
                found.failing.add(entry.path)
            found.unchanged += 1
            return True
        if row.embedded_by is not None or not rules.change or failure is None or failure.stage != Stage.ENCODE:
            return False  # its failure, if there is one, is of a part: decoding goes on where it ended
    if failure is None or rules.is_due(failure) or failure.stamp != entry.stamp:
        return False
    found.failing.add(entry.path)
    found.unchanged += 1
    return True


def _is_current(entry: Entry, row: MediaRow, rules: Rules) -> bool:
    """Return whether a file is as it was when it was embedded, to its end and by this very model."""
    stored = (row.size_bytes, row.mtime_ns, row.sidecars, row.embedded_by, row.resume_s)
    return stored == (entry.size_bytes, entry.mtime_ns, entry.sidecar_stamp, rules.key, None)
