"""What every catalog promises: a suite over each implementation, and what is SQLite's alone."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection
from support.old_catalogs import downgrade, shape

from mmsearch.catalog import (
    Catalog,
    FailureRow,
    Known,
    MediaRow,
    NewContent,
    NewMedia,
    ProfileRow,
    catalog,
    profiles,
    schema,
    writing,
)
from mmsearch.catalog.rows import NewSegment
from mmsearch.errors import CatalogError
from mmsearch.records import Origin, Segment, Text
from mmsearch.types import Modality, View

Vector = NDArray[np.float32]
Open = Callable[[], Catalog]
DIM = 8


def sqlite_catalog(folder: Path) -> Catalog:
    return Catalog(folder / "catalog.sqlite", create=True)


@pytest.fixture(params=[sqlite_catalog], ids=lambda made: made.__name__)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same catalog as often as it is called."""
    opened: list[Catalog] = []

    def again() -> Catalog:
        opened.append(request.param(tmp_path))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


@pytest.fixture
def held(reopen: Open) -> Catalog:
    return reopen()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement that goes in parts takes three values, and a page is of three rows."""
    monkeypatch.setattr(writing, "PART", 3)
    monkeypatch.setattr(catalog, "PART", 3)
    monkeypatch.setattr(profiles, "PART", 3)


def vector(seed: int) -> Vector:
    drawn = np.random.default_rng(seed).standard_normal(DIM)
    return np.asarray(drawn / np.linalg.norm(drawn), np.float32)


def rounded(*vectors: Vector) -> Vector:
    return np.stack(vectors).astype(np.float16).astype(np.float32)


def named(path: bytes | str, size_bytes: int = 1, mtime_ns: int = 1) -> NewMedia:
    return NewMedia(os.fsencode(path), size_bytes, mtime_ns, "", "66305")


def segment(vectors: Mapping[tuple[int, View], Vector], text: str | None = None) -> NewSegment:
    return Segment(vectors, texts=() if text is None else (Text(Origin.PASSAGE, text),))


def content(
    digest: bytes | str,
    *segments: NewSegment,
    at: Sequence[bytes | str] = (),
    modality: Modality = Modality.IMAGE,
) -> NewContent:
    return NewContent(os.fsencode(digest), modality, segments, [named(path) for path in at])


def photo(held: Catalog, path: str, seed: int = 0) -> None:
    """Commit a photo whose hash is its path, with one vector in the space of id 1."""
    held.commit([content(path, segment({(1, View.VISUAL): vector(seed)}), at=[path])], "key")


def paths(rows: Iterator[MediaRow]) -> list[bytes]:
    return [row.path for row in rows]


@pytest.fixture
def space(held: Catalog) -> int:
    return held.add_space("mini", "f1", DIM)


# What every catalog promises


def test_vectors_come_back_as_they_were_but_for_float16_rounding(held: Catalog, space: int, reopen: Open) -> None:
    seen, written, heard = vector(1), vector(2), vector(3)
    held.commit(
        [
            content(
                "h1", segment({(space, View.VISUAL): seen, (space, View.TEXT): written}, "a cat"), at=["/p/cat.jpg"]
            ),
            content("h2", segment({(space, View.AUDIO): heard}), at=["/p/cat.mp4"], modality=Modality.VIDEO),
        ],
        "key",
    )
    for one in (held, reopen()):
        (visual,), (text,), (audio,) = (one.embedding_ids(space, view) for view in (View.VISUAL, View.TEXT, View.AUDIO))
        ids, vectors = one.vectors(np.sort([visual, text, audio]), DIM)
        expected = {visual: seen, text: written, audio: heard}
        assert ids.tolist() == sorted(expected)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, rounded(*(expected[at] for at in ids.tolist())))


def test_all_views_of_a_segment_come_together(held: Catalog, space: int) -> None:
    other = held.add_space("standard", "f2", DIM)
    held.commit(
        [
            content("h1", segment({(space, View.VISUAL): vector(1), (space, View.TEXT): vector(2)}), at=["/a.jpg"]),
            content("h2", segment({(space, View.VISUAL): vector(3), (other, View.VISUAL): vector(4)}), at=["/b.jpg"]),
        ],
        "key",
    )
    first, second = (held.segment_ids(held.content_with_hash(digest) or 0)[0] for digest in (b"h1", b"h2"))
    found = held.embeddings_of([first, second], space, DIM)
    assert found.ids.shape == found.segment_ids.shape == (3,)
    by_side = dict(zip(zip(found.segment_ids.tolist(), found.views, strict=True), found.vectors, strict=True))
    expected = {(first, View.VISUAL): 1, (first, View.TEXT): 2, (second, View.VISUAL): 3}
    assert set(by_side) == set(expected)
    for side, seed in expected.items():
        np.testing.assert_array_equal(by_side[side], rounded(vector(seed))[0])
    assert held.segments_of(found.ids.tolist()) == dict(
        zip(found.ids.tolist(), found.segment_ids.tolist(), strict=True)
    )
    assert len(held.embeddings_of([], space, DIM).ids) == 0


def test_ids_that_are_gone_are_left_out(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg", 1)
    photo(held, "/b.jpg", 2)
    ids, vectors = held.vectors(np.asarray([1, 2, 99]), DIM)
    assert ids.tolist() == [1, 2]
    np.testing.assert_array_equal(vectors, rounded(vector(1), vector(2)))
    ids, vectors = held.vectors(np.asarray([], np.int64), DIM)
    assert (ids.shape, vectors.shape) == ((0,), (0, DIM))
    assert held.segments_of([2, 99]) == {2: 2}


def test_a_deleted_id_is_never_handed_out_again(held: Catalog, space: int) -> None:
    def ids() -> tuple[int, int, int, int]:
        (row,) = held.media_at([b"/a.jpg"]).values()
        (embedding,) = held.embedding_ids(space, View.VISUAL).tolist()
        return row.id, row.content_id, held.segment_ids(row.content_id)[0], embedding

    seen = []
    for seed in range(3):
        photo(held, "/a.jpg", seed)
        seen.append(ids())
        held.remove([b"/a.jpg"])
        held.drop_orphans()
    assert seen == [(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)]
    assert held.next_media_id() == 1  # above what there is: nothing


def test_a_name_need_not_be_utf_8(held: Catalog, space: int) -> None:
    for name in (b"/p/\xff\xfe caf\xe9.jpg", "/p/日本.jpg".encode(), b"/p/'; drop table media; --.jpg", b"/p/%_*?.jpg"):
        held.commit([content(name, segment({(space, View.VISUAL): vector(1)}), at=[name])], "key")
        assert held.media_at([name])[name].path == name
        (row,) = held.segment_rows(held.segment_ids(held.media_at([name])[name].content_id)).values()
        assert row.path == name
    assert len(list(held.media_under(b"/p"))) == 4


def test_media_at_gives_what_was_committed(held: Catalog, space: int) -> None:
    name = NewMedia(b"/a.jpg", 123, 1_700_000_000_123_456_789, "5:6;", str(2**64 - 1))
    held.commit([NewContent(b"h", Modality.IMAGE, [segment({(space, View.VISUAL): vector(1)})], [name])], "key")
    assert held.media_at([b"/a.jpg", b"/b.jpg"]) == {
        b"/a.jpg": MediaRow(1, b"/a.jpg", 1, 123, 1_700_000_000_123_456_789, "5:6;", str(2**64 - 1), "key")
    }


def test_media_under_a_folder_is_what_lies_below_it_and_nothing_beside_it(held: Catalog, space: int) -> None:
    for path in ("/photos/a.jpg", "/photos/b/c.jpg", "/photos2/d.jpg", "/photos.jpg", "/photo/e.jpg", "/photos-/f.jpg"):
        photo(held, path)
    inside = [b"/photos/a.jpg", b"/photos/b/c.jpg"]
    assert paths(held.media_under(b"/photos")) == paths(held.media_under(b"/photos/")) == inside
    assert paths(held.media_under(b"/photos/a.jpg")) == [b"/photos/a.jpg"]
    assert paths(held.media_under(b"/photos.jpg")) == [b"/photos.jpg"]
    assert paths(held.media_under(b"/phot")) == []
    assert paths(held.media_under(b"/photos/b/c.jp")) == []
    assert len(paths(held.media_under(b"/"))) == 6


def test_no_character_of_a_folder_is_a_wildcard(held: Catalog, space: int) -> None:
    for path in ("/a_b/1.jpg", "/axb/2.jpg", "/50%/3.jpg", "/50 percent/4.jpg", "/[x]/5.jpg", "/x/6.jpg", "/*/7.jpg"):
        photo(held, path)
    for folder, inside in (
        (b"/a_b", b"/a_b/1.jpg"),
        (b"/50%", b"/50%/3.jpg"),
        (b"/[x]", b"/[x]/5.jpg"),
        (b"/*", b"/*/7.jpg"),
    ):
        assert paths(held.media_under(folder)) == [inside]


def test_media_under_a_folder_comes_in_byte_order_over_many_pages(held: Catalog, space: int, small_parts: None) -> None:
    names = [f"/p/{name}.jpg" for name in ("b", "Z", "é", "a/x", "a", "a b", "0", "z", "日", "_")]
    for path in names:
        photo(held, path)
    assert paths(held.media_under(b"/p")) == sorted(os.fsencode(name) for name in names)


def test_lists_longer_than_a_statement_takes_are_cut(held: Catalog, space: int, small_parts: None) -> None:
    names = [f"/p/{at}.jpg".encode() for at in range(10)]
    for at, name in enumerate(names):
        photo(held, os.fsdecode(name), at)
    held.commit([], "key", [FailureRow(name + b"x", "decode", "bad", "", "1") for name in names])
    assert set(held.media_at(names)) == set(names)
    assert set(held.contents_by_hash(names, "key")) == set(names)
    assert len(held.failures_at([name + b"x" for name in names])) == 10
    ids = held.embedding_ids(space, View.VISUAL)
    np.testing.assert_array_equal(held.vectors(ids, DIM)[1], rounded(*(vector(at) for at in range(10))))
    segments = held.segments_of(ids.tolist())
    assert len(segments) == len(held.segment_rows(segments.values())) == 10
    assert len(held.embeddings_of(segments.values(), space, DIM).ids) == 10
    assert held.remove(names) == 10


def test_a_rename_keeps_content_and_vectors(held: Catalog, space: int) -> None:
    photo(held, "/old.jpg", 1)
    before = held.media_at([b"/old.jpg"])[b"/old.jpg"].content_id
    ids, revision = held.embedding_ids(space, View.VISUAL).tolist(), held.revision
    held.point({named("/new.jpg"): before})
    assert held.remove([b"/old.jpg"]) == 1
    held.drop_orphans()
    assert paths(held.media_under(b"/")) == [b"/new.jpg"]
    assert held.media_at([b"/new.jpg"])[b"/new.jpg"].content_id == before
    assert held.embedding_ids(space, View.VISUAL).tolist() == ids
    assert held.revision == revision


def test_a_path_may_be_pointed_at_another_content(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg", 1)
    photo(held, "/b.jpg", 2)
    other = held.media_at([b"/b.jpg"])[b"/b.jpg"].content_id
    held.point({named("/a.jpg", 55, 66): other})
    row = held.media_at([b"/a.jpg"])[b"/a.jpg"]
    assert (row.content_id, row.size_bytes, row.mtime_ns) == (other, 55, 66)
    held.drop_orphans()
    assert held.content_with_hash(b"/a.jpg") is None
    assert len(held.embedding_ids(space, View.VISUAL)) == 1


def test_content_without_a_name_goes_with_its_segments_and_vectors(held: Catalog, space: int) -> None:
    parts = [segment({(space, View.TEXT): vector(at)}, f"passage {at}") for at in range(3)]
    held.commit([content("note", *parts, at=["/n.md", "/copy.md"], modality=Modality.TEXT)], "key")
    photo(held, "/a.jpg")
    held.remove([b"/n.md"])
    held.drop_orphans()
    assert held.count_segments() == 4
    held.remove([b"/copy.md"])
    assert held.count_segments() == 4  # until the run that removed it is over
    held.drop_orphans()
    assert held.count_segments() == 1
    assert held.embedding_ids(space, View.TEXT).tolist() == []
    assert len(held.embedding_ids(space, View.VISUAL)) == 1
    assert held.content_with_hash(b"note") is None


def test_a_content_under_the_same_hash_is_replaced_whole(held: Catalog, space: int) -> None:
    parts = [segment({(space, View.TEXT): vector(at)}, f"passage {at}") for at in range(3)]
    held.commit([content("h", *parts, at=["/n.md"], modality=Modality.TEXT)], "old key")
    held.point({named("/copy.md"): held.content_with_hash(b"h") or 0})
    old = held.embedding_ids(space, View.TEXT)
    held.commit(
        [content("h", segment({(space, View.TEXT): vector(9)}, "new"), at=["/n.md"], modality=Modality.TEXT)], "key"
    )
    new = held.embedding_ids(space, View.TEXT)
    assert len(new) == 1
    assert not set(new.tolist()) & set(old.tolist())
    np.testing.assert_array_equal(held.vectors(new, DIM)[1], rounded(vector(9)))
    assert held.count_segments() == 1
    assert paths(held.media_under(b"/")) == [b"/copy.md", b"/n.md"]
    assert {row.embedded_by for row in held.media_under(b"/")} == {"key"}


def test_contents_are_known_by_hash_and_by_who_embedded_them(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg")
    assert held.contents_by_hash([b"/a.jpg", b"other"], "key") == {b"/a.jpg": Known(1, Modality.IMAGE, None)}
    assert held.contents_by_hash([b"/a.jpg"], "another key") == {}
    assert held.count_outdated("key") == 0
    assert held.count_outdated("another key") == 1


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


def test_embedding_ids_are_sorted_and_those_of_a_view_and_a_space(held: Catalog, space: int) -> None:
    other = held.add_space("standard", "f2", DIM)
    kinds = [Modality.VIDEO, Modality.IMAGE, Modality.VIDEO, Modality.TEXT, Modality.IMAGE]
    for at, kind in enumerate(kinds):
        both = {(space, View.VISUAL): vector(at), (other, View.TEXT): vector(at)}
        held.commit([content(f"h{at}", segment(both), at=[f"/{at}"], modality=kind)], "key")
    every = held.embedding_ids(space, View.VISUAL)
    assert every.dtype == np.int64
    assert every.tolist() == sorted(every.tolist())
    assert len(every) == 5
    assert held.embedding_ids(space, View.TEXT).tolist() == []


def test_a_sample_depends_on_the_hashes_and_not_on_the_order_of_insertion(tmp_path: Path) -> None:
    samples = []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        held = Catalog(tmp_path / f"{order[0]}.sqlite", create=True)
        space = held.add_space("mini", "f1", DIM)
        for at in order:
            held.commit([content(f"h{at}", segment({(space, View.VISUAL): vector(at)}), at=[f"/{at}"])], "key")
        samples.append(held.sample(space, View.VISUAL, 3, DIM))
        assert held.sample(space, View.VISUAL, 99, DIM).shape == (5, DIM)
        assert held.sample(space, View.TEXT, 3, DIM).shape == (0, DIM)
        held.close()
    np.testing.assert_array_equal(samples[1], samples[0])
    held_vectors = rounded(*(vector(at) for at in range(5)))
    for row in samples[0]:
        assert (held_vectors == row).all(axis=1).any()


def test_a_long_text_doesnt_crowd_the_others_out_of_a_sample(held: Catalog, space: int) -> None:
    passages = [segment({(space, View.TEXT): vector(100 + at)}) for at in range(50)]
    held.commit([content("a book", *passages, at=["/book.txt"], modality=Modality.TEXT)], "key")
    for at in range(4):
        note = content(
            f"note {at}", segment({(space, View.TEXT): vector(at)}), at=[f"/{at}.txt"], modality=Modality.TEXT
        )
        held.commit([note], "key")
    sample = held.sample(space, View.TEXT, 5, DIM)
    for at in range(4):
        assert (sample == rounded(vector(at))).all(axis=1).any(), f"note {at} isn't in the sample of 5 contents"


def test_a_segment_goes_by_the_first_of_its_paths_in_byte_order(held: Catalog, space: int) -> None:
    part = Segment({(space, View.AUDIO): vector(1)}, 1.5, 4.0, (Text(Origin.SUBTITLE, "spoken", "en", (1.5, 3.0)),))
    held.commit([NewContent(b"h", Modality.VIDEO, [part], [named("/p/é.mp4"), named("/p/z.mp4")])], "key")
    held.point({named("/p/a.mp4"): 1, named("/p/Z.mp4"): 1})
    (row,) = held.segment_rows([1]).values()
    assert (row.id, row.content_id, row.modality, row.path) == (1, 1, Modality.VIDEO, b"/p/Z.mp4")
    assert (row.start_s, row.end_s, held.texts_of([1])) == (1.5, 4.0, {1: part.texts})
    held.remove([b"/p/Z.mp4"])
    assert held.segment_rows([1])[1].path == b"/p/a.mp4"


def test_a_segment_whose_last_path_was_removed_is_left_out(held: Catalog, space: int) -> None:
    photo(held, "/a.jpg")
    held.remove([b"/a.jpg"])
    assert held.segment_rows([1, 99]) == {}


def test_counts_are_of_files_and_of_segments(held: Catalog, space: int) -> None:
    assert held.count_media() == dict.fromkeys(Modality, 0)
    photo(held, "/a.jpg")
    held.point({named("/copy.jpg"): 1})
    held.commit([content("n", segment({}), segment({}), at=["/n.md"], modality=Modality.TEXT)], "key")
    assert held.count_media() == {**dict.fromkeys(Modality, 0), Modality.IMAGE: 2, Modality.TEXT: 1}
    assert held.count_segments() == 3


def test_the_profile_and_the_spaces_are_kept(held: Catalog, reopen: Open) -> None:
    assert (held.profile, held.current) == (None, None)
    assert held.set_profile("mini", ["mini"]) == 1
    assert held.set_profile("standard", ["a/b@1", "mini"]) == 1  # of two that open a library at once, the first wins
    first = held.add_space("mini", "f1", DIM)
    assert held.add_space("mini", "f1", DIM) == first
    second = held.add_space("mini", "f2", DIM)
    assert first != second
    again = reopen()
    assert again.profile == ProfileRow(1, "mini", ("mini",), "")
    assert (again.space_id("mini", "f1", DIM), again.space_id("mini", "f2", DIM)) == (first, second)
    assert again.space_id("mini", "f3", DIM) is None
    assert again.space_id("mini", "f1", DIM + 1) is None


def test_what_two_profiles_make_of_a_content_in_the_same_space_is_kept_apart(held: Catalog, reopen: Open) -> None:
    held.set_profile("mini", ["mini"])
    other = held.beside(held.begin_change("standard", ["a/b@1", "mini"]))
    passages = {held: ["one", "two", "three"], other: ["one two", "three"]}
    spaces = {view: view.add_space("mini", "f1", DIM) for view in passages}
    assert spaces[held] != spaces[other]
    seen: dict[Catalog, int] = {}
    for seed, (view, texts) in enumerate(passages.items()):
        parts = [segment({(spaces[view], View.TEXT): vector(10 * seed + n)}, text) for n, text in enumerate(texts)]
        view.commit([content("h", *parts, at=["/n.txt"], modality=Modality.TEXT)], f"key {seed}")
        seen[view] = view.revision
    assert seen[held] != seen[other]
    again = reopen()
    for seed, (view, texts) in enumerate([(again, passages[held]), (again.beside(other.profile_id), passages[other])]):
        ids = view.embedding_ids(spaces[held] if seed == 0 else spaces[other], View.TEXT)
        wanted = rounded(*(vector(10 * seed + n) for n in range(len(texts))))
        np.testing.assert_array_equal(view.vectors(ids, DIM)[1], wanted)
        written = view.texts_of(view.segment_ids(1)).values()
        assert sorted(text.words for own in written for text in own) == sorted(texts)
        assert (view.count_segments(), view.segment_counts([1])) == (len(texts), {1: len(texts)})
        assert view.media_at([b"/n.txt"])[b"/n.txt"].embedded_by == f"key {seed}"
        assert (list(view.contents_by_hash([b"h"], "key 0")) == [b"h"]) is (seed == 0)
        assert (view.count_outdated(f"key {seed}"), view.count_outdated("key 2"), view.count_whole()) == (0, 1, 1)
    assert [view.revision for view in seen] == list(seen.values())  # the one's commit leaves the other's indexes fresh
    assert not held.had_revision(seen[other])
    held.remove([b"/n.txt"])
    held.drop_orphans()
    assert all(view.revision != revision for view, revision in seen.items())
    assert (held.count_segments(), other.count_segments()) == (0, 0)


def test_a_profile_answers_from_when_it_lacks_nothing(held: Catalog, space: int, small_parts: None) -> None:
    held.set_profile("mini", ["mini"])
    names = [f"/{at}.jpg" for at in range(8)]
    for at, name in enumerate(names):
        photo(held, name, at)
    other = held.beside(held.begin_change("standard", ["x"]))
    assert held.begin_change("standard", ["x"]) == other.profile_id
    assert held.begin_change("standard", ["y"]) != other.profile_id
    held.begin_change("standard", ["x"])
    assert [os.fsdecode(row.path) for row in other.lacking("new key")] == names
    for name in names[1:]:
        other.commit([content(name, at=[name])], "new key")
    half: NewSegment = Segment({}, 0, 5)
    other.commit([NewContent(b"/0.jpg", Modality.IMAGE, [half], [named("/0.jpg")], 0, 5.0)], "new key")
    assert (other.count_lacking("new key"), other.count_lacking("newer key"), other.count_whole()) == (1, 8, 7)
    assert other.switch("new key") is None
    assert (held.current, held.change) == (1, other.profile_id)
    other.commit([NewContent(b"/0.jpg", Modality.IMAGE, [], [named("/0.jpg")], 5.0)], "new key")
    assert other.switch("newer key") is None
    assert other.switch("new key") == 0
    assert (held.current, held.change, held.count_segments()) == (other.profile_id, None, 8)
    photo(held, "/late.jpg")
    assert other.switch("new key") is None
    assert other.switch("new key", drop=True) == 1
    assert held.media_at([b"/late.jpg"]) == {}


def test_dropping_the_other_profiles_leaves_this_one_alone(held: Catalog, space: int, small_parts: None) -> None:
    held.set_profile("mini", ["mini"])
    other = held.beside(held.begin_change("standard", ["x"]))
    other_space = other.add_space("mini", "f1", DIM)
    for at in range(8):
        photo(held, f"/{at}.jpg", at)
        other.commit([content(f"/{at}.jpg", segment({(other_space, View.VISUAL): vector(-at % 99)}))], "key")
    other.commit([content("/only.jpg", segment({}), at=["/only.jpg"])], "key")
    ids, revision = held.embedding_ids(space, View.VISUAL).tolist(), held.revision
    assert held.count_outdated("key") == 1
    assert held.drop_others() == 0  # it is what the library changes to
    held.end_change()
    assert held.drop_others() == 1
    assert held.drop_others() == 0
    assert (held.embedding_ids(space, View.VISUAL).tolist(), held.revision) == (ids, revision)
    assert (held.change, [row.id for row in held.profiles()]) == (None, [1])
    assert (other.count_segments(), other.count_whole(), other.space_id("mini", "f1", DIM)) == (0, 0, None)
    assert held.count_outdated("key") == 1  # the file that only the other has embedded
    held.shrink()
    assert held.embedding_ids(space, View.VISUAL).tolist() == ids


def test_a_reader_sees_each_commit_of_a_writer_as_it_ends(held: Catalog, space: int, reopen: Open) -> None:
    reader = reopen()
    assert reader.revision == 0
    photo(held, "/a.jpg")
    assert reader.revision == held.revision != 0
    assert len(reader.embedding_ids(space, View.VISUAL)) == 1


@pytest.mark.parametrize(
    "damaged",
    [np.full(DIM, np.nan), np.full(DIM, np.inf), np.zeros(DIM), np.full(DIM, 9.0), np.eye(DIM + 1)[0]],
    ids=["NaN", "infinite", "zero", "long", "of another length"],
)
def test_a_damaged_vector_is_left_out_and_spoils_no_other(
    held: Catalog, space: int, damaged: Vector, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        photo(held, f"/{number}.jpg", number)
    held.commit([content("bad", segment({(1, View.VISUAL): damaged}), at=["/bad.jpg"])], "key")
    ids = held.embedding_ids(space, View.VISUAL)
    good, vectors = held.vectors(ids, DIM)
    assert good.tolist() == ids.tolist()[:4]
    assert np.isfinite(vectors).all() and len(vectors) == 4
    assert held.sample(space, View.VISUAL, 100, DIM).shape == (4, DIM)
    segments = list(held.segments_of(ids.tolist()).values())
    together = held.embeddings_of(segments, space, DIM)
    assert (len(together.vectors), len(together.views), sorted(together.ids.tolist())) == (4, 4, good.tolist())
    assert [record.getMessage() for record in caplog.records] == [
        f"{held.file} holds damaged vectors, which are left out; run 'mmsearch index' to mend it"
    ]


# SQLite's alone


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "catalog.sqlite"
    held = Catalog(file, create=True)
    held.add_space("mini", "f1", DIM)
    for at in range(20):
        photo(held, f"/{at}.jpg", at)
    held.close()
    return file


def asked(file: Path, *statements: str) -> list[object]:
    connection = sqlite3.connect(file)
    try:
        with connection:
            return [connection.execute(statement).fetchone() for statement in statements]
    finally:
        connection.close()


def test_the_file_is_set_up_for_vectors_and_for_readers_beside_a_writer(file: Path) -> None:
    assert asked(file, "PRAGMA page_size", "PRAGMA journal_mode", "PRAGMA user_version") == [
        (16384,),
        ("wal",),
        (schema.SCHEMA_VERSION,),
    ]
    for table in ("space", "content", "media", "segment", "embedding", "failure", "run"):
        (row,) = asked(file, f"SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{table}'")
        assert isinstance(row, tuple)
        assert "AUTOINCREMENT" in row[0]


def test_a_newer_schema_is_refused_in_one_sentence(file: Path) -> None:
    newer = schema.SCHEMA_VERSION + 1
    asked(file, f"PRAGMA user_version = {newer}")
    with pytest.raises(CatalogError, match=rf"newer mmsearch \(schema {newer}\); upgrade mmsearch") as caught:
        Catalog(file)
    assert "\n" not in str(caught.value)
    asked(file, f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
    again = Catalog(file)
    assert len(list(again.media_under(b"/"))) == 20
    again.close()


def test_a_catalog_of_version_1_is_brought_up_to_date_and_keeps_what_it_holds(file: Path) -> None:
    downgrade(file, 1)
    again = Catalog(file)
    rows = list(again.media_under(b"/"))
    assert len(rows) == 20
    assert {row.resume_s for row in rows} == {None}
    found = again.segment_rows(s for row in rows for s in again.segment_ids(row.content_id))
    assert {row.silent for row in found.values()} == {False}
    again.close()
    assert asked(file, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_older_catalog_gets_the_shape_of_a_new_one(file: Path, tmp_path: Path, version: int) -> None:
    Catalog(tmp_path / "new.sqlite", create=True).close()
    downgrade(file, version)
    assert asked(file, "PRAGMA user_version") == [(version,)]
    assert shape(file) != shape(tmp_path / "new.sqlite")
    Catalog(file).close()
    assert shape(file) == shape(tmp_path / "new.sqlite")
    assert asked(file, "PRAGMA integrity_check", "PRAGMA foreign_key_check") == [("ok",), None]


def test_a_catalog_of_version_2_keeps_its_profile_and_its_revision(file: Path) -> None:
    with closing(Catalog(file)) as held:
        held.set_profile("mini", ["mini"])
        part = Segment({(1, View.AUDIO): vector(1)}, 0, 5)
        held.commit([NewContent(b"h", Modality.AUDIO, [part], [named("/a.wav")], 0, 5.0)], "key")
        before = held.revision, list(held.media_under(b"/")), held.embedding_ids(1, View.VISUAL).tolist()
    downgrade(file, 2)
    assert asked(file, "SELECT value FROM setting WHERE key = 'profile'") == [("mini",)]
    with closing(Catalog(file)) as held:
        assert (held.current, held.profile, held.change) == (1, ProfileRow(1, "mini", ("mini",), ""), None)
        assert (held.revision, list(held.media_under(b"/")), held.embedding_ids(1, View.VISUAL).tolist()) == before
        assert held.space_id("mini", "f1", DIM) == 1
        assert (held.count_unfinished(), held.count_outdated("key"), held.count_segments()) == (1, 0, 21)


def test_a_catalog_of_version_2_that_was_never_used_gets_a_profile_later(tmp_path: Path) -> None:
    Catalog(tmp_path / "x.sqlite", create=True).close()
    downgrade(tmp_path / "x.sqlite", 2)
    with closing(Catalog(tmp_path / "x.sqlite")) as held:
        assert held.current is None
        assert held.set_profile("mini", ["mini"]) == 1


def test_a_missing_file_is_an_error_unless_it_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.sqlite is missing"):
        Catalog(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"this is no database" * 2000, b"SQLite format 3\0" + b"\xff" * 50_000])
def test_a_file_that_is_no_database_is_an_error_of_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(content)
    with pytest.raises(CatalogError, match=r"catalog\.sqlite: ") as caught:
        Catalog(tmp_path / "catalog.sqlite", create=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "catalog.sqlite").read_bytes() == content


def test_a_database_damaged_in_its_middle_is_an_error_that_names_it(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[16384:] = os.urandom(len(content) - 16384)  # all but the page with the tables' names
    file.write_bytes(content)
    with pytest.raises(CatalogError, match=r"catalog\.sqlite: .*; ") as caught:
        list(Catalog(file).media_under(b"/"))
    assert "\n" not in str(caught.value)


def test_a_foreign_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    asked(tmp_path / "x.sqlite", "CREATE TABLE media (name TEXT)", "PRAGMA user_version = 1")
    with pytest.raises(CatalogError, match=r"x\.sqlite isn.t a catalog of mmsearch"):
        list(Catalog(tmp_path / "x.sqlite").media_under(b"/"))


def test_a_new_catalog_may_be_opened_by_several_at_once(tmp_path: Path) -> None:
    errors: list[Exception] = []
    start = threading.Barrier(8)

    def open_it() -> None:
        start.wait()
        try:
            Catalog(tmp_path / "catalog.sqlite", create=True).close()
        except CatalogError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
