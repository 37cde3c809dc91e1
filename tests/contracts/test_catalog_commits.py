"""What every catalog promises of a commit: whole or not at all, in parts that add up, under a revision of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection
from support.catalogs import DIM, Open, content, named, paths, photo, rounded, segment, vector
from support.catalogs import held as held
from support.catalogs import reopen as reopen
from support.catalogs import space as space

from mmsearch.catalog import Catalog, FailureRow, Known, NewContent, catalog, writing
from mmsearch.records import Segment
from mmsearch.types import Modality, View


def test_the_parts_of_a_content_add_up_and_its_first_part_starts_it_anew(held: Catalog, space: int) -> None:
    def part(seed: int, from_s: float, resume_s: float | None) -> NewContent:
        piece = Segment({(space, View.AUDIO): vector(seed)}, from_s, from_s + 5, silent=seed == 2)
        return NewContent(b"h", Modality.AUDIO, [piece], [named("/a.wav")], from_s, resume_s)

    def starts() -> list[float]:
        return sorted(row.start_s or 0 for row in held.segment_rows(held.segment_ids(1)).values())

    held.commit([part(1, 0.0, 5.0)], "key")
    assert held.contents_by_hash([b"h"], "key") == {b"h": Known(1, Modality.AUDIO, 5.0)}
    assert held.media_at([b"/a.wav"])[b"/a.wav"].resume_s == 5.0
    held.commit([part(2, 5.0, 10.0), part(3, 10.0, None)], "key")  # two parts in one batch
    assert starts() == [0, 5, 10]
    assert [row.silent for row in held.segment_rows(held.segment_ids(1)).values()] == [False, True, False]
    assert held.contents_by_hash([b"h"], "key") == {b"h": Known(1, Modality.AUDIO, None)}
    assert len(held.sample(space, View.AUDIO, 10, DIM)) == 2  # without the silent one
    held.commit([part(4, 0.0, None)], "key")
    assert starts() == [0]


def test_failures_are_kept_replaced_and_forgotten_when_the_path_is_indexed(held: Catalog, space: int) -> None:
    bad = FailureRow(b"/p/\xff.jpg", "decode", "not a picture", "5:6;", "0.1/1")
    held.commit([], "key", [bad, FailureRow(b"/q/x.jpg", "read", "gone", "", "0.1/1")])
    assert held.failures_at([b"/p/\xff.jpg", b"/none.jpg"]) == {b"/p/\xff.jpg": bad}
    worse = FailureRow(b"/p/\xff.jpg", "encode", "too large", "7:8;", "0.2/1")
    held.commit([], "key", [worse])
    assert held.failures_under() == [worse, FailureRow(b"/q/x.jpg", "read", "gone", "", "0.1/1")]
    assert held.failures_under(b"/p") == [worse]
    photo(held, "/fine.jpg")
    held.point({named(b"/p/\xff.jpg"): 1})
    assert held.failures_under(b"/p") == []
    held.remove([b"/q/x.jpg"])
    assert held.failures_under() == []


def test_the_revision_is_another_when_embeddings_change_and_only_then(held: Catalog, space: int) -> None:
    seen = [held.revision]
    photo(held, "/a.jpg")
    seen.append(held.revision)
    photo(held, "/b.jpg")
    seen.append(held.revision)
    held.commit([], "key", [FailureRow(b"/x.jpg", "decode", "bad", "", "1")])
    held.commit([], "key")
    held.point({named("/c.jpg"): 1})
    held.point({})
    held.remove([b"/a.jpg"])  # /c.jpg still names its content
    held.drop_orphans()
    held.set_profile("mini", ["mini"])
    held.add_space("other", "f", 4)
    held.end_run(held.start_run(), "{}")
    held.remove([b"/b.jpg"])
    assert held.revision == seen[-1]
    held.drop_orphans()
    seen.append(held.revision)
    assert seen[0] == 0
    assert len(set(seen)) == 4
    assert all(held.had_revision(token) for token in seen)


def test_a_catalog_knows_only_its_own_revisions(held: Catalog, space: int, tmp_path: Path) -> None:
    photo(held, "/a.jpg")
    other = Catalog(tmp_path / "other.sqlite", create=True)
    photo_of_other = NewContent(b"h", Modality.IMAGE, [], [named("/a.jpg")])
    other.commit([photo_of_other], "key")
    assert other.revision != held.revision
    assert not other.had_revision(held.revision)
    assert not held.had_revision(other.revision)
    other.close()


def test_only_the_latest_revisions_are_remembered(held: Catalog, space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "REVISIONS", 2)
    seen = []
    for at in range(4):
        photo(held, f"/{at}.jpg")
        seen.append(held.revision)
    assert [held.had_revision(token) for token in seen] == [False, False, True, True]


def test_a_commit_that_fails_midway_leaves_nothing(held: Catalog, space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(held, "/a.jpg", 1)
    before = held.revision
    bad = FailureRow(b"/z.jpg", "decode", "bad", "", "1")
    two = [content(at, segment({(space, View.VISUAL): vector(2)}), at=[f"/{at}.jpg"]) for at in ("x", "y", "/a.jpg")]
    for module, step in ((writing, "point"), (catalog, "record_failures"), (catalog, "raise_revision")):
        reached: list[int] = []

        def stop(connection: Connection, *rest: object, reached: list[int] = reached) -> None:
            written = connection.exec_driver_sql("SELECT count(*) FROM content").scalar_one()
            reached.append(written)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, step, stop)
            with pytest.raises(KeyboardInterrupt):
                held.commit(two, "key", [bad])
        assert reached == [3], f"{step} wasn't reached after the contents were written"
        assert paths(held.media_under(b"/")) == [b"/a.jpg"]
        assert (held.content_with_hash(b"x"), held.content_with_hash(b"/a.jpg")) == (None, 1)
        np.testing.assert_array_equal(held.vectors(held.embedding_ids(space, View.VISUAL), DIM)[1], rounded(vector(1)))
        assert (held.count_segments(), held.revision, held.failures_under()) == (1, before, [])
    held.commit(two, "key", [bad])
    assert len(held.embedding_ids(space, View.VISUAL)) == 3
    assert held.failures_under() == [bad]


def test_each_of_many_segments_in_one_commit_gets_its_own_vectors(held: Catalog, space: int) -> None:
    notes = [
        content(
            f"h{note}",
            *(segment({(space, View.TEXT): vector(100 * note + at)}, f"{100 * note + at}") for at in range(note % 5)),
            at=[f"/{note}.md"],
            modality=Modality.TEXT,
        )
        for note in range(40)
    ]
    held.commit(notes, "key")
    for note in range(40):
        mine = held.media_at([f"/{note}.md".encode()])[f"/{note}.md".encode()].content_id
        assert held.content_with_hash(f"h{note}".encode()) == mine
        rows = held.segment_rows(held.segment_ids(mine))
        words = {number: own[0].words for number, own in held.texts_of(rows).items()}
        assert sorted(words.values()) == sorted(f"{100 * note + at}" for at in range(note % 5))
        found = held.embeddings_of(rows, space, DIM)
        assert len(found.ids) == note % 5
        for at, row in zip(found.segment_ids.tolist(), found.vectors, strict=True):
            np.testing.assert_array_equal(row, rounded(vector(int(words[at])))[0])


def test_the_same_content_under_two_names_in_one_commit_is_held_once(held: Catalog, space: int) -> None:
    same = segment({(space, View.VISUAL): vector(1)})
    held.commit([content("h", same, at=["/a.jpg"]), content("h", same, at=["/b.jpg"])], "key")
    assert paths(held.media_under(b"/")) == [b"/a.jpg", b"/b.jpg"]
    assert (held.count_segments(), len(held.embedding_ids(space, View.VISUAL))) == (1, 1)


def test_a_reader_sees_each_commit_of_a_writer_as_it_ends(held: Catalog, space: int, reopen: Open) -> None:
    reader = reopen()
    assert reader.revision == 0
    photo(held, "/a.jpg")
    assert reader.revision == held.revision != 0
    assert len(reader.embedding_ids(space, View.VISUAL)) == 1
