"""A plan says what is to be done about changes; making it writes nothing, and needs no library."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from support.media_maker import put

from indexer.changes import Changes, Entry, changes_at, in_parts
from indexer.plan import PathRows, Plan, Rules, compare, plan
from indexer.planner import Planner
from mmsearch.catalog import Catalog, FailureRow, Known, MediaRow
from mmsearch.settings import Limits
from mmsearch.types import Failure, Modality, Stage

RULES = Rules(key="model", version="1")
RED, BLUE, CLIP = (Entry(path, 10, 20, "disk") for path in (b"/m/red.png", b"/m/blue.png", b"/m/clip.mp4"))


def row(entry: Entry, number: int = 1, resume_s: float | None = None) -> MediaRow:
    """Return the row of a file that was indexed as it is."""
    return MediaRow(number, entry.path, number, entry.size_bytes, entry.mtime_ns, "", entry.device, RULES.key, resume_s)


def failed(entry: Entry, stage: Stage = Stage.DECODE, version: str = "1") -> FailureRow:
    return FailureRow(entry.path, stage, "broken", entry.stamp, version)


def held(*rows: MediaRow, failures: Iterable[FailureRow] = ()) -> PathRows:
    return PathRows({one.path: one for one in rows}, {one.path: one for one in failures})


def planned(
    *entries: Entry,
    hashes: dict[Entry, bytes | Failure] | None = None,
    catalog: PathRows | None = None,
    known: dict[bytes, Known] | None = None,
    under_way: set[bytes] | None = frozenset(),  # type: ignore[assignment]
    rules: Rules = RULES,
) -> Plan:
    changes, catalog = Changes(entries), catalog or held()
    compared = compare(changes, catalog, rules)
    digests = hashes or {entry: entry.path for entry in entries}
    return plan(changes, catalog, compared, digests, known or {}, under_way, rules)


def test_a_new_file_is_decoded_and_an_unchanged_one_is_not() -> None:
    made = planned(RED, BLUE, catalog=held(row(RED)))
    assert [(task.entry, task.known_path) for task in made.tasks] == [(BLUE, False)]
    assert (made.unchanged, made.seen) == (1, [1])


def test_a_changed_file_is_decoded_as_a_known_one() -> None:
    made = planned(replace(RED, mtime_ns=21), catalog=held(row(RED)))
    assert [task.known_path for task in made.tasks] == [True]


def test_a_file_whose_content_is_known_is_reused() -> None:
    made = planned(RED, hashes={RED: b"digest"}, known={b"digest": Known(7, Modality.IMAGE, None)})
    assert (made.tasks, made.reused) == ([], {RED.row: 7})


def test_a_content_that_was_begun_is_decoded_from_where_it_ended() -> None:
    made = planned(CLIP, hashes={CLIP: b"digest"}, known={b"digest": Known(7, Modality.VIDEO, 60.0)})
    assert [(task.from_s, task.modality) for task in made.tasks] == [(60.0, Modality.VIDEO)]


def test_a_copy_waits_for_the_file_that_is_under_way() -> None:
    same: dict[Entry, bytes | Failure] = {RED: b"digest", BLUE: b"digest"}
    made = planned(RED, BLUE, hashes=same)
    assert ([task.entry for task in made.tasks], made.copies) == ([RED], [BLUE])
    made = planned(BLUE, hashes=same, under_way={b"digest"})
    assert (made.tasks, made.copies) == ([], [BLUE])


def test_in_the_end_each_copy_is_tried_by_itself() -> None:
    same: dict[Entry, bytes | Failure] = {RED: b"digest", BLUE: b"digest"}
    made = planned(RED, BLUE, hashes=same, under_way=None)
    assert ([task.entry for task in made.tasks], made.copies) == ([RED, BLUE], [])


def test_an_unchanged_file_on_another_device_is_noted_and_not_hashed() -> None:
    moved = replace(RED, device="other disk")
    made = planned(moved, hashes={}, catalog=held(row(RED)))
    assert (made.tasks, made.moved) == ([], {moved.row: 1})


def test_a_recorded_failure_is_tried_again_by_another_version_or_when_asked() -> None:
    catalog = held(failures=[failed(RED)])
    assert planned(RED, catalog=catalog).tasks == []
    assert planned(RED, catalog=catalog).failing == {RED.path}
    assert len(planned(RED, catalog=catalog, rules=replace(RULES, version="2")).tasks) == 1
    assert len(planned(RED, catalog=catalog, rules=replace(RULES, retry=True)).tasks) == 1
    assert len(planned(RED, catalog=held(failures=[failed(RED, Stage.READ)])).tasks) == 1


def test_a_file_that_cannot_be_read_is_a_failure() -> None:
    failure = Failure(Path("/m/red.png"), Stage.READ, "gone")
    assert planned(RED, hashes={RED: failure}).failures == [(failure, RED)]


def test_comparing_and_planning_leave_their_arguments_as_they_are() -> None:
    catalog, under_way = held(row(RED), failures=[failed(BLUE)]), {b"digest"}
    first = planned(RED, BLUE, CLIP, catalog=catalog, under_way=under_way)
    assert planned(RED, BLUE, CLIP, catalog=catalog, under_way=under_way) == first
    assert under_way == {b"digest"}


class ReadOnly:
    """A catalog of which only the reads of planning can be called."""

    def media_at(self, paths: Iterable[bytes]) -> dict[bytes, MediaRow]:
        return {}

    def failures_at(self, paths: Iterable[bytes]) -> dict[bytes, FailureRow]:
        return {}

    def contents_by_hash(self, hashes: Iterable[bytes], embedded_by: str) -> dict[bytes, Known]:
        return {}


def test_a_planner_reads_the_catalog_and_writes_nothing(tmp_path: Path) -> None:
    files = [put(tmp_path, name, "the same") for name in ("a.txt", "b.txt")]
    catalog: Catalog = ReadOnly()  # type: ignore[assignment]
    planner = Planner(catalog, RULES, Limits())
    (changes,) = changes_at(map(os.fsencode, files))
    made = planner.plan(changes)
    assert [task.entry.path for task in made.tasks] == [os.fsencode(files[0])]
    assert [plan.tasks for plan in [planner.plan(changes)]] == [[]]  # both wait by now
    planner.landed([made.tasks[0].hash])
    assert [len(plan.tasks) for plan in planner.last_plans()] == [3]
    planner.close()


def test_changes_at_paths_say_which_files_are_there_and_which_are_gone(tmp_path: Path) -> None:
    there, gone = put(tmp_path, "a.txt", "a note"), tmp_path / "b.txt"
    (changes,) = changes_at([os.fsencode(there), os.fsencode(gone), b"/with\0nul"])
    assert [entry.path for entry in changes.found] == [os.fsencode(there)]
    assert changes.gone == (os.fsencode(gone), b"/with\0nul")


@pytest.mark.parametrize(("size", "parts"), [(10, [256, 44]), (2**31, [1] * 300)])
def test_changes_come_in_parts_of_so_many_files_or_bytes(size: int, parts: list[int]) -> None:
    entries = [Entry(b"/m/%d.png" % number, size, 0, "disk") for number in range(300)]
    assert [len(changes.found) for changes in in_parts(entries)] == parts
